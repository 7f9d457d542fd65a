//! `POST /v1/tables/compact`: compacts what is due, or what is asked for, now.

use super::{Api, Call, Reply, body, failed};
use crate::access::Right;
use crate::compact::Asked;
use crate::http::{Request, Response};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    table: Option<String>,
    partition: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

impl Api {
    /// One call does as much as it has time for, and says by `finished` whether that was all.
    pub(super) async fn compact(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let ask: Ask = body(request)?;
            let target = ask.table.as_deref().unwrap_or("all tables").chars().take(128).collect();
            Ok((ask, target))
        };
        let ask = self.allow(call, Right::Edit, "tables.compact", "", read).await?;
        let Some(compact) = &self.ports.compact else {
            let what =
                "tables are compacted by the clock of the function `compact` here; invoke that one to have it now";
            return Err(Response::error(409, "scheduled", what));
        };
        if let Some(table) = &ask.table
            && self.ports.registry.iter().all(|schema| schema.table != *table)
        {
            return Err(Response::error(404, "table", format!("there is no table `{table}`")));
        }
        let asked = Asked { table: ask.table.as_deref(), partition: ask.partition.as_deref(), dry_run: ask.dry_run };
        let run = compact.run(asked, call.now).await.map_err(|e| failed("not everything could be compacted", &e))?;
        Ok(Response::json(200, &serde_json::json!(run)))
    }
}
