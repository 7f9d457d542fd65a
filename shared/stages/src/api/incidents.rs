//! `GET /v1/incidents`: what went wrong in the product itself, newest first.

use super::{Api, Call, Reply, failed};
use crate::http::Response;
use crate::incidents;
use serde_json::{Value, json};
use sluice_domain::alert::{Incident, IncidentState};

/// Incidents in one answer, where nothing is said, and at most.
const USUAL: usize = 50;
const MOST: usize = 500;

impl Api {
    /// `?state` is `open` or `all`, `?limit` at most [`MOST`].
    pub(super) async fn incidents(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let is_open_only = match call.request.query("state") {
            None | Some("all") => false,
            Some("open") => true,
            Some(_) => return Err(Response::error(400, "state", "`state` is `open` or `all`")),
        };
        let limit = match call.request.query("limit").map(str::parse) {
            None => USUAL,
            Some(Ok(limit @ 1..=MOST)) => limit,
            Some(_) => return Err(Response::error(400, "limit", format!("`limit` is a number from 1 to {MOST}"))),
        };
        let is_wanted = |incident: &Incident| !is_open_only || incident.state == IncidentState::Firing;
        let newest = incidents::newest(self.ports.table.as_ref(), is_wanted, limit).await;
        let newest = newest.map_err(|e| failed("the incidents could not be read", &e))?;
        let rows: Vec<Value> = newest.iter().map(row).collect();
        Ok(Response::json(200, &json!({"incidents": rows})))
    }
}

/// Without whom it is told: addresses are for admins.
fn row(incident: &Incident) -> Value {
    json!({
        "id": incident.id, "kind": incident.kind.name(), "subject": incident.subject, "state": incident.state.name(),
        "fired_at": incident.fired_at.to_micros_text(), "resolved_at": incident.resolved_at, "message": incident.message,
        "value": incident.value, "threshold": incident.threshold,
    })
}
