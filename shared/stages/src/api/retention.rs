//! `GET /v1/retention`: how long what is kept is kept, by the schemas and the settings.

use super::{Api, Call, Reply, outbox};
use crate::groups;
use crate::http::Response;
use serde_json::{Value, json};
use sluice_domain::time::DAY_US;

/// How many days this deployment keeps what is no row of the table and no file of the lake; `None`: for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Messages in a queue.
    pub queue_days: Option<u32>,
    /// Messages in a dead-letter queue.
    pub dead_letter_days: Option<u32>,
    /// Records in quarantine.
    pub quarantine_days: Option<u32>,
}

impl Api {
    pub(super) async fn retention(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let table =
            |schema: &sluice_domain::schema::Schema| json!({"table": schema.table, "days": schema.retention_days});
        let tables: Vec<Value> = self.ports.registry.iter().map(table).collect();
        let Retention { queue_days, dead_letter_days, quarantine_days } = self.settings.retention;
        let body = json!({
            "tables": tables,
            "state_days": groups::KEEP_US / DAY_US,
            "queue_days": queue_days,
            "dead_letter_days": dead_letter_days,
            "quarantine_days": quarantine_days,
            "outbox_mails": self.ports.outbox.is_some().then_some(outbox::MAX_SHOWN),
        });
        Ok(Response::json(200, &body))
    }
}
