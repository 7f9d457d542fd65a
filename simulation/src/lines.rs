//! An encoder whose files are lists of rows, so that they can be counted, and what makes one file of many.

use bytes::Bytes;
use sluice_domain::event::{Data, Event};
use sluice_domain::identity::document_id;
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Erased, Misfit, Rewrite, Rewriter, Shown, TableBuilder};
use sluice_domain::scan::{Cursor, Head};
use sluice_domain::schema::Schema;
use sluice_domain::time::Timestamp;
use std::collections::BTreeMap;

/// Events of one file; more cannot be encoded, so that a group falls apart into a file for each message.
const MAX_EVENTS: usize = 4;

/// Makes tables whose files have one line per event: its [`name`], then behind tabs its identity, its user, when it was received and its own
/// time.
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
        let (identity, user) = (document_id(&event.source, &event.id, event.time), event.user_id.as_deref());
        let (received, time) = (event.received.micros(), event.time.micros());
        let line = format!("{}\t{identity}\t{}\t{received}\t{time}", name(event), user.unwrap_or_default());
        self.rows.push((event.time, line));
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

/// Files that are rewritten, by their numbers.
struct Rewriting {
    erased: Erased,
    /// Rows that stay, by identity: when the first was received, and where it is.
    first: BTreeMap<String, (i64, u32, usize)>,
    files: BTreeMap<u32, Vec<String>>,
    taken: Vec<String>,
}

impl Rewriter for Lines {
    fn begin(&self, _: &Schema, _: u64, erased: &Erased) -> Result<Box<dyn Rewrite>, EncodeError> {
        let (first, files, taken) = Default::default();
        Ok(Box::new(Rewriting { erased: erased.clone(), first, files, taken }))
    }

    fn erased_rows(&self, _: &Schema, bytes: Bytes, erased: &Erased) -> Result<u64, EncodeError> {
        let text = String::from_utf8(bytes.into()).map_err(|e| EncodeError(e.to_string()))?;
        Ok(text.lines().filter(|line| is_erased(erased, line)).count() as u64)
    }
}

/// Whether a line is of a user who is to be forgotten.
fn is_erased(erased: &Erased, line: &str) -> bool {
    let mut parts = line.split('\t').skip(2);
    let until = parts.next().and_then(|user| erased.get(user));
    let received = parts.next().and_then(|at| at.parse::<i64>().ok()).unwrap_or_default();
    until.is_some_and(|until| received <= until.micros())
}

impl Rewriting {
    fn is_repeated(&self, file: u32, row: usize, line: &str) -> bool {
        let identity = line.split('\t').nth(1).unwrap_or_default();
        !is_erased(&self.erased, line) && self.first.get(identity).is_some_and(|(_, f, r)| (*f, *r) != (file, row))
    }
}

impl Rewrite for Rewriting {
    fn passes(&self) -> u32 {
        1
    }

    fn show(&mut self, file: u32, bytes: Bytes) -> Result<Shown, EncodeError> {
        let text = String::from_utf8(bytes.into()).map_err(|e| EncodeError(e.to_string()))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (row, line) in
            lines.iter().enumerate().filter(|(_, line)| !is_erased(&self.erased, line)).collect::<Vec<_>>()
        {
            let mut parts = line.split('\t').skip(1);
            let identity = parts.next().ok_or_else(|| EncodeError(format!("no row: `{line}`")))?;
            let at = (parts.nth(1).and_then(|at| at.parse().ok()).unwrap_or_default(), file, row);
            let first = self.first.entry(identity.to_owned()).or_insert(at);
            *first = at.min(*first);
        }
        let erased = lines.iter().filter(|line| is_erased(&self.erased, line)).count() as u64;
        let shown = Shown { rows: lines.len() as u64, erased };
        self.files.insert(file, lines);
        Ok(shown)
    }

    fn end_pass(&mut self) {}

    fn repeated(&self, file: u32) -> u64 {
        let lines = self.files[&file].iter().enumerate();
        lines.filter(|(row, line)| self.is_repeated(file, *row, line)).count() as u64
    }

    fn take(&mut self, file: u32, _: Bytes) -> Result<u64, EncodeError> {
        let lines = self.files[&file].iter().enumerate();
        let kept = lines.filter(|(row, line)| !self.is_repeated(file, *row, line) && !is_erased(&self.erased, line));
        let kept: Vec<String> = kept.map(|(_, line)| line.clone()).collect();
        let count = kept.len() as u64;
        self.taken.extend(kept);
        Ok(count)
    }

    fn next_file(&mut self) -> Result<Option<EncodedFile>, EncodeError> {
        let rows = std::mem::take(&mut self.taken);
        let times = || {
            let time = |line: &String| line.rsplit('\t').next().and_then(|at| at.parse().ok());
            rows.iter().filter_map(time).filter_map(Timestamp::from_micros)
        };
        Ok((!rows.is_empty()).then(|| EncodedFile {
            bytes: rows.join("\n").into_bytes(),
            rows: rows.len() as u64,
            min_time: times().min().unwrap_or_default(),
            max_time: times().max().unwrap_or_default(),
        }))
    }
}

/// The name in a line.
pub fn name_in(line: &str) -> &str {
    line.split('\t').next().unwrap_or_default()
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
