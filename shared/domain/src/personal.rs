//! What texts say of a user, for the day on which the user is to be forgotten.

use crate::event::Shared;
use crate::message::{self, Entry};
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Members and parameters that name a user: the envelope's, those of tracking pages, and those of old pages.
const NAMES: [&str; 5] = ["userid", "user_id", "uid", "memberid", "user"];
/// Members that an event keeps when its user is forgotten: what it is counted by, and what tells it from others.
const KEPT: [&str; 5] = ["specversion", "id", "source", "type", "time"];
/// A shorter id that is no address says nothing in a running text: it is a number or a word like any other.
const LEAST_IN_TEXT: usize = 8;

/// Whether a running text names the user: the id stands in it as a word, and can be nothing else.
pub fn mentions(text: &str, user: &str) -> bool {
    (user.len() >= LEAST_IN_TEXT || user.contains('@')) && places(text.as_bytes(), user.as_bytes()).next().is_some()
}

/// What is left of bytes that came from outside when a user is forgotten; `None` where they do not name the user.
///
/// Of a message or of a list of events, those of the user keep only what they are counted by; the texts of the others stay as they are. An
/// event alone is treated the same way, and of a list inside an object what names the user is left out. Of anything else that names the
/// user nothing is left.
pub fn without(bytes: &[u8], user: &str) -> Option<Vec<u8>> {
    if user.is_empty() {
        return None;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return names(bytes, user).then(Vec::new) };
    if let Some(left) = of_message(text, user) {
        return left;
    }
    if let Ok(events) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return of_list(&events, user).map(|events| format!("[{}]", events.join(",")).into_bytes());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(mut event @ Value::Object(_)) => {
            let is_cut = !names_itself(&event, user) && cut_lists(&mut event, user);
            if is_of(&event, user) {
                blank(&mut event);
            } else if !is_cut {
                return None;
            }
            Some(event.to_string().into_bytes())
        }
        _ => names(bytes, user).then(Vec::new),
    }
}

/// The texts of a list of events, those of the user blanked; `None` where none is the user's.
fn of_list<'t>(events: &[&'t RawValue], user: &str) -> Option<Vec<Cow<'t, str>>> {
    let mut is_named = false;
    let mut left = |event: &&'t RawValue| match serde_json::from_str::<Value>(event.get()) {
        Ok(mut value) if is_of(&value, user) => {
            is_named = true;
            blank(&mut value);
            Cow::Owned(value.to_string())
        }
        _ => Cow::Borrowed(event.get()),
    };
    let texts = events.iter().map(&mut left).collect();
    is_named.then_some(texts)
}

/// Of a message: what is left of it, if it names the user; the outer `None` says that it is none.
fn of_message(text: &str, user: &str) -> Option<Option<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Typed<'t> {
        #[serde(rename = "type", borrow, default)]
        event_type: Cow<'t, str>,
    }
    let unpacked = message::unpack(text).ok()?;
    let events: Vec<&RawValue> = serde_json::from_str(unpacked.text()).ok()?;
    let Some(texts) = of_list(&events, user) else { return Some(None) };
    let entry = |text: &Cow<'_, str>| Entry {
        event_type: serde_json::from_str::<Typed<'_>>(text).map(|t| t.event_type.into_owned()).unwrap_or_default(),
        text: text.clone().into_owned(),
    };
    let entries: Vec<Entry> = texts.iter().map(entry).collect();
    // One request is of one client: address and program go with the user.
    let shared = Shared { client_ip: None, user_agent: None, ..unpacked.shared() };
    let Ok(mut packed) = message::pack(&unpacked.header.batch, &shared, &entries) else {
        return Some(Some(Vec::new()));
    };
    if let Some(publish) = &unpacked.header.publish {
        packed = packed.published_as(publish);
    }
    let body = match unpacked.header.replay {
        true => message::as_replay(&packed.body).unwrap_or(packed.body),
        false => packed.body,
    };
    Some(Some(body.into_bytes()))
}

/// Whether an object names the user by a member of its own.
fn names_itself(object: &Value, user: &str) -> bool {
    object.as_object().is_some_and(|members| members.iter().any(|(name, value)| is_name(name) && is(value, user)))
}

/// Leaves out of the lists inside an object what names the user; answers whether there was any.
fn cut_lists(object: &mut Value, user: &str) -> bool {
    let mut is_cut = false;
    for list in
        object.as_object_mut().into_iter().flat_map(|members| members.values_mut()).filter_map(Value::as_array_mut)
    {
        let before = list.len();
        list.retain(|value| !is_of(value, user));
        is_cut |= list.len() < before;
    }
    is_cut
}

/// Whether an event, or what was to become one, is of the user: a member of it, however deep, names the user.
fn is_of(value: &Value, user: &str) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(name, value)| is_name(name) && is(value, user) || is_of(value, user))
        }
        Value::Array(values) => values.iter().any(|value| is_of(value, user)),
        // A tracking request in a list of them.
        Value::String(text) => text.contains('=') && names(text.as_bytes(), user),
        _ => false,
    }
}

fn is(value: &Value, user: &str) -> bool {
    match value {
        Value::String(text) => text == user,
        Value::Number(number) => number.to_string() == user,
        _ => false,
    }
}

fn is_name(name: &str) -> bool {
    NAMES.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// Takes from an event all but what it is counted by.
fn blank(event: &mut Value) {
    let mut left = Map::new();
    if let Value::Object(members) = event {
        left.extend(KEPT.iter().filter_map(|name| Some(((*name).to_owned(), members.get(*name)?.clone()))));
    }
    *event = Value::Object(left);
}

/// Whether bytes that are no JSON name the user: the id stands as a word behind a name of users, and `:` or `=`. As they are, and with what
/// `%` stands for.
fn names(bytes: &[u8], user: &str) -> bool {
    let follows_a_name = |bytes: &[u8], at: usize| {
        let is_between = |b: &u8| matches!(b, b'"' | b'\'' | b'\\' | b':' | b'=' | b' ' | b'\t' | b'\r' | b'\n');
        let head = bytes[..at].iter().rposition(|b| !is_between(b)).map_or(0, |last| last + 1);
        let name = bytes[..head].iter().rposition(|b| !is_word(*b)).map_or(0, |last| last + 1);
        let is_assigned = bytes[head..at].iter().any(|b| matches!(b, b':' | b'='));
        is_assigned && std::str::from_utf8(&bytes[name..head]).is_ok_and(is_name)
    };
    let plain = Cow::Borrowed(bytes);
    let decoded: Cow<'_, [u8]> = percent_decode(bytes).into();
    [plain, decoded].iter().any(|bytes| places(bytes, user.as_bytes()).any(|at| follows_a_name(bytes, at)))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where a text stands as a word.
fn places<'t>(text: &'t [u8], word: &'t [u8]) -> impl Iterator<Item = usize> + 't {
    memchr::memmem::find_iter(text, word).filter(move |at| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        let after = text.get(at + word.len());
        [before, after].into_iter().flatten().all(|byte| !is_word(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn left(text: &str, user: &str) -> Option<String> {
        without(text.as_bytes(), user).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn of_an_event_stays_what_it_is_counted_by() {
        let event = r#"{"id":"1","source":"shop","type":"web.event","userid":"kim","clientip":"192.0.2.1","data":{"url":"/a"}}"#;
        assert_eq!(left(event, "kim").unwrap(), r#"{"id":"1","source":"shop","type":"web.event"}"#);
        assert_eq!(left(event, "ki"), None);
        assert_eq!(left(event, "1"), None, "another member has the value");
        assert_eq!(left(event, ""), None);
        assert_eq!(
            left(r#"{"userId":70,"totalSquares":3}"#, "70").unwrap(),
            "{}",
            "a number and its text are one user"
        );
        assert!(left(r#"{"type":"web.event","data":{"memberId":"kim"}}"#, "kim").is_some());
    }

    #[test]
    fn of_a_list_the_others_stay() {
        let events = r#"[{"id":"1","userid":"kim","x":1},{"id":"2","userid":"lee","x":2}]"#;
        assert_eq!(left(events, "kim").unwrap(), r#"[{"id":"1"},{"id":"2","userid":"lee","x":2}]"#);
        assert_eq!(left(events, "cho"), None);
        let bulk = r#"{"requests":["?idsite=1&uid=kim%40example.org","?idsite=1&uid=lee"],"n":1}"#;
        assert_eq!(left(bulk, "kim@example.org").unwrap(), r#"{"requests":["?idsite=1&uid=lee"],"n":1}"#);
        let exact = r#"[{"userid":"kim"}, {"userid":"lee","price":0.10000000000000000055,"n":18446744073709551617}]"#;
        assert!(
            left(exact, "kim")
                .unwrap()
                .ends_with(r#"{"userid":"lee","price":0.10000000000000000055,"n":18446744073709551617}]"#)
        );
    }

    #[test]
    fn a_message_stays_the_same_batch_with_as_many_events() {
        let shared = Shared {
            received: Timestamp::from_micros(1_795_255_200_000_000).unwrap(),
            client_ip: Some("192.0.2.1".into()),
            user_agent: None,
        };
        for padding in [1, 9_000] {
            let entry = |id: &str, user: &str| Entry {
                event_type: "web.event".to_owned(),
                text: format!(
                    r#"{{"id":"{id}","source":"s","type":"web.event","time":"2026-11-21T10:00:00Z","userid":"{user}","data":{{"url":"{}"}}}}"#,
                    "/".repeat(padding)
                ),
            };
            let packed = message::pack("b1", &shared, &[entry("1", "kim"), entry("2", "lee")]).unwrap();
            let body = message::as_replay(&packed.published_as("p1").body).unwrap();
            assert_eq!(left(&body, "cho"), None);
            let left = left(&body, "kim").unwrap();
            let unpacked = message::unpack(&left).unwrap();
            let header = &unpacked.header;
            assert_eq!((header.batch.as_str(), header.publish.as_deref(), header.count), ("b1", Some("p1"), 2));
            assert!(header.replay && header.clientip.is_none());
            let events = unpacked.events().unwrap();
            let users: Vec<Option<&str>> =
                events.iter().map(|event| event.as_ref().unwrap().user_id.as_deref()).collect();
            assert_eq!(users, [None, Some("lee")]);
        }
    }

    #[test]
    fn what_cannot_be_read_goes_as_a_whole_where_it_names_the_user() {
        for text in [
            r#"{"userid":"kim","data":{"#,
            r#"{"a":1,"userid" : "kim""#,
            "idsite=1&uid=kim&rec=1",
            "memberId=kim",
            "x=1&uid%3Dkim",
        ] {
            assert_eq!(left(text, "kim").as_deref(), Some(""), "{text}");
        }
        for text in [r#"{"userid":"kimchi","data":{"#, r#"{"name":"kim","#, "uid=akim", "kim", "uid kim"] {
            assert_eq!(left(text, "kim"), None, "{text}");
        }
        assert_eq!(without(b"\xff{\"uid\":\"kim\"", "kim"), Some(Vec::new()));
    }

    #[test]
    fn a_text_mentions_a_user_by_the_whole_id() {
        assert!(mentions("Dear kim@example.org, it rose.", "kim@example.org"));
        assert!(!mentions("It rose by 70 %", "70"), "too short to mean anybody");
        assert!(!mentions("user-10045678x", "10045678") && mentions("user 10045678.", "10045678"));
    }
}
