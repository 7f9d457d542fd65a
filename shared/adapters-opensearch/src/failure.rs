//! What a failed request means, in the words of the port.

use crate::cluster::Answer;
use serde_json::Value;
use sluice_ports::{DocumentOutcome, ErrorKind, PortError};
use std::error::Error;
use std::time::Duration;

pub(crate) const CREATE: &str = "search.create";
pub(crate) const DEFINE: &str = "search.define";
pub(crate) const INDICES: &str = "search.indices";
pub(crate) const OPEN: &str = "search.open";
pub(crate) const REMOVE: &str = "search.remove";
pub(crate) const REMOVE_INDEX: &str = "search.remove_index";
pub(crate) const SEARCH: &str = "search.search";

/// A full write queue says nothing of when it will have room; it is drained within about this time.
const QUEUE_FULL: Duration = Duration::from_secs(2);
/// Longest text of a server that is repeated.
const REASON_CHARS: usize = 500;

pub(crate) fn invalid(operation: &'static str, detail: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, operation, detail)
}

/// A request without an answer.
pub(crate) fn unanswered(operation: &'static str, timeout: Duration, error: opensearch::Error) -> PortError {
    let chain = chain(&error);
    let (kind, detail) = if error.is_timeout() {
        (ErrorKind::Timeout, format!("no answer of the search cluster within {} s", timeout.as_secs_f32()))
    } else if operation == SEARCH || was_not_sent(&error) {
        (ErrorKind::Unavailable, format!("the search cluster cannot be reached: {chain}"))
    } else {
        // What was sent may have been done.
        (ErrorKind::Timeout, format!("the search cluster broke off before its answer: {chain}"))
    };
    PortError::new(kind, operation, detail).with_source(error)
}

/// Whether the request certainly did not reach the server: no connection, or no signature.
fn was_not_sent(error: &opensearch::Error) -> bool {
    match error.source().and_then(|source| source.downcast_ref::<reqwest::Error>()) {
        Some(http) => http.is_connect() || http.is_builder(),
        None => true,
    }
}

/// The reasons from the outermost to the innermost, without addresses.
fn chain(error: &opensearch::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<reqwest::Error>() {
            Some(http) if http.is_connect() => "no connection".to_owned(),
            Some(http) if http.url().is_some() => "the request failed".to_owned(),
            _ => error.to_string(),
        };
        if error.downcast_ref::<opensearch::Error>().is_none_or(|e| e.source().is_none()) && !parts.contains(&text) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

/// A field that is aggregated has types that do not go together.
pub(crate) fn mixed_types() -> PortError {
    let detail = "a field that is counted by has another type in some of the indices: name indices in which it is the same, \
                  for example those of one table";
    PortError::new(ErrorKind::Invalid, SEARCH, detail)
}

/// An answer that is no success as an error.
pub(crate) fn check(operation: &'static str, answer: &Answer) -> Result<(), PortError> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let fault = Fault::read(&answer.body);
    if fault.is_of_mixed_types() {
        return Err(mixed_types());
    }
    let kind = match (answer.status, fault.name.as_str()) {
        // It says 503, and the same search never succeeds.
        (_, "too_many_buckets_exception") => ErrorKind::Invalid,
        (400, name) if is_of_the_cluster(name) => ErrorKind::Unavailable,
        (401 | 403, _) => ErrorKind::Denied,
        (404, _) => ErrorKind::NotFound,
        (408 | 504, _) => ErrorKind::Timeout,
        (413, _) => ErrorKind::TooLarge,
        (429, _) => ErrorKind::Throttled,
        (500.., _) => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    };
    let mut error = PortError::new(kind, operation, format!("{} (status {})", fault.text(), answer.status));
    error.retry_after = answer.retry_after.or((kind == ErrorKind::Throttled).then_some(QUEUE_FULL));
    Err(error)
}

/// What one document's status other than 201 means.
pub(crate) fn of_document(status: u16, error: Option<&Value>) -> DocumentOutcome {
    let fault = error.map(Fault::of).unwrap_or_default();
    let is_its_own = !matches!(status, 401 | 403 | 404 | 429) && !is_of_the_cluster(&fault.name);
    match status {
        409 => DocumentOutcome::Exists,
        400..500 if is_its_own => DocumentOutcome::Rejected(fault.text()),
        _ => DocumentOutcome::Failed(fault.of_item(CREATE, status)),
    }
}

/// What one document's status other than 200 and 404 means, that was to be removed.
pub(crate) fn of_removal(status: u16, error: Option<&Value>) -> PortError {
    error.map(Fault::of).unwrap_or_default().of_item(REMOVE, status)
}

/// Faults that come with 400 and that no document and no query is to blame for: no room for another shard, a closed index.
fn is_of_the_cluster(name: &str) -> bool {
    matches!(name, "validation_exception" | "index_closed_exception")
}

/// What a server says of a failure.
#[derive(Default)]
struct Fault {
    name: String,
    reasons: Vec<String>,
}

impl Fault {
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(answer) => match answer.get("error") {
                Some(error) => Self::of(error),
                // A gateway in front of the cluster.
                None => Self::of(answer.get("message").or_else(|| answer.get("Message")).unwrap_or(&Value::Null)),
            },
            Err(_) => Self::default(),
        }
    }

    /// As the failure of one document of a request.
    fn of_item(&self, operation: &'static str, status: u16) -> PortError {
        let kind = match status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            429 => ErrorKind::Throttled,
            _ => ErrorKind::Unavailable,
        };
        let mut error = PortError::new(kind, operation, format!("{} (status {status})", self.text()));
        error.retry_after = (kind == ErrorKind::Throttled).then_some(QUEUE_FULL);
        error
    }

    /// The root causes, and what caused them.
    fn of(error: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if error.is_string() {
            return Self { name: String::new(), reasons: vec![text(error)] };
        }
        let first = error["root_cause"].get(0).unwrap_or(error);
        let mut reasons = vec![text(&first["reason"])];
        // A root cause may lack what caused it; the whole error has it.
        for start in [first, error] {
            let mut cause = &start["caused_by"];
            while !cause.is_null() {
                reasons.push(text(&cause["reason"]));
                cause = &cause["caused_by"];
            }
        }
        let mut kept: Vec<String> = Vec::new();
        for reason in reasons {
            if !reason.is_empty() && !kept.contains(&reason) {
                kept.push(reason);
            }
        }
        Self { name: text(&first["type"]), reasons: kept }
    }

    /// It comes with 400 or 500; either way the same search never succeeds.
    fn is_of_mixed_types(&self) -> bool {
        self.reasons.iter().any(|reason| {
            reason.contains("existed as two different types in two different indices")
                || reason.contains("of type [flat_object] is not supported for aggregation")
        })
    }

    fn text(&self) -> String {
        let text = match (self.name.as_str(), self.reasons.join(": ")) {
            ("", reasons) if reasons.is_empty() => "the search cluster gave no reason".to_owned(),
            (name, reasons) if reasons.is_empty() => name.to_owned(),
            ("", reasons) => reasons,
            (name, reasons) => format!("{name}: {reasons}"),
        };
        match text.char_indices().nth(REASON_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    fn answer(status: u16, body: Value) -> PortError {
        let answer = Answer { status, retry_after: None, body: Bytes::from(body.to_string()) };
        check(SEARCH, &answer).unwrap_err()
    }

    #[test]
    fn a_status_decides_the_kind() {
        let error = |name: &str| json!({"error": {"root_cause": [{"type": name, "reason": "why"}], "type": name}});
        for (status, name, kind) in [
            (400, "parsing_exception", ErrorKind::Invalid),
            (400, "index_closed_exception", ErrorKind::Unavailable),
            (401, "", ErrorKind::Denied),
            (403, "security_exception", ErrorKind::Denied),
            (404, "index_not_found_exception", ErrorKind::NotFound),
            (413, "", ErrorKind::TooLarge),
            (429, "circuit_breaking_exception", ErrorKind::Throttled),
            (500, "", ErrorKind::Unavailable),
            (503, "search_phase_execution_exception", ErrorKind::Unavailable),
            (503, "too_many_buckets_exception", ErrorKind::Invalid),
            (504, "", ErrorKind::Timeout),
        ] {
            assert_eq!(answer(status, error(name)).kind, kind, "{status} {name}");
        }
        assert_eq!(answer(429, json!({})).retry_after, Some(QUEUE_FULL));
    }

    #[test]
    fn an_error_names_the_root_cause_and_what_caused_it() {
        let body = json!({"error": {
            "type": "search_phase_execution_exception", "reason": "all shards failed",
            "root_cause": [{"type": "query_shard_exception", "reason": "failed to create query"}],
            "caused_by": {"type": "number_format_exception", "reason": "For input string: \"x\""},
        }, "status": 400});
        let detail = answer(400, body).detail;
        assert_eq!(detail, "query_shard_exception: failed to create query: For input string: \"x\" (status 400)");
        assert_eq!(answer(403, json!({"Message": "no permission"})).detail, "no permission (status 403)");
        assert_eq!(answer(502, Value::Null).detail, "the search cluster gave no reason (status 502)");
        assert!(answer(400, json!({"error": "x".repeat(5_000)})).detail.len() < 600);
    }

    #[test]
    fn fields_of_different_types_are_said_to_be_that() {
        let reason = "Field [data.bytes] of type [flat_object] is not supported for aggregation [sum]";
        let error = answer(400, json!({"error": {"type": "illegal_argument_exception", "reason": reason}}));
        assert_eq!((error.kind, error.detail), (ErrorKind::Invalid, mixed_types().detail));
        let reason = "Merging/Reducing the aggregations failed when computing the aggregation [by] because the field you gave in the \
                      aggregation query existed as two different types in two different indices";
        let error = answer(
            500,
            json!({"error": {"root_cause": [], "type": "search_phase_execution_exception", "reason": "",
            "caused_by": {"type": "aggregation_execution_exception", "reason": reason}}}),
        );
        assert_eq!((error.kind, error.detail), (ErrorKind::Invalid, mixed_types().detail));
    }

    #[test]
    fn a_document_is_rejected_only_for_what_is_its_own_fault() {
        let error = |name: &str| json!({"type": name, "reason": "why", "caused_by": {"reason": "because"}});
        let kind = |status, name: &str| match of_document(status, Some(&error(name))) {
            DocumentOutcome::Failed(e) => Some(e.kind),
            _ => None,
        };
        assert!(matches!(of_document(409, Some(&error("version_conflict_engine_exception"))), DocumentOutcome::Exists));
        match of_document(400, Some(&error("mapper_parsing_exception"))) {
            DocumentOutcome::Rejected(why) => assert_eq!(why, "mapper_parsing_exception: why: because"),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            kind(400, "validation_exception"),
            Some(ErrorKind::Unavailable),
            "the cluster has no room for a shard"
        );
        assert_eq!(kind(403, "cluster_block_exception"), Some(ErrorKind::Denied));
        assert_eq!(kind(404, "index_not_found_exception"), Some(ErrorKind::NotFound));
        assert_eq!(kind(503, "unavailable_shards_exception"), Some(ErrorKind::Unavailable));
        assert_eq!(kind(429, "rejected_execution_exception"), Some(ErrorKind::Throttled));
        assert_eq!(kind(302, ""), Some(ErrorKind::Unavailable), "what is not understood is no success");
    }
}
