//! Bulk requests: what goes into one, and what became of each document.

use crate::failure::{self, CREATE};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use sluice_ports::{Document, DocumentOutcome, ErrorKind, PortError};
use std::fmt;
use std::ops::Range;

/// OpenSearch's limit of an id; a longer one makes it refuse the whole request.
const ID_BYTES: std::ops::RangeInclusive<usize> = 1..=512;
/// OpenSearch's limit of an index name.
const INDEX_BYTES: std::ops::RangeInclusive<usize> = 1..=255;
/// The line before each document, without index and id.
const ACTION_BYTES: usize = r#"{"create":{"_index":"","_id":""}}"#.len() + 2;

/// Whether a document can stand in a bulk request without harm to its neighbours; the error says why it can never be indexed.
pub(crate) fn check(document: &Document) -> Result<(), String> {
    let Document { index, id, source } = document;
    if !ID_BYTES.contains(&id.len()) {
        return Err(format!("the id has {} bytes; it takes 1 to 512", id.len()));
    }
    if !INDEX_BYTES.contains(&index.len()) {
        return Err(format!("`{index}` is not an index name"));
    }
    // A request is read line by line, so a text that is not whole could swallow the document after it.
    serde_json::from_str::<Whole>(source).map(|_| ()).map_err(|e| format!("the source is not a JSON object: {e}"))
}

/// A JSON object that is read to its end and not kept.
struct Whole;

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WholeVisitor)
    }
}

struct WholeVisitor;

impl<'de> Visitor<'de> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Whole, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Whole)
    }
}

/// Why a document that is refused alone for its size can never be indexed.
pub(crate) fn too_large(document: &Document) -> String {
    format!("the document has {} bytes, more than the server takes", document.source.len())
}

/// Splits documents into requests of at most `limit` bytes, or of one document.
pub(crate) fn requests(documents: &[&Document], limit: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (n, document) in documents.iter().enumerate() {
        let more = ACTION_BYTES + document.index.len() + document.id.len() + document.source.len();
        if n > start && bytes + more > limit {
            ranges.push(start..n);
            (start, bytes) = (n, 0);
        }
        bytes += more;
    }
    if start < documents.len() {
        ranges.push(start..documents.len());
    }
    ranges
}

/// The lines of a request.
pub(crate) fn body(documents: &[&Document]) -> Bytes {
    let bytes = documents.iter().map(|d| ACTION_BYTES + d.index.len() + d.id.len() + d.source.len()).sum();
    let mut out = Vec::with_capacity(bytes);
    for document in documents {
        out.extend_from_slice(br#"{"create":{"_index":"#);
        push_string(&mut out, &document.index);
        out.extend_from_slice(br#","_id":"#);
        push_string(&mut out, &document.id);
        out.extend_from_slice(b"}}\n");
        // In JSON a line's end stands between tokens only, where a space means the same.
        let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
        out.extend(document.source.bytes().map(|byte| if is_break(byte) { b' ' } else { byte }));
        out.push(b'\n');
    }
    Bytes::from(out)
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(Value::from(text).to_string().as_bytes());
}

/// What became of each of `count` documents. The answer's own status and its `errors` say nothing that its items do not say better.
pub(crate) fn outcomes(body: &[u8], count: usize) -> Result<Vec<DocumentOutcome>, PortError> {
    let unknown = |detail: String| PortError::new(ErrorKind::Timeout, CREATE, detail);
    let answer: BulkAnswer = serde_json::from_slice(body)
        .map_err(|e| unknown("the answer to a bulk request cannot be read".to_owned()).with_source(e))?;
    if answer.items.len() != count {
        return Err(unknown(format!("the answer tells of {} documents of {count}", answer.items.len())));
    }
    Ok(answer.items.into_iter().map(|item| item.create.outcome()).collect())
}

#[derive(Deserialize)]
struct BulkAnswer {
    #[serde(default)]
    items: Vec<BulkItem>,
}

#[derive(Deserialize)]
struct BulkItem {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    error: Option<Value>,
}

impl Created {
    fn outcome(self) -> DocumentOutcome {
        match self.status {
            200 | 201 if self.error.is_none() => DocumentOutcome::Created,
            status => failure::of_document(status, self.error.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(id: &str, source: &str) -> Document {
        Document { index: "i".to_owned(), id: id.to_owned(), source: source.to_owned() }
    }

    #[test]
    fn only_whole_json_objects_are_sent() {
        assert_eq!(check(&document("a", "{\"a\":\n [1]}")), Ok(()));
        assert_eq!(check(&document("a", r#"{"\u0061":1}"#)), Ok(()));
        for source in ["", "{", "[1]", "1", "{} {}", "{\"a\":\"\n\"}", "{}\n{\"delete\":{}}"] {
            let why = check(&document("a", source)).unwrap_err();
            assert!(why.starts_with("the source is not a JSON object"), "{source}: {why}");
        }
        for id in [String::new(), "x".repeat(513)] {
            assert!(check(&document(&id, "{}")).unwrap_err().starts_with("the id has"));
        }
        assert!(check(&Document { index: String::new(), ..document("a", "{}") }).is_err());
    }

    #[test]
    fn a_document_stands_on_one_line() {
        let documents = [document("a\"\n", "{\"x\":\n\r1}"), document("b", "{}")];
        let text = String::from_utf8(body(&documents.iter().collect::<Vec<_>>()).to_vec()).unwrap();
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(
            lines,
            [
                r#"{"create":{"_index":"i","_id":"a\"\n"}}"#,
                "{\"x\":  1}",
                r#"{"create":{"_index":"i","_id":"b"}}"#,
                "{}",
                ""
            ]
        );
    }

    #[test]
    fn requests_keep_to_their_bytes() {
        let documents: Vec<Document> =
            [10, 10, 300, 10, 10].iter().map(|n| document("a", &format!("{{\"a\":\"{}\"}}", "x".repeat(*n)))).collect();
        let documents: Vec<&Document> = documents.iter().collect();
        let ranges = requests(&documents, 150);
        assert_eq!(ranges, [0..2, 2..3, 3..5]);
        for range in ranges.into_iter().filter(|range| range.len() > 1) {
            assert!(body(&documents[range]).len() <= 150);
        }
        assert_eq!(requests(&[], 150), [] as [Range<usize>; 0]);
    }

    #[test]
    fn each_item_has_its_own_outcome() {
        let error = json!({"type": "mapper_parsing_exception", "reason": "failed to parse"});
        let items = json!({"errors": true, "items": [
            {"create": {"status": 201}}, {"create": {"status": 409, "error": {"type": "version_conflict_engine_exception"}}},
            {"create": {"status": 400, "error": error}}, {"create": {"status": 429, "error": {"type": "rejected_execution_exception"}}},
            {"create": {"status": 201, "error": {"type": "odd"}}},
        ]});
        let short = |outcome: DocumentOutcome| match outcome {
            DocumentOutcome::Created => "created".to_owned(),
            DocumentOutcome::Exists => "exists".to_owned(),
            DocumentOutcome::Rejected(why) => why,
            DocumentOutcome::Failed(e) => format!("{:?} after {:?}", e.kind, e.retry_after),
        };
        let outcomes: Vec<String> = outcomes(items.to_string().as_bytes(), 5).unwrap().into_iter().map(short).collect();
        assert_eq!(
            outcomes,
            [
                "created",
                "exists",
                "mapper_parsing_exception: failed to parse",
                "Throttled after Some(2s)",
                "Unavailable after None"
            ]
        );
    }

    #[test]
    fn an_answer_that_tells_too_little_is_no_success() {
        for body in
            ["", "{}", r#"{"items":[]}"#, r#"{"items":[{"create":{}}]}"#, r#"{"items":[{"index":{"status":201}}]}"#]
        {
            assert_eq!(outcomes(body.as_bytes(), 1).unwrap_err().kind, ErrorKind::Timeout, "{body}");
        }
    }
}
