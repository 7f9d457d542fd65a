//! An encoder whose files are lists of rows, so that they can be counted.

use sluice_domain::event::{Data, Event};
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Misfit, TableBuilder};
use sluice_domain::scan::{Cursor, Head};
use sluice_domain::schema::Schema;
use sluice_domain::time::Timestamp;

/// Events of one file; more cannot be encoded, so that a group falls apart into a file for each message.
const MAX_EVENTS: usize = 4;

/// Makes tables whose files have one line per event: its label, or its id where it has none.
#[derive(Debug)]
pub struct Lines;

impl Encoder for Lines {
    fn table(&self, schema: &Schema) -> Result<Box<dyn TableBuilder>, EncodeError> {
        Ok(Box::new(Table { schema: schema.clone(), rows: Vec::new() }))
    }
}

/// Reads events the slow way only; the quick one has tests of its own.
struct Table {
    schema: Schema,
    rows: Vec<(Timestamp, String)>,
}

impl TableBuilder for Table {
    fn push_text<'t>(&mut self, _: &Head<'t>, _: &mut Cursor<'t>) -> bool {
        false
    }

    fn push(&mut self, event: &Event<'_>) -> Result<(), Misfit> {
        if let Data::Json(node) = &event.data
            && !self.schema.is_generic()
            && let Some(data) = node.as_object()
        {
            self.schema.check(data).map_err(|v| Misfit { pointer: v.pointer, reason: v.reason })?;
        }
        self.rows.push((event.time, name(event)));
        Ok(())
    }

    fn rows(&self) -> u32 {
        self.rows.len() as u32
    }

    fn encode(&self, rows: &[u32]) -> Result<EncodedFile, EncodeError> {
        if rows.len() > MAX_EVENTS {
            return Err(EncodeError(format!("{} events are too many", rows.len())));
        }
        let rows: Vec<&(Timestamp, String)> = rows.iter().map(|row| &self.rows[*row as usize]).collect();
        let times = || rows.iter().map(|(time, _)| *time);
        Ok(EncodedFile {
            bytes: rows.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n").into_bytes(),
            rows: rows.len() as u64,
            min_time: times().min().unwrap_or_default(),
            max_time: times().max().unwrap_or_default(),
        })
    }
}

/// What an event is counted by.
pub fn name(event: &Event<'_>) -> String {
    let raw = match &event.data {
        Data::Json(node) => node.raw,
        _ => "",
    };
    label(raw).map_or_else(|| event.id.to_string(), str::to_owned)
}

/// The label in a text of JSON.
pub fn label(text: &str) -> Option<&str> {
    const MEMBER: &str = "\"label\":\"";
    let from = text.find(MEMBER)? + MEMBER.len();
    text[from..].find('"').map(|len| &text[from..from + len])
}
