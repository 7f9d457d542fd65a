//! Index templates as OpenSearch takes them, so that it finds what the embedded engine finds.

use crate::failure::{DEFINE, invalid};
use serde_json::{Value, json};
use sluice_ports::{IndexTemplate, PortError};

/// Above the templates that come with a distribution or that a user would make for `*`.
const PRIORITY: usize = 500;
/// Strings with more characters are kept in the source and not indexed as keywords: a quarter of the bytes of Lucene's longest term, as
/// OpenSearch's documentation advises for `ignore_above`.
const IGNORE_ABOVE: u32 = 8_191;
/// What a date may be, in every version of OpenSearch; the default differs.
const DATE_FORMAT: &str = "strict_date_optional_time||epoch_millis";

/// Hangul, kana and ideographs (Unicode 16 blocks), which are found by parts of words.
const SCRIPTS: &str = "\\u1100-\\u11FF\\u3040-\\u30FF\\u3130-\\u318F\\u31F0-\\u31FF\\u3400-\\u4DBF\\u4E00-\\u9FFF\\uA960-\\uA97F\
                       \\uAC00-\\uD7FF\\uF900-\\uFAFF\\uFF66-\\uFF9F\\x{20000}-\\x{323AF}";

/// Path of a template.
pub(crate) fn path_of(name: &str) -> Result<String, PortError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.starts_with(['_', '-', '.']) || !name.chars().all(is_plain) {
        return Err(invalid(DEFINE, &format!("`{name}` is not the name of an index template")));
    }
    Ok(format!("_index_template/{name}"))
}

/// A composable template. Of those that fit an index the one with the longest pattern wins.
pub(crate) fn body(template: &IndexTemplate) -> Value {
    let mut mappings = template.mappings.clone();
    complete(&mut mappings);
    json!({
        "index_patterns": [template.pattern],
        "priority": PRIORITY + template.pattern.len(),
        "template": {"settings": settings(), "mappings": mappings},
    })
}

/// Fills in what a field's type leaves open, down to the sub-fields.
fn complete(mapping: &mut Value) {
    let Some(mapping) = mapping.as_object_mut() else { return };
    for name in ["properties", "fields"] {
        if let Some(fields) = mapping.get_mut(name).and_then(Value::as_object_mut) {
            fields.values_mut().for_each(complete);
        }
    }
    let defaults = match mapping.get("type").and_then(Value::as_str) {
        Some("keyword") => vec![("ignore_above", json!(IGNORE_ABOVE))],
        Some("date") => vec![("format", json!(DATE_FORMAT))],
        Some("text") => vec![("analyzer", json!("sluice_index")), ("search_analyzer", json!("sluice_search"))],
        _ => Vec::new(),
    };
    for (name, value) in defaults {
        mapping.entry(name).or_insert(value);
    }
}

/// How text becomes terms: words of letters, digits and `_` in lower case; runs of [`SCRIPTS`] as overlapping pairs, so that Korean is
/// found by parts of words without a dictionary. An index holds the single characters of each pair too, a query only a character that
/// stands alone.
fn settings() -> Value {
    let script = format!("[{SCRIPTS}]");
    let word = format!("[\\p{{IsAlphabetic}}\\p{{N}}_&&[^{SCRIPTS}]]");
    // Looks ahead at each character: a pair, a character without neighbours, or the begin of a word; a longer word could be a term that
    // is too long for Lucene.
    let tokens = format!("(?=({script}{script}|(?<!{script}){script}(?!{script})|(?<!{word}){word}{{1,128}}))");
    json!({"analysis": {
        "tokenizer": {"sluice_words": {"type": "pattern", "pattern": tokens, "group": 1}},
        "filter": {"sluice_characters": {
            "type": "pattern_capture", "preserve_original": true, "patterns": [format!("^({script})({script})$")],
        }},
        "analyzer": {
            "sluice_index": {"type": "custom", "tokenizer": "sluice_words", "filter": ["lowercase", "sluice_characters"]},
            "sluice_search": {"type": "custom", "tokenizer": "sluice_words", "filter": ["lowercase"]},
        },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_completed_and_the_rest_is_left() {
        let mappings = json!({"dynamic": false, "properties": {
            "type": {"type": "keyword"},
            "short": {"type": "keyword", "ignore_above": 10},
            "time": {"type": "date"},
            "extra": {"type": "flat_object"},
            "data": {"properties": {"title": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}, "n": {"type": "long"}}},
        }});
        let template = IndexTemplate { name: "t".into(), pattern: "sluice-web-*".into(), mappings };
        let body = body(&template);
        assert_eq!(body["index_patterns"], json!(["sluice-web-*"]));
        let mappings = &body["template"]["mappings"];
        assert_eq!(
            mappings,
            &json!({"dynamic": false, "properties": {
                "type": {"type": "keyword", "ignore_above": 8191},
                "short": {"type": "keyword", "ignore_above": 10},
                "time": {"type": "date", "format": "strict_date_optional_time||epoch_millis"},
                "extra": {"type": "flat_object"},
                "data": {"properties": {
                    "title": {
                        "type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 8191}},
                        "analyzer": "sluice_index", "search_analyzer": "sluice_search",
                    },
                    "n": {"type": "long"},
                }},
            }})
        );
    }

    #[test]
    fn a_longer_pattern_goes_before_a_shorter() {
        let priority = |pattern: &str| {
            let template = IndexTemplate { name: "t".into(), pattern: pattern.into(), mappings: json!({}) };
            body(&template)["priority"].as_u64().unwrap()
        };
        assert!(priority("a-b-*") > priority("a-*"));
    }

    #[test]
    fn a_name_cannot_lead_to_another_path() {
        assert_eq!(path_of("sluice-web_event").unwrap(), "_index_template/sluice-web_event");
        for name in ["", "a/b", "../_cluster", "_all", "a?b", "A"] {
            assert!(path_of(name).is_err(), "{name}");
        }
    }
}
