//! Events as search finds them, and how they are shown.

use crate::cli::terminal::{Out, Style, clean, clip};
use serde::Deserialize;
use serde_json::{Value, json};

/// Columns of an event's data that are shown on a terminal or in a pipe.
const DATA_COLUMNS: usize = 160;
/// The pattern of all indices.
pub const ALL_INDICES: &str = "sluice-*";

/// The part of an OpenSearch reply that the command line uses.
#[derive(Debug, Deserialize)]
pub struct Found {
    /// The hits.
    pub hits: Hits,
    /// Time in the engine.
    #[serde(default)]
    pub took: u64,
    /// Aggregations by name.
    #[serde(default)]
    pub aggregations: Value,
}

/// The hits of a reply.
#[derive(Debug, Deserialize)]
pub struct Hits {
    /// How many there are in all.
    #[serde(default)]
    pub total: Total,
    /// Those on this page.
    pub hits: Vec<Hit>,
}

/// The number of all hits.
#[derive(Debug, Default, Deserialize)]
pub struct Total {
    /// The number.
    pub value: u64,
    /// `eq`, or `gte` where counting stopped early.
    #[serde(default)]
    pub relation: String,
}

/// One hit.
#[derive(Debug, Clone, Deserialize)]
pub struct Hit {
    /// Document id.
    #[serde(rename = "_id")]
    pub id: String,
    /// The event.
    #[serde(rename = "_source", default)]
    pub event: Value,
    /// Its place in the order.
    #[serde(default)]
    pub sort: Value,
}

/// A search as its options say it.
#[derive(Debug, Clone)]
pub struct Query<'q> {
    /// Query string; `*` for everything.
    pub text: &'q str,
    /// Filters beside it.
    pub filters: Vec<Value>,
}

impl Query<'_> {
    /// The OpenSearch query.
    pub fn to_json(&self) -> Value {
        let must = match self.text.trim() {
            "" | "*" => json!({"match_all": {}}),
            // The pairs of characters by which a Korean word is found are words too: each of them has to be there.
            text => json!({"query_string": {"query": text, "default_operator": "and"}}),
        };
        json!({"bool": {"must": [must], "filter": self.filters}})
    }
}

/// One line of an event: time, type, source, subject, data.
pub fn line(out: &Out, event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let time = text("time");
    // Shown to the millisecond.
    let time = match (time.get(..23), time.ends_with('Z')) {
        (Some(start), true) => format!("{start}Z"),
        _ => time.to_owned(),
    };
    let subject = match text("subject") {
        "" => String::new(),
        subject => format!("  {}", clean(subject)),
    };
    let data = match event.get("data") {
        None | Some(Value::Null) => String::new(),
        Some(data) => short(data),
    };
    format!(
        "{}  {}  {}{subject}  {}",
        out.paint(Style::Dim, &clean(&time)),
        out.paint(Style::Bold, &clean(text("type"))),
        clean(text("source")),
        clip(&clean(&data), DATA_COLUMNS)
    )
    .trim_end()
    .to_owned()
}

/// Data in short: `status=404 path=/a`, nothing for null.
fn short(data: &Value) -> String {
    let Value::Object(members) = data else { return data.to_string() };
    let words: Vec<String> = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"') => {
                format!("{name}={text}")
            }
            value => format!("{name}={value}"),
        })
        .collect();
    words.join(" ")
}

/// A reply's aggregation `by` as rows of value and count.
pub fn buckets(aggregations: &Value) -> Vec<(String, u64)> {
    let list = aggregations.pointer("/by/buckets").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter()
        .map(|bucket| {
            let key = match (bucket.get("key_as_string"), bucket.get("key")) {
                (Some(Value::String(text)), _) | (None, Some(Value::String(text))) => text.clone(),
                (_, Some(key)) => key.to_string(),
                _ => String::new(),
            };
            (key, bucket.get("doc_count").and_then(Value::as_u64).unwrap_or_default())
        })
        .collect()
}

/// A length of time as `90s`, `15m`, `1h`, `7d`, `2w`, in microseconds.
pub fn span(text: &str) -> Result<i64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("a length of time is a number and `s`, `m`, `h`, `d` or `w`, for example `1h`".into()),
    };
    text[..at]
        .parse::<i64>()
        .ok()
        .and_then(|n| n.checked_mul(unit)?.checked_mul(sluice_domain::time::SECOND_US))
        .ok_or_else(|| format!("`{text}` is no length of time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_shown_on_one_line() {
        let event = json!({
            "time": "2024-03-05T09:30:00.123456Z", "type": "http.access", "source": "shop\u{1b}[2J", "subject": "s",
            "data": {"status": 404, "path": "/a", "agent": "Mozilla 5", "none": null, "empty": ""}});
        assert_eq!(
            line(&Out::captured().0, &event),
            "2024-03-05T09:30:00.123Z  http.access  shop\\u{1b}[2J  s  status=404 path=/a agent=\"Mozilla 5\" empty=\"\""
        );
        assert_eq!(line(&Out::captured().0, &json!({"type": "a.b", "source": "s", "time": "t"})), "t  a.b  s");
    }

    #[test]
    fn lengths_of_time_are_read() {
        assert_eq!(span("90s"), Ok(90_000_000));
        assert_eq!(span("1h"), Ok(3_600_000_000));
        assert_eq!(span("2w"), Ok(14 * 86_400_000_000));
        for bad in ["", "1", "h", "1 h", "1y", "99999999999999999999d", "9999999999999w"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn buckets_show_their_keys_as_text() {
        let aggregations = json!({"by": {"buckets": [
            {"key": 404, "doc_count": 2}, {"key": "a", "doc_count": 1}, {"key": 1, "key_as_string": "true", "doc_count": 3}]}});
        let expected = [("404".to_owned(), 2), ("a".to_owned(), 1), ("true".to_owned(), 3)];
        assert_eq!(buckets(&aggregations), expected);
        assert_eq!(buckets(&Value::Null), []);
    }
}
