//! Which form an input has.

use sluice_domain::access_log;
use std::path::Path;

/// The form of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Look at the first line and the file's name
    Auto,
    /// One JSON event per line
    Ndjson,
    /// JSON events one after the other, over any lines, or an array of them
    Json,
    /// CloudEvents in JSON, structured or batch
    Cloudevents,
    /// A web server's log in the common or combined format
    AccessLog,
}

/// Tells the form by the first line and the file's name; `None` where neither says.
pub fn sniff(first_line: &[u8], path: Option<&Path>) -> Option<Format> {
    let extension = path.and_then(|p| p.extension()).and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let line = first_line.trim_ascii();
    match (line.first(), extension.as_deref()) {
        (Some(b'{'), Some("ndjson" | "jsonl")) => Some(Format::Ndjson),
        (Some(b'['), _) | (Some(b'{'), Some("json")) => Some(Format::Json),
        // Lines that are whole objects are read as lines, so that a damaged one cannot spoil the next.
        (Some(b'{'), _) if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() => Some(Format::Ndjson),
        (Some(b'{'), _) => Some(Format::Json),
        (_, Some("ndjson" | "jsonl")) => Some(Format::Ndjson),
        (_, Some("json")) => Some(Format::Json),
        (_, Some("log")) => Some(Format::AccessLog),
        _ if std::str::from_utf8(line).is_ok_and(|line| access_log::Line::parse(line).is_ok()) => {
            Some(Format::AccessLog)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_told_by_the_first_line_and_the_name() {
        let log = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 203023 "-" "Mozilla/5.0""#;
        for (line, name, expected) in [
            (r#"{"type":"a.b"}"#, "x", Some(Format::Ndjson)),
            (r#"  {"type":"a.b"} "#, "x.txt", Some(Format::Ndjson)),
            (r#"{"type":"a.b"}"#, "x.json", Some(Format::Json)),
            ("{", "x", Some(Format::Json)),
            (r#"{"type":"#, "x.jsonl", Some(Format::Ndjson)),
            ("[{", "x", Some(Format::Json)),
            ("[]", "x.ndjson", Some(Format::Json)),
            (log, "access.1", Some(Format::AccessLog)),
            ("anything", "access.log", Some(Format::AccessLog)),
            ("date,open", "x.csv", None),
            ("", "x", None),
            ("", "x.NDJSON", Some(Format::Ndjson)),
        ] {
            assert_eq!(sniff(line.as_bytes(), Some(Path::new(name))), expected, "{line} in {name}");
        }
        assert_eq!(sniff(log.as_bytes(), None), Some(Format::AccessLog));
        assert_eq!(sniff(b"\xff\xfe{", None), None);
    }
}
