//! What every [`Table`] must do.

use super::assert_kind;
use serde_json::{Value, json};
use sluice_ports::{Condition, ErrorKind, Item, Key, Query, Table, Write};
use std::sync::Arc;

/// Runs every check; all partitions begin with `contract-`.
pub async fn all(table: Arc<dyn Table>) {
    what_was_written_is_read_back(&*table).await;
    gets_answer_in_order(&*table).await;
    each_write_changes_the_version(&*table).await;
    absent_holds_once(&*table).await;
    a_version_condition_holds_for_that_version_only(&*table).await;
    of_many_writers_under_one_version_one_wins(table.clone()).await;
    a_transaction_does_all_or_nothing(&*table).await;
    a_check_alone_guards_a_transaction(&*table).await;
    deletes_are_conditional_too(&*table).await;
    adding_creates_and_sums(&*table).await;
    concurrent_additions_all_count(table.clone()).await;
    adding_to_text_is_refused(&*table).await;
    expiry_is_kept_and_is_no_condition(&*table).await;
    a_query_reads_one_partition_in_byte_order(&*table).await;
    a_query_pages_in_both_directions(&*table).await;
    keys_and_values_have_limits(&*table).await;
}

fn put(partition: &str, sort: &str, value: Value) -> Write {
    Write::Put { key: Key::new(partition, sort), value, condition: Condition::Any, expires_at: None }
}

fn put_if(partition: &str, sort: &str, condition: Condition) -> Write {
    Write::Put { key: Key::new(partition, sort), value: json!({"by": "put_if"}), condition, expires_at: None }
}

async fn one(table: &dyn Table, partition: &str, sort: &str) -> Option<Item> {
    table.get(&[Key::new(partition, sort)]).await.unwrap().pop().unwrap()
}

async fn what_was_written_is_read_back(table: &dyn Table) {
    let value = json!({
        "text": "ä\u{0}\"\\\n𝄞", "integer": i64::MIN, "large": u64::MAX, "double": 0.1, "yes": true, "nothing": null,
        "nested": {"z": [1, {"a": []}], "a": {}},
    });
    table.write(vec![put("contract-read", "ä/€ 1", value.clone())]).await.unwrap();
    let item = one(table, "contract-read", "ä/€ 1").await.expect("the item is there");
    assert_eq!(item, Item { key: Key::new("contract-read", "ä/€ 1"), value, version: 1, expires_at: None });
    table.write(vec![]).await.unwrap();
}

async fn gets_answer_in_order(table: &dyn Table) {
    let p = "contract-get";
    table.write(vec![put(p, "a", json!({"n": 1})), put(p, "b", json!({"n": 2}))]).await.unwrap();
    let keys = [Key::new(p, "b"), Key::new(p, "missing"), Key::new(p, "a"), Key::new(p, "b")];
    let found = table.get(&keys).await.unwrap();
    let numbers: Vec<Option<i64>> =
        found.iter().map(|item| item.as_ref().and_then(|item| item.value["n"].as_i64())).collect();
    assert_eq!(numbers, [Some(2), None, Some(1), Some(2)], "one answer per key, in order");
    assert_eq!(table.get(&[]).await.unwrap(), []);
}

async fn each_write_changes_the_version(table: &dyn Table) {
    let p = "contract-version";
    for version in 1..=3 {
        table.write(vec![put(p, "a", json!({}))]).await.unwrap();
        assert_eq!(one(table, p, "a").await.unwrap().version, version, "also when the value stays the same");
    }
    let add = Write::Add { key: Key::new(p, "a"), deltas: vec![("n".into(), 1)], expires_at: None };
    table.write(vec![add]).await.unwrap();
    assert_eq!(one(table, p, "a").await.unwrap().version, 4, "adding is a write");
}

async fn absent_holds_once(table: &dyn Table) {
    let p = "contract-absent";
    table.write(vec![put_if(p, "a", Condition::Absent)]).await.unwrap();
    let second = table.write(vec![put_if(p, "a", Condition::Absent)]).await;
    assert_kind(second, ErrorKind::Conflict, "there is an item now");
    assert_eq!(one(table, p, "a").await.unwrap().version, 1, "the loser changed nothing");
}

async fn a_version_condition_holds_for_that_version_only(table: &dyn Table) {
    let p = "contract-condition";
    assert_kind(
        table.write(vec![put_if(p, "a", Condition::Version(1))]).await,
        ErrorKind::Conflict,
        "no item, no version",
    );
    table.write(vec![put_if(p, "a", Condition::Absent)]).await.unwrap();
    table.write(vec![put_if(p, "a", Condition::Version(1))]).await.unwrap();
    for old in [0, 1, 3] {
        let outcome = table.write(vec![put_if(p, "a", Condition::Version(old))]).await;
        assert_kind(outcome, ErrorKind::Conflict, &format!("the version is 2, not {old}"));
    }
}

async fn of_many_writers_under_one_version_one_wins(table: Arc<dyn Table>) {
    let p = "contract-race";
    table.write(vec![put_if(p, "a", Condition::Absent)]).await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let table = table.clone();
            tokio::spawn(async move { table.write(vec![put_if(p, "a", Condition::Version(1))]).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        won += usize::from(writer.await.unwrap());
    }
    assert_eq!(won, 1, "a version is replaced once");
}

async fn a_transaction_does_all_or_nothing(table: &dyn Table) {
    let p = "contract-all";
    table.write(vec![put(p, "taken", json!({"n": 1})), put(p, "old", json!({"n": 1}))]).await.unwrap();
    let writes = vec![
        put(p, "new", json!({})),
        Write::Delete { key: Key::new(p, "old"), condition: Condition::Any },
        Write::Add { key: Key::new(p, "sum"), deltas: vec![("n".into(), 1)], expires_at: None },
        put_if(p, "taken", Condition::Absent),
        put(p, "later", json!({})),
    ];
    assert_kind(table.write(writes).await, ErrorKind::Conflict, "one condition does not hold");
    let there: Vec<String> =
        table.query(Query::prefix(p, "", 10)).await.unwrap().into_iter().map(|item| item.key.sort).collect();
    assert_eq!(there, ["old", "taken"], "neither the writes before the conflict nor those after it happened");
}

async fn a_check_alone_guards_a_transaction(table: &dyn Table) {
    let p = "contract-check";
    let guarded =
        |sort: &str, condition| vec![Write::Check { key: Key::new(p, "guard"), condition }, put(p, sort, json!({}))];
    table.write(guarded("a", Condition::Absent)).await.unwrap();
    assert_kind(table.write(guarded("b", Condition::Version(1))).await, ErrorKind::Conflict, "the guard is not there");
    assert!(one(table, p, "guard").await.is_none(), "a check writes nothing");
    assert!(one(table, p, "a").await.is_some());
    assert!(one(table, p, "b").await.is_none());
}

async fn deletes_are_conditional_too(table: &dyn Table) {
    let p = "contract-delete";
    let delete = |condition| vec![Write::Delete { key: Key::new(p, "a"), condition }];
    table.write(delete(Condition::Any)).await.unwrap();
    table.write(delete(Condition::Absent)).await.unwrap();
    table.write(vec![put(p, "a", json!({}))]).await.unwrap();
    assert_kind(table.write(delete(Condition::Version(2))).await, ErrorKind::Conflict, "the version is 1");
    table.write(delete(Condition::Version(1))).await.unwrap();
    assert!(one(table, p, "a").await.is_none(), "it is gone");
    assert_kind(table.write(delete(Condition::Version(1))).await, ErrorKind::Conflict, "there is none any more");
}

async fn adding_creates_and_sums(table: &dyn Table) {
    let p = "contract-add";
    let add = |deltas: &[(&str, i64)], expires_at| {
        let deltas = deltas.iter().map(|&(field, by)| (field.to_owned(), by)).collect();
        vec![Write::Add { key: Key::new(p, "a"), deltas, expires_at }]
    };
    table.write(add(&[("x", 5), ("y", -1)], Some(4_000_000_000))).await.unwrap();
    table.write(add(&[("x", 2), ("z", 0), ("x", 1)], None)).await.unwrap();
    let item = one(table, p, "a").await.unwrap();
    assert_eq!(item.value, json!({"x": 8, "y": -1, "z": 0}));
    assert_eq!(item.expires_at, Some(4_000_000_000), "an addition without expiry leaves the expiry");
    table.write(add(&[("x", 1)], Some(4_100_000_000))).await.unwrap();
    assert_eq!(one(table, p, "a").await.unwrap().expires_at, Some(4_100_000_000), "one with an expiry sets it");
    table.write(vec![put(p, "b", json!({"kept": "text"}))]).await.unwrap();
    let key = Key::new(p, "b");
    table.write(vec![Write::Add { key, deltas: vec![("n".into(), 1)], expires_at: None }]).await.unwrap();
    assert_eq!(one(table, p, "b").await.unwrap().value, json!({"kept": "text", "n": 1}), "other fields stay");
}

async fn concurrent_additions_all_count(table: Arc<dyn Table>) {
    let p = "contract-sum";
    let adders: Vec<_> = (0..8)
        .map(|_| {
            let table = table.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let key = Key::new(p, "a");
                    table
                        .write(vec![Write::Add { key, deltas: vec![("n".into(), 1)], expires_at: None }])
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for adder in adders {
        adder.await.unwrap();
    }
    assert_eq!(one(&*table, p, "a").await.unwrap().value, json!({"n": 200}), "none is lost");
}

async fn adding_to_text_is_refused(table: &dyn Table) {
    let p = "contract-text";
    let value = json!({"text": "5", "half": 0.5, "max": i64::MAX});
    table.write(vec![put(p, "a", value.clone())]).await.unwrap();
    for field in ["text", "half", "max"] {
        let key = Key::new(p, "a");
        let write = Write::Add { key, deltas: vec![("fresh".into(), 1), (field.into(), 1)], expires_at: None };
        assert_kind(table.write(vec![write]).await, ErrorKind::Invalid, &format!("`{field}` takes no addition"));
    }
    assert_eq!(one(table, p, "a").await.unwrap().value, value, "nothing was added");
}

async fn expiry_is_kept_and_is_no_condition(table: &dyn Table) {
    let p = "contract-expiry";
    let far = Write::Put {
        key: Key::new(p, "a"),
        value: json!({}),
        condition: Condition::Any,
        expires_at: Some(4_000_000_000),
    };
    table.write(vec![far]).await.unwrap();
    assert_eq!(one(table, p, "a").await.unwrap().expires_at, Some(4_000_000_000));
    table.write(vec![put(p, "a", json!({}))]).await.unwrap();
    assert_eq!(one(table, p, "a").await.unwrap().expires_at, None, "a put replaces the expiry too");
}

fn sorts(items: Vec<Item>) -> Vec<String> {
    items.into_iter().map(|item| item.key.sort).collect()
}

async fn a_query_reads_one_partition_in_byte_order(table: &dyn Table) {
    let p = "contract-query";
    let order = ["A", "a", "a#1", "a#10", "a#2", "a\u{10FFFF}", "b", "z", "ä", "\u{FFFD}", "𝄞"];
    let writes = order.iter().rev().map(|sort| put(p, sort, json!({}))).collect();
    table.write(writes).await.unwrap();
    table.write(vec![put("contract-query2", "a", json!({})), put("contract-quer", "a", json!({}))]).await.unwrap();
    assert_eq!(sorts(table.query(Query::prefix(p, "", 100)).await.unwrap()), order, "all, in byte order");
    assert_eq!(sorts(table.query(Query::prefix(p, "a", 100)).await.unwrap()), order[1..6], "those with the prefix");
    assert_eq!(sorts(table.query(Query::prefix(p, "a#", 2)).await.unwrap()), order[2..4], "at most the limit");
    assert_eq!(sorts(table.query(Query::prefix(p, "%", 100)).await.unwrap()), [""; 0], "a prefix is no pattern");
    assert_eq!(sorts(table.query(Query::prefix(p, "a", 0)).await.unwrap()), [""; 0], "a page of nothing");
    assert_eq!(sorts(table.query(Query::prefix("contract-nothing", "", 9)).await.unwrap()), [""; 0]);
    let newest = Query { descending: true, ..Query::prefix(p, "a", 2) };
    assert_eq!(sorts(table.query(newest).await.unwrap()), ["a\u{10FFFF}", "a#2"], "from the end");
}

async fn a_query_pages_in_both_directions(table: &dyn Table) {
    let p = "contract-page";
    let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    let mut writes: Vec<Write> = keys.iter().map(|sort| put(p, sort, json!({}))).collect();
    writes.extend([put(p, "j", json!({})), put(p, "l", json!({}))]);
    table.write(writes).await.unwrap();
    for descending in [false, true] {
        let mut expected = keys.clone();
        if descending {
            expected.reverse();
        }
        let mut paged: Vec<String> = Vec::new();
        loop {
            let query = Query { after: paged.last().cloned(), descending, ..Query::prefix(p, "k", 3) };
            let page = sorts(table.query(query).await.unwrap());
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, expected, "pages together are the whole range (descending: {descending})");
        let outside = if descending { "l" } else { "j" };
        let query = Query { after: Some(outside.into()), descending, ..Query::prefix(p, "k", 100) };
        assert_eq!(sorts(table.query(query).await.unwrap()), expected, "a start outside the prefix leaves nothing out");
    }
}

async fn keys_and_values_have_limits(table: &dyn Table) {
    let p = "contract-limit";
    let (long_partition, long_sort) = ("p".repeat(2_049), "s".repeat(1_025));
    for (partition, sort) in [("", "a"), (p, ""), (long_partition.as_str(), "a"), (p, long_sort.as_str())] {
        assert_kind(
            table.write(vec![put(partition, sort, json!({}))]).await,
            ErrorKind::Invalid,
            "such a key is refused",
        );
        assert_kind(table.get(&[Key::new(partition, sort)]).await, ErrorKind::Invalid, "such a key is refused");
    }
    table.write(vec![put(&long_partition[1..], &long_sort[1..], json!({}))]).await.unwrap();
    for value in [json!([]), json!("text"), json!(null)] {
        assert_kind(table.write(vec![put(p, "a", value)]).await, ErrorKind::Invalid, "a value is an object");
    }
    let huge = json!({"x": "x".repeat(410_000)});
    assert_kind(table.write(vec![put(p, "a", huge)]).await, ErrorKind::TooLarge, "a value has at most 400 KB");
    table.write(vec![put(p, "large", json!({"x": "x".repeat(390_000)}))]).await.unwrap();
    let many = |count: usize| (0..count).map(|n| put(p, &format!("n{n}"), json!({}))).collect::<Vec<_>>();
    assert_kind(table.write(many(101)).await, ErrorKind::Invalid, "101 writes are too many");
    table.write(many(100)).await.unwrap();
    let twice = vec![put(p, "twice", json!({})), put(p, "twice", json!({}))];
    assert_kind(table.write(twice).await, ErrorKind::Invalid, "a key is written once in a transaction");
    assert!(one(table, p, "twice").await.is_none());
}
