//! What every [`Search`] must do: keeping documents. What queries and aggregations answer is the adapter's own affair to test.

use super::assert_kind;
use serde_json::{Value, json};
use sluice_ports::{Document, DocumentId, DocumentOutcome, ErrorKind, IndexTemplate, SearchRemoval};
use std::time::Duration;

/// Runs every check; all indices begin with `contract-`.
pub async fn all(search: &dyn SearchRemoval) {
    templates_can_be_defined_again(search).await;
    a_document_is_created_once(search).await;
    what_was_created_is_found(search).await;
    a_document_twice_in_one_call_exists_the_second_time(search).await;
    the_same_id_in_another_index_is_another_document(search).await;
    a_mapping_conflict_rejects_that_document_only(search).await;
    what_is_no_document_is_rejected(search).await;
    a_pattern_reaches_its_indices_only(search).await;
    an_unknown_query_is_invalid(search).await;
    removed_documents_are_found_no_more(search).await;
    an_index_goes_with_its_documents(search).await;
}

fn template(index: &str) -> IndexTemplate {
    IndexTemplate {
        name: index.to_owned(),
        pattern: format!("{index}-*"),
        mappings: json!({"properties": {
            "status": {"type": "long"},
            "path": {"type": "keyword"},
            "ratio": {"type": "double"},
            "ok": {"type": "boolean"},
            "time": {"type": "date"},
            "address": {"type": "ip"},
            "note": {"type": "text"},
            "nested": {"properties": {"count": {"type": "long"}}},
            "extra": {"type": "flat_object"},
        }}),
    }
}

fn document(index: &str, id: &str, source: Value) -> Document {
    Document { index: index.to_owned(), id: id.to_owned(), source: source.to_string() }
}

/// The outcomes in short: `created`, `exists`, `rejected`.
async fn create(search: &dyn SearchRemoval, documents: Vec<Document>) -> Vec<&'static str> {
    let outcomes = search.create(documents).await.unwrap();
    let short = |outcome| match outcome {
        DocumentOutcome::Created => "created",
        DocumentOutcome::Exists => "exists",
        DocumentOutcome::Rejected(why) => {
            assert!(!why.is_empty(), "a rejection says why");
            "rejected"
        }
        DocumentOutcome::Failed(error) => panic!("a document failed: {error}"),
    };
    outcomes.into_iter().map(short).collect()
}

/// Searches until there are `total` hits, for the second that a document may take to be found; sorted (index, id, source).
async fn hits(search: &dyn SearchRemoval, pattern: &str, query: Value, total: u64) -> Vec<(String, String, Value)> {
    let body = json!({"query": query, "size": 100});
    for attempt in 0..40 {
        let found = search.search(pattern, &body).await.unwrap();
        if found["hits"]["total"]["value"].as_u64() == Some(total) {
            let text = |hit: &Value, field: &str| hit[field].as_str().unwrap_or_default().to_owned();
            let hits = found["hits"]["hits"].as_array().expect("`hits.hits` is an array");
            let mut hits: Vec<_> =
                hits.iter().map(|hit| (text(hit, "_index"), text(hit, "_id"), hit["_source"].clone())).collect();
            hits.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
            return hits;
        }
        assert!(attempt < 39, "`{pattern}` {query} should find {total}, found {}", found["hits"]["total"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("the loop returns or panics")
}

async fn templates_can_be_defined_again(search: &dyn SearchRemoval) {
    for _ in 0..2 {
        search.define(vec![template("contract-again"), template("contract-more")]).await.unwrap();
    }
    search.define(vec![]).await.unwrap();
}

async fn a_document_is_created_once(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-once")]).await.unwrap();
    let first = document("contract-once-1", "a", json!({"status": 200}));
    let other = document("contract-once-1", "a", json!({"status": 500}));
    assert_eq!(create(search, vec![first]).await, ["created"]);
    assert_eq!(create(search, vec![other]).await, ["exists"], "a second document with the id changes nothing");
    let found = hits(search, "contract-once-*", json!({"match_all": {}}), 1).await;
    assert_eq!(found[0].2, json!({"status": 200}), "the first one stays");
    assert_eq!(create(search, vec![]).await, [""; 0]);
}

async fn what_was_created_is_found(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-find")]).await.unwrap();
    let index = "contract-find-2026.11";
    let full = json!({
        "status": 200, "path": "/a b", "ratio": 0.5, "ok": true, "time": "2026-11-21T12:00:00.000Z", "address": "192.0.2.1",
        "note": "Hello there", "nested": {"count": 3}, "extra": {"any": {"thing": 1}},
    });
    let documents = vec![
        document(index, "full", full.clone()),
        document(index, "other", json!({"status": 404, "path": "/b", "ok": false, "nested": {"count": 4}})),
        document(index, "bare", json!({})),
    ];
    assert_eq!(create(search, documents).await, ["created"; 3]);
    let found = hits(search, "contract-find-*", json!({"match_all": {}}), 3).await;
    let ids: Vec<&str> = found.iter().map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(ids, ["bare", "full", "other"]);
    for term in
        [json!({"status": 200}), json!({"path": "/a b"}), json!({"ok": true}), json!({"nested.count": {"value": 3}})]
    {
        let found = hits(search, "contract-find-*", json!({"term": term}), 1).await;
        assert_eq!(found, [(index.to_owned(), "full".to_owned(), full.clone())], "the source comes back as it went in");
    }
    hits(search, "contract-find-*", json!({"term": {"path": "/a"}}), 0).await;
}

async fn a_document_twice_in_one_call_exists_the_second_time(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-twice")]).await.unwrap();
    let one = || document("contract-twice-1", "a", json!({"status": 1}));
    assert_eq!(create(search, vec![one(), one()]).await, ["created", "exists"]);
    hits(search, "contract-twice-*", json!({"match_all": {}}), 1).await;
}

async fn the_same_id_in_another_index_is_another_document(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-index")]).await.unwrap();
    let documents =
        ["contract-index-1", "contract-index-2"].map(|index| document(index, "a", json!({"status": 1}))).to_vec();
    assert_eq!(create(search, documents).await, ["created"; 2]);
    hits(search, "contract-index-*", json!({"match_all": {}}), 2).await;
}

async fn a_mapping_conflict_rejects_that_document_only(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-conflict")]).await.unwrap();
    let index = "contract-conflict-1";
    let documents = vec![
        document(index, "a", json!({"status": 200})),
        document(index, "b", json!({"status": "many"})),
        document(index, "c", json!({"nested": {"count": "few"}})),
        document(index, "d", json!({"ok": "perhaps"})),
        document(index, "e", json!({"status": 404})),
    ];
    let outcomes = create(search, documents).await;
    assert_eq!(outcomes, ["created", "rejected", "rejected", "rejected", "created"], "neighbours are stored");
    hits(search, "contract-conflict-*", json!({"match_all": {}}), 2).await;
}

async fn what_is_no_document_is_rejected(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-broken")]).await.unwrap();
    let raw = |id: &str, source: &str| Document {
        index: "contract-broken-1".into(),
        id: id.to_owned(),
        source: source.to_owned(),
    };
    let documents =
        vec![raw("a", "{"), raw("b", "[1]"), raw("", "{}"), raw(&"x".repeat(513), "{}"), raw(&"x".repeat(512), "{}")];
    assert_eq!(create(search, documents).await, ["rejected", "rejected", "rejected", "rejected", "created"]);
}

async fn a_pattern_reaches_its_indices_only(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-left"), template("contract-right")]).await.unwrap();
    for index in ["contract-left-1", "contract-left-2", "contract-right-1"] {
        assert_eq!(create(search, vec![document(index, "a", json!({"status": 1}))]).await, ["created"]);
    }
    for (pattern, total) in [
        ("contract-left-*", 2),
        ("contract-left-1", 1),
        ("contract-left-1,contract-right-*", 2),
        ("contract-nowhere-*", 0),
    ] {
        hits(search, pattern, json!({"match_all": {}}), total).await;
    }
}

async fn an_unknown_query_is_invalid(search: &dyn SearchRemoval) {
    let outcome = search.search("contract-find-*", &json!({"query": {"no_such_query": {}}})).await;
    assert_kind(outcome, ErrorKind::Invalid, "a query that nobody knows");
}

async fn removed_documents_are_found_no_more(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-remove")]).await.unwrap();
    let (one, two) = ("contract-remove-1", "contract-remove-2");
    let all = || {
        let of = |index: &str| ["a", "b"].map(|id| document(index, id, json!({"status": 1, "path": id})));
        [of(one), of(two)].concat()
    };
    assert_eq!(create(search, all()).await, ["created"; 4]);
    hits(search, "contract-remove-*", json!({"match_all": {}}), 4).await;
    let id = |index: &str, id: &str| DocumentId { index: index.to_owned(), id: id.to_owned() };
    search.remove(vec![]).await.unwrap();
    for _ in 0..2 {
        search.remove(vec![id(one, "a"), id(two, "b"), id(two, "never"), id("contract-nowhere-1", "a")]).await.unwrap();
        let left = hits(search, "contract-remove-*", json!({"match_all": {}}), 2).await;
        let left: Vec<(&str, &str)> = left.iter().map(|(index, id, _)| (index.as_str(), id.as_str())).collect();
        assert_eq!(left, [(one, "b"), (two, "a")], "the others stay");
    }
    hits(search, "contract-remove-*", json!({"term": {"path": "a"}}), 1).await;
    assert_eq!(create(search, all()).await, ["created", "exists", "exists", "created"], "what is gone can come again");
    hits(search, "contract-remove-*", json!({"match_all": {}}), 4).await;
}

async fn an_index_goes_with_its_documents(search: &dyn SearchRemoval) {
    search.define(vec![template("contract-drop")]).await.unwrap();
    let (old, new) = ("contract-drop-2026.09", "contract-drop-2026.11");
    let documents = || [old, new].map(|index| document(index, "a", json!({"status": 1}))).to_vec();
    assert_eq!(create(search, documents()).await, ["created"; 2]);
    hits(search, "contract-drop-*", json!({"match_all": {}}), 2).await;
    assert_eq!(search.indices("contract-drop-*").await.unwrap(), [old, new]);
    assert_eq!(search.indices("contract-drop-2026.09").await.unwrap(), [old]);
    assert_eq!(search.indices("contract-never-*").await.unwrap(), [""; 0]);
    for _ in 0..2 {
        search.remove_index(old).await.unwrap();
        assert_eq!(search.indices("contract-drop-*").await.unwrap(), [new]);
        let left = hits(search, "contract-drop-*", json!({"match_all": {}}), 1).await;
        assert_eq!(left[0].0, new);
    }
    assert_eq!(create(search, documents()).await, ["created", "exists"], "it begins anew");
    hits(search, "contract-drop-*", json!({"match_all": {}}), 2).await;
}
