//! Taking in again what was rejected.

use super::form::{self, Form};
use super::{Ids, Ingest, Judge, Judged, pack, shown};
use crate::access::{KeyRecord, Scope};
use crate::quarantine::Quarantined;
use serde_json::Value as Json;
use sluice_domain::event::{Acceptance, Shared};
use sluice_domain::json;
use sluice_ports::{Message, PortError};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What became of rejected bytes that were taken in again.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// All of their events are published (for a dry run: would be): how many of each type.
    Taken(BTreeMap<String, u64>),
    /// At least one of their events is still rejected, so none is published: `{"index", "pointer", "code", "reason"}` each.
    Rejected(Vec<Json>),
}

impl Ingest {
    /// Takes the bytes of a record in again, as one event, an array or lines: all of their events or none. With `dry_run` nothing is
    /// published.
    ///
    /// `key` is what an event without a source gets it from; whoever replays may write all but reserved types, of any age. Ids and batch
    /// ids come from the record's id, so that a second replay is a repetition of the first, and the receive time is the record's.
    pub async fn replay(
        &self,
        record: &Quarantined,
        bytes: &[u8],
        key: Option<&KeyRecord>,
        dry_run: bool,
    ) -> Result<Replayed, PortError> {
        let (judged, messages) = self.judge_again(record, bytes, key)?;
        if !judged.rejections.is_empty() {
            return Ok(Replayed::Rejected(judged.rejections.iter().map(shown).collect()));
        }
        let mut types: BTreeMap<String, u64> = BTreeMap::new();
        for accepted in &judged.accepted {
            *types.entry(judged.type_of(accepted).to_owned()).or_default() += 1;
        }
        if !dry_run {
            self.ports.topic.publish(messages).await.into_iter().collect::<Result<(), PortError>>()?;
        }
        Ok(Replayed::Taken(types))
    }

    fn judge_again<'b>(
        &self,
        record: &Quarantined,
        bytes: &'b [u8],
        key: Option<&KeyRecord>,
    ) -> Result<(Judged<'b>, Vec<Message>), PortError> {
        let operator = operator();
        let ids = Ids::new(&operator.id, Some(&record.id), record.received)?;
        let default_source = key.and_then(KeyRecord::default_source);
        let context = Acceptance { default_source, ..self.context(&operator, record.received) };
        let mut judge = Judge::new(&operator, context, &ids);
        match form::split(&form_of(bytes), bytes, self.settings.max_events_per_request) {
            Ok(events) => {
                for (index, event) in events.into_iter().enumerate() {
                    let offset = event.as_ptr() as usize - bytes.as_ptr() as usize;
                    judge.text(index, event, Cow::Borrowed(event), offset);
                }
            }
            Err(refused) => {
                judge.reject(0, Cow::Borrowed(bytes), refused.code, &refused.pointer, &refused.reason, "");
            }
        }
        let mut judged = judge.judged;
        let shared = Shared {
            received: record.received,
            client_ip: record.client_ip.as_deref().map(Cow::Borrowed),
            user_agent: record.user_agent.as_deref().map(Cow::Borrowed),
        };
        let parts = pack(&mut judged, &shared, &ids);
        let messages = parts.into_iter().map(|part| part.message(&judged, record.received)).collect();
        Ok((judged, messages))
    }
}

/// Whoever may replay: any source, any age.
fn operator() -> KeyRecord {
    KeyRecord {
        id: "replay".into(),
        scope: Scope::Admin,
        sources: Vec::new(),
        types: Vec::new(),
        origins: Vec::new(),
        max_age_days: None,
        rate_per_s: None,
        created: String::new(),
        revoked_at: None,
        name: String::new(),
    }
}

/// Lines where the bytes are several and not one JSON value.
fn form_of(bytes: &[u8]) -> Form {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    let is_one = lines < 2 || bytes.trim_ascii_start().starts_with(b"[") || json::parse(bytes).is_ok();
    if is_one { Form::Plain } else { Form::Lines }
}
