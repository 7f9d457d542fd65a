//! Retirement: a search index goes as a whole when the last event that it can have was kept for `x-retention-days`.
//!
//! Indices are by the month of the events' own time. Documents are counted as removed before they go (see [`crate::ledger::Fate::Removed`]), so a
//! crash in between may count them twice, and the audit takes the count for the most that may be missing. A late event of such a month
//! makes the index anew, and the next tick takes it away again.

use crate::ledger::{self, audit};
use sluice_domain::schema::{Registry, Schema};
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{PortError, SearchRemoval, Table};

/// Removes the indices that were kept long enough; answers their names.
pub async fn retire(
    search: &dyn SearchRemoval,
    table: &dyn Table,
    registry: &Registry,
    now: Timestamp,
) -> Result<Vec<String>, PortError> {
    let mut retired = Vec::new();
    for schema in registry.iter().filter(|schema| schema.retention_days.is_some()) {
        for index in search.indices(&format!("sluice-{}-*", schema.table)).await? {
            if !is_over(schema, &index, now) {
                continue;
            }
            let counted = audit::documents(search, &index).await?;
            let counted = counted
                .into_iter()
                .map(|((hour, event_type), n)| (format!("{hour}#{event_type}"), u64::try_from(n).unwrap_or_default()));
            ledger::count_removed(table, counted).await?;
            search.remove_index(&index).await?;
            tracing::info!(stage = "retire", search.index = %index, "kept long enough");
            retired.push(index);
        }
    }
    Ok(retired)
}

/// Whether the month of an index ended so long ago. A name that says no month is nobody's to judge.
fn is_over(schema: &Schema, index: &str, now: Timestamp) -> bool {
    let month = index.strip_prefix(&format!("sluice-{}-", schema.table)).and_then(|month| month.split_once('.'));
    let begin = month.and_then(|(year, month)| Timestamp::parse_rfc3339(&format!("{year}-{month}-01T00:00:00Z")));
    let kept = schema.retention_days.map(|days| i64::from(days) * DAY_US);
    begin.zip(kept).is_some_and(|(begin, kept)| begin.month().1.plus_micros(kept) <= now)
}
