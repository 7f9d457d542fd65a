//! `sluice schema`: schema files.

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::{Out, clean, note};
use sluice_domain::json::{self, Node, Object};
use sluice_domain::schema::{Schema as SchemaFile, infer, is_own_type};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

/// Draft schema files, which say what is in the events of a type
#[derive(Debug, clap::Subcommand)]
pub enum Schema {
    Infer(Infer),
}

/// Draft a schema file from sample events
///
/// Samples are events, or their data alone, one JSON object per line or in one array. The draft goes to standard output; what could not be
/// decided is said beside it. Put it into the folder `schemas` of the data folder, as TYPE.json, and start the server again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice schema infer orders.ndjson > .sluice/schemas/order.paid.json
  sluice schema infer --type order.paid - < data.json")]
pub struct Infer {
    /// File with samples, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The event type; of samples that are events, only those of this type are looked at
    #[arg(long = "type", value_name = "NAME")]
    event_type: Option<String>,
}

impl Schema {
    /// Drafts and shows.
    pub fn run(self, out: &mut Out) -> Result<(), Failure> {
        let Self::Infer(Infer { file, event_type }) = self;
        let fail = |what: String| Failure::new(Exit::Failed, format!("`{}`: {what}", file.display()));
        let mut bytes = Vec::new();
        let read = match file.as_os_str() == "-" {
            true => std::io::stdin().read_to_end(&mut bytes).map(drop),
            false => std::fs::read(&file).map(|read| bytes = read),
        };
        read.map_err(|e| fail(format!("cannot be read: {e}")))?;
        let (text, notes) = draft(&bytes, event_type.as_deref()).map_err(fail)?;
        out.bytes(text.as_bytes())?;
        out.flush()?;
        notes.iter().for_each(|said| note(format!("- {}", clean(said))));
        Ok(())
    }
}

/// The draft and what is to be said of it.
fn draft(bytes: &[u8], event_type: Option<&str>) -> Result<(String, Vec<String>), String> {
    let nodes = samples(json::text(bytes).map_err(|e| e.to_string())?)?;
    let mut by_type: BTreeMap<Option<&str>, Vec<&Object<'_>>> = BTreeMap::new();
    for (place, node) in &nodes {
        let sample =
            node.as_object().ok_or_else(|| format!("{place} is no object, but of the kind {}", node.kind()))?;
        // An event has its type beside its data.
        let (of, data) = match (sample.get("type").and_then(Node::as_str), sample.get("data")) {
            (Some(of), Some(data)) => {
                (Some(of), data.as_object().ok_or_else(|| format!("{place}: `data` is no object"))?)
            }
            _ => (None, sample),
        };
        by_type.entry(of).or_default().push(data);
    }
    let types: Vec<String> = by_type.keys().flatten().map(|of| format!("`{of}`")).collect();
    let (event_type, samples) = match (event_type, by_type.len()) {
        (_, 0) => return Err("there are no samples".into()),
        (Some(name), _) => match (by_type.get(&Some(name)), by_type.get(&None)) {
            (Some(events), _) => (name, events),
            (None, Some(data)) => (name, data),
            (None, None) => return Err(format!("there are no events of `{name}`; there are {}", types.join(", "))),
        },
        (None, 1) => match by_type.iter().next() {
            Some((Some(name), events)) => (*name, events),
            _ => return Err("the samples do not say of what type they are: name it by --type".into()),
        },
        (None, _) => {
            return Err(format!("there are events of several types ({}): name one by --type", types.join(", ")));
        }
    };
    if !is_own_type(event_type) {
        return Err(format!(
            "`{event_type}` is not of the form `area.name` in `[a-z][a-z0-9_]*`: name another type by --type"
        ));
    }
    let drafted = infer(event_type, samples);
    // The draft is ours to get right.
    let schema = SchemaFile::parse("draft", &drafted.text).map_err(|e| e.to_string())?;
    if let Some(violation) = samples.iter().find_map(|sample| schema.check(sample).err()) {
        return Err(format!("the draft does not take a sample: {} {}", violation.pointer, violation.reason));
    }
    Ok((drafted.text, drafted.notes))
}

/// The objects of a text, each with its place: an array, or one per line, or one alone.
fn samples(text: &str) -> Result<Vec<(String, Node<'_>)>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    match json::parse_str(text) {
        Ok(Node { value: json::Value::Array(nodes), .. }) => {
            Ok(nodes.into_iter().enumerate().map(|(at, node)| (format!("element {}", at + 1), node)).collect())
        }
        Ok(node) => Ok(vec![("the value".to_owned(), node)]),
        Err(whole) if text.trim_start().starts_with('[') || lines().count() < 2 => Err(whole.to_string()),
        Err(_) => lines()
            .map(|(at, line)| match json::parse_str(line) {
                Ok(node) => Ok((format!("line {}", at + 1), node)),
                Err(e) => Err(format!("line {}: {e}", at + 1)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, event_type: Option<&str>) -> String {
        draft(text.as_bytes(), event_type).unwrap_err()
    }

    #[test]
    fn samples_are_events_or_data_in_an_array_or_on_lines() {
        const EVENT: &str = r#"{"id":"1","source":"shop","type":"order.paid","data":{"total":1}}"#;
        let expected = draft(format!("[{EVENT}]").as_bytes(), None).unwrap().0;
        assert!(expected.contains(r#""x-type": "order.paid""#) && expected.contains(r#""total""#), "{expected}");
        let other = r#"{"type":"order.sent","data":{"to":"kim"}}"#;
        for (text, event_type) in [
            (EVENT.to_owned(), None),
            (format!("{EVENT}\n"), Some("order.paid")),
            (format!("{EVENT}\n\n{other}\n"), Some("order.paid")),
            (r#"{"total":1}"#.to_owned(), Some("order.paid")),
            (r#"[{"total":1}]"#.to_owned(), Some("order.paid")),
        ] {
            assert_eq!(draft(text.as_bytes(), event_type).unwrap().0, expected, "{text}");
        }
        let two = draft(format!("{EVENT}\n{EVENT}").as_bytes(), None).unwrap();
        assert_eq!(two.1, ["from 2 samples; what is in all of them is required"]);
    }

    #[test]
    fn what_cannot_be_drafted_is_said_with_its_place() {
        for (text, event_type, expected) in [
            ("", None, "there are no samples"),
            ("[]", None, "there are no samples"),
            ("{\"a\":1}\n{\"a\":}\n", Some("a.b"), "line 2: "),
            ("{\"a\":1}\n5\n", Some("a.b"), "line 2 is no object, but of the kind number"),
            ("[{\"a\":1},[]]", Some("a.b"), "element 2 is no object, but of the kind array"),
            (r#"{"a":1}"#, None, "name it by --type"),
            (r#"{"a":1}"#, Some("Order"), "`Order` is not of the form"),
            (
                r#"[{"type":"a.b","data":{}},{"type":"a.c","data":{}}]"#,
                None,
                "several types (`a.b`, `a.c`): name one by --type",
            ),
            (r#"{"type":"a.b","data":{}}"#, Some("a.c"), "there are no events of `a.c`; there are `a.b`"),
            (r#"{"type":"a.b","data":5}"#, None, "`data` is no object"),
        ] {
            let said = said(text, event_type);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
