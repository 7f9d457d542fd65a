//! A draft of a schema file takes the samples that it is made of: those of every type of our own.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use serde_json::{Map, Value, json};
use sluice_domain::json::{Node, Object, parse_str};
use sluice_domain::schema::{Schema, infer};
use std::path::Path;

/// A value that a property takes; `n` tells it from others.
fn value(property: &Value, n: usize) -> Value {
    if let Some(words) = property["enum"].as_array() {
        return words[n % words.len()].clone();
    }
    let least = property["minimum"].as_f64().unwrap_or_default();
    let most = property["maximum"].as_f64().unwrap_or(f64::MAX).min(least + 20.0);
    let number = least + n as f64 % (most - least + 1.0);
    match (property["type"].as_str(), property["format"].as_str(), property.get("x-decimal")) {
        (Some("integer"), ..) => json!(number as i64),
        (Some("number"), ..) => json!(least + (number - least) / 4.0),
        (Some("boolean"), ..) => json!(n.is_multiple_of(2)),
        (Some("array"), ..) => json!([value(&property["items"], n), value(&property["items"], n + 1)]),
        (Some("string"), Some("date-time"), _) => json!(format!("2026-11-20T10:00:{n:02}Z")),
        (Some("string"), Some("date"), _) => json!(format!("2026-11-{:02}", n % 28 + 1)),
        (Some("string"), None, Some(_)) => json!(format!("{}.5", n % 20)),
        (Some("string"), ..) => json!(format!("text {n}")),
        _ => json!({"n": n}),
    }
}

#[test]
fn a_draft_from_samples_of_each_of_our_types_takes_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut types = 0;
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let (own, file) = (Schema::parse("own", &text).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        let properties = file["properties"].as_object().unwrap();
        let sample = |n: usize| -> Map<String, Value> {
            // Now and then a field is not there, where it need not be.
            let is_there =
                |name: &&String| !n.is_multiple_of(3) || own.columns.iter().any(|c| c.name == **name && c.required);
            let names = properties.keys().filter(is_there);
            names.map(|name| (name.clone(), value(&properties[name], n))).collect()
        };
        let samples: Vec<String> = (0..40).map(|n| json!(sample(n)).to_string()).collect();
        let nodes: Vec<Node<'_>> = samples.iter().map(|sample| parse_str(sample).unwrap()).collect();
        let objects: Vec<&Object<'_>> = nodes.iter().map(|node| node.as_object().unwrap()).collect();
        let draft = infer(&own.event_type, &objects);
        let drafted = Schema::parse("draft", &draft.text).unwrap();
        assert_eq!(drafted.event_type, own.event_type);
        assert_eq!(drafted.columns.len(), own.columns.len());
        for (sample, object) in samples.iter().zip(objects) {
            assert_eq!(own.check(object), Ok(()), "{}: {sample}", own.event_type);
            assert_eq!(drafted.check(object), Ok(()), "{}: {sample} by {}", own.event_type, draft.text);
        }
        types += 1;
    }
    assert_eq!(types, 10);
}
