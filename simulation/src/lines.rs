//! An encoder whose files are lists of rows, so that they can be counted.

use sluice_domain::event::{Data, Event};
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Misfit};
use sluice_domain::schema::Schema;
use sluice_domain::time::Timestamp;

/// Events of one file; more cannot be encoded, so that a group falls apart into a file for each message.
const MAX_EVENTS: usize = 4;

/// One line per event: its label, or its id where it has none.
#[derive(Debug)]
pub struct Lines;

impl Encoder for Lines {
    fn encode(&self, schema: &Schema, events: &[Event<'_>]) -> Result<(Option<EncodedFile>, Vec<Misfit>), EncodeError> {
        if events.len() > MAX_EVENTS {
            return Err(EncodeError(format!("{} events are too many", events.len())));
        }
        let (mut lines, mut misfits, mut times) = (Vec::new(), Vec::new(), Vec::<Timestamp>::new());
        for (position, event) in events.iter().enumerate() {
            let checked = match &event.data {
                Data::Json(node) if !schema.is_generic() => node.as_object().map_or(Ok(()), |data| schema.check(data)),
                _ => Ok(()),
            };
            match checked {
                Ok(()) => {
                    lines.push(name(event));
                    times.push(event.time);
                }
                Err(v) => misfits.push(Misfit { position, pointer: v.pointer, reason: v.reason }),
            }
        }
        let file = times.iter().min().zip(times.iter().max()).map(|(min, max)| EncodedFile {
            bytes: lines.join("\n").into_bytes(),
            rows: lines.len() as u64,
            min_time: *min,
            max_time: *max,
        });
        Ok((file, misfits))
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
