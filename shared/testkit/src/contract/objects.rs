//! What every [`Objects`] must do.

use super::assert_kind;
use bytes::Bytes;
use sluice_ports::{ErrorKind, Objects, PutMode};
use std::sync::Arc;

/// Runs every check; all keys begin with `contract/`.
pub async fn all(objects: Arc<dyn Objects>) {
    what_was_put_is_read_back(&*objects).await;
    a_missing_object_is_not_found(&*objects).await;
    a_put_replaces_the_object(&*objects).await;
    if_absent_writes_once(&*objects).await;
    of_many_writers_if_absent_one_wins(objects.clone()).await;
    readers_never_see_a_part(objects.clone()).await;
    a_range_is_cut_at_the_end(&*objects).await;
    a_list_is_sorted_and_paged(&*objects).await;
    a_prefix_need_not_end_at_a_slash(&*objects).await;
    what_was_deleted_is_gone(&*objects).await;
    keys_that_lead_elsewhere_are_refused(&*objects).await;
}

async fn put(objects: &dyn Objects, key: &str, bytes: &'static str) {
    objects.put(key, Bytes::from_static(bytes.as_bytes()), PutMode::Overwrite).await.unwrap();
}

async fn what_was_put_is_read_back(objects: &dyn Objects) {
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for (key, bytes) in [("contract/read/empty", Vec::new()), ("contract/read/dt=2026-11-21/a b+ä%.bin", all_bytes)] {
        objects.put(key, bytes.clone().into(), PutMode::Overwrite).await.unwrap();
        assert_eq!(objects.get(key, None).await.unwrap(), bytes, "`{key}` is read as it was put");
        let listed = objects.list(key, None, 2).await.unwrap();
        assert_eq!(listed.len(), 1, "`{key}` is listed once");
        assert_eq!((listed[0].key.as_str(), listed[0].size_bytes), (key, bytes.len() as u64));
    }
}

async fn a_missing_object_is_not_found(objects: &dyn Objects) {
    assert_kind(objects.get("contract/missing/a", None).await, ErrorKind::NotFound, "a key that was never put");
    put(objects, "contract/missing/folder/a", "x").await;
    assert_kind(objects.get("contract/missing/folder", None).await, ErrorKind::NotFound, "a prefix is no object");
}

async fn a_put_replaces_the_object(objects: &dyn Objects) {
    put(objects, "contract/replace", "a longer one").await;
    put(objects, "contract/replace", "short").await;
    assert_eq!(objects.get("contract/replace", None).await.unwrap(), "short", "nothing of the old object stays");
}

async fn if_absent_writes_once(objects: &dyn Objects) {
    let key = "contract/once/a";
    objects.put(key, Bytes::from_static(b"first"), PutMode::IfAbsent).await.unwrap();
    let second = objects.put(key, Bytes::from_static(b"second"), PutMode::IfAbsent).await;
    assert_kind(second, ErrorKind::Conflict, "the key is taken");
    assert_eq!(objects.get(key, None).await.unwrap(), "first", "the loser changed nothing");
    objects.delete(key).await.unwrap();
    objects.put(key, Bytes::from_static(b"third"), PutMode::IfAbsent).await.unwrap();
}

async fn of_many_writers_if_absent_one_wins(objects: Arc<dyn Objects>) {
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let objects = objects.clone();
            tokio::spawn(async move {
                let body = Bytes::from(format!("writer {writer}"));
                objects.put("contract/race/a", body.clone(), PutMode::IfAbsent).await.is_ok().then_some(body)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        winners.extend(writer.await.unwrap());
    }
    assert_eq!(winners.len(), 1, "exactly one writer is told that it wrote");
    assert_eq!(objects.get("contract/race/a", None).await.unwrap(), winners[0], "and its bytes are there");
}

async fn readers_never_see_a_part(objects: Arc<dyn Objects>) {
    let key = "contract/whole/a";
    let body = |letter: u8| Bytes::from(vec![letter; 300_000]);
    objects.put(key, body(b'a'), PutMode::Overwrite).await.unwrap();
    let writing = {
        let objects = objects.clone();
        tokio::spawn(async move {
            for letter in b'a'..=b'p' {
                objects.put(key, body(letter), PutMode::Overwrite).await.unwrap();
            }
        })
    };
    while !writing.is_finished() {
        let seen = objects.get(key, None).await.unwrap();
        assert_eq!(seen.len(), 300_000, "a reader sees a whole object");
        assert!(seen.iter().all(|&byte| byte == seen[0]), "a reader sees one object, not two mixed");
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

async fn a_range_is_cut_at_the_end(objects: &dyn Objects) {
    let key = "contract/range/a";
    put(objects, key, "0123456789").await;
    for (range, expected) in
        [(0..3, "012"), (3..10, "3456789"), (8..100, "89"), (0..u64::MAX, "0123456789"), (4..4, "")]
    {
        let got = objects.get(key, Some(range.clone())).await.unwrap();
        assert_eq!(got, expected, "bytes {range:?}");
    }
    assert_kind(objects.get("contract/range/b", Some(0..1)).await, ErrorKind::NotFound, "a range of nothing");
}

async fn a_list_is_sorted_and_paged(objects: &dyn Objects) {
    // Byte order of the whole key: `-` and `.` sort before `/`, so a folder does not come where its name would.
    let keys = ["a", "a-b", "a.b", "b/1", "b/10", "b/2", "b0", "ä"];
    for key in keys.iter().rev() {
        put(objects, &format!("contract/list/{key}"), "x").await;
    }
    let expected: Vec<String> = keys.iter().map(|key| format!("contract/list/{key}")).collect();
    let listed = |page: Vec<sluice_ports::ObjectMeta>| page.into_iter().map(|meta| meta.key).collect::<Vec<_>>();
    let all = listed(objects.list("contract/list/", None, 100).await.unwrap());
    assert_eq!(all, expected, "keys come in byte order");
    let mut paged: Vec<String> = Vec::new();
    loop {
        let page = objects.list("contract/list/", paged.last().map(String::as_str), 3).await.unwrap();
        assert!(page.len() <= 3, "a page holds at most what was asked for");
        if page.is_empty() {
            break;
        }
        paged.extend(listed(page));
    }
    assert_eq!(paged, expected, "pages together are the whole list");
    let within = listed(objects.list("contract/list/b/", Some("contract/list/a"), 100).await.unwrap());
    assert_eq!(within, expected[3..6], "a start before the prefix leaves nothing out");
    assert_eq!(objects.list("contract/list/", None, 0).await.unwrap(), [], "a page of nothing");
    assert_eq!(objects.list("contract/list/zzz", None, 9).await.unwrap(), [], "a prefix of nothing");
}

async fn a_prefix_need_not_end_at_a_slash(objects: &dyn Objects) {
    for key in
        ["contract/prefix/day=2026-11-20/a", "contract/prefix/day=2026-11-21/a", "contract/prefix/day=2026-12-01/a"]
    {
        put(objects, key, "x").await;
    }
    let listed = objects.list("contract/prefix/day=2026-11-2", None, 100).await.unwrap();
    assert_eq!(listed.len(), 2, "a prefix is text, not a folder");
}

async fn what_was_deleted_is_gone(objects: &dyn Objects) {
    put(objects, "contract/delete/a", "x").await;
    put(objects, "contract/delete/b", "x").await;
    for _ in 0..2 {
        objects.delete("contract/delete/a").await.unwrap();
    }
    objects.delete("contract/delete/never/there").await.unwrap();
    assert_kind(objects.get("contract/delete/a", None).await, ErrorKind::NotFound, "a deleted object");
    let left = objects.list("contract/delete/", None, 9).await.unwrap();
    assert_eq!(left.len(), 1, "its neighbour stays");
}

async fn keys_that_lead_elsewhere_are_refused(objects: &dyn Objects) {
    let long = format!("contract/{}", "x".repeat(256));
    for key in [
        "",
        "/",
        "/etc/x",
        "contract/../../x",
        "..",
        "contract//x",
        "contract/x/",
        "contract/./x",
        "contract/\0",
        &long,
    ] {
        let outcome = objects.put(key, Bytes::new(), PutMode::Overwrite).await;
        assert_kind(outcome, ErrorKind::Invalid, &format!("putting `{key}`"));
        assert_kind(objects.get(key, None).await, ErrorKind::Invalid, &format!("getting `{key}`"));
        assert_kind(objects.delete(key).await, ErrorKind::Invalid, &format!("deleting `{key}`"));
    }
}
