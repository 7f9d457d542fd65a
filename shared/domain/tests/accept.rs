//! The quick way of accepting an event answers what the slow, obvious one answers, whatever the text.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sluice_domain::accept::Acceptor;
use sluice_domain::demo::bench_event;
use sluice_domain::event::{Acceptance, Clock, Event};
use sluice_domain::json::{self, Value};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;

const KINDS: &str = r#"{"type":"object","x-type":"test.kinds","x-sort":"word","required":["word"],"properties":{
    "word":{"type":"string","x-low-cardinality":true,"x-column-id":101},
    "count":{"type":"integer","minimum":-5,"maximum":1e15,"x-max-field":"any","x-column-id":102},
    "ratio":{"type":"number","maximum":1e300,"x-column-id":103},
    "price":{"type":"string","x-decimal":[18,6],"x-column-id":104},
    "huge":{"type":"string","x-decimal":[38,0],"x-column-id":105},
    "at":{"type":"string","format":"date-time","x-column-id":106},
    "day":{"type":"string","format":"date","x-column-id":107},
    "yes":{"type":"boolean","x-column-id":108},
    "more":{"x-json":true,"x-column-id":109},
    "numbers":{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":4,"x-column-id":110},
    "words":{"type":"array","items":{"type":"string"},"x-column-id":111},
    "state":{"type":"string","enum":["on","off"],"x-column-id":112},
    "level":{"type":"integer","enum":[1,2],"x-column-id":113},
    "short":{"type":"string","minLength":2,"maxLength":4,"x-bloom":true,"x-column-id":114},
    "cents":{"type":"string","x-decimal":[5,2],"minimum":-1,"x-column-id":115},
    "any":{"type":"integer","x-column-id":116},
    "free":{"type":"number","x-column-id":117}}}"#;

const RESULT: &str = r#"{"type":"object","x-type":"game.result","properties":{
    "total":{"type":"integer","minimum":0,"x-column-id":101},
    "hit":{"type":"integer","minimum":0,"x-max-field":"total","x-column-id":102},
    "rate":{"type":"number","maximum":100,"x-percent-of":["hit","total"],"x-column-id":103}}}"#;

/// An event of every kind of value.
const CANONICAL: &str = r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T09:00:00.5+09:00","subject":"제목","userid":7,"sessionid":"z","specversion":"1.0","datacontenttype":"application/json","dataschema":"d","tracestate":"t","traceparent":"p","data":{"word":"한국어","count":-5,"ratio":-1.5,"price":"-999999999999.999999","huge":"99999999999999999999999999999999999999","at":"0001-01-01T00:00:00Z","day":"9999-12-31","yes":false,"more":{"a":[1,{"b":null}]},"numbers":[-1,0,9223372036854775807],"words":["가",""],"state":"on","level":2,"short":"abcd","cents":"-0.36","any":0,"free":1e5,"new":[1.50, "\ud83d\ude00\n"]}}"#;

fn registry() -> Registry {
    Registry::load([
        ("event.json", include_str!("../../../schemas/event.json")),
        ("kinds.json", KINDS),
        ("result.json", RESULT),
    ])
    .unwrap()
}

fn context(registry: &Registry) -> Acceptance<'_> {
    Acceptance {
        received: Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap(),
        zone: "Asia/Seoul".parse().unwrap(),
        default_source: Some("the \"key\""),
        default_type: None,
        max_age_days: Some(400),
        registry,
    }
}

/// What the quick way appends, what the slow one writes where it keeps the event's own time, and whether they name the event alike.
fn both(acceptor: &mut Acceptor<'_>, text: &str) -> (Option<String>, Option<String>, bool) {
    let mut quick = String::from("before");
    let sent = acceptor.accept(text, || "new".to_owned(), &mut quick);
    assert_eq!(sent.is_none(), quick == "before", "nothing is left of what was not accepted: {text}");
    let Ok(node) = json::parse_str(text) else { return (sent.map(|_| quick.split_off(6)), None, true) };
    let named = |name: &str| node.as_object().and_then(|object| object.get(name)).cloned();
    let alike = sent.is_none_or(|sent| {
        sent.id == named("id").as_ref().and_then(|node| node.as_str())
            && sent.source == named("source").as_ref().and_then(|node| node.as_str())
            && Some(sent.event_type) == named("type").as_ref().and_then(|node| node.as_str())
            && sent.time == named("time").filter(|node| node.value != Value::Null).map(|node| node.raw)
    });
    let slow = match Event::accept(node, acceptor.context(), || "new".to_owned()) {
        Ok((event, Clock::Kept)) => {
            let mut out = String::new();
            event.write(&mut out);
            Some(out)
        }
        _ => None,
    };
    (sent.map(|_| quick.split_off(6)), slow, alike)
}

/// Asserts that the quick way says nothing else than the slow one; answers whether it took the event.
fn compare(acceptor: &mut Acceptor<'_>, text: &str) -> bool {
    let (quick, slow, alike) = both(acceptor, text);
    let is_quick = quick.is_some();
    if is_quick {
        assert_eq!(quick, slow, "{text}");
    }
    assert!(alike, "{text}");
    is_quick
}

#[test]
fn events_as_they_mostly_are_go_the_quick_way() {
    let registry = registry();
    let mut acceptor = Acceptor::new(context(&registry));
    assert!(compare(&mut acceptor, CANONICAL));
    let files = ["web.event", "http.access", "game.result", "quote.trade"];
    let files = files.map(|name| std::fs::read_to_string(format!("../../schemas/{name}.json")).unwrap());
    let event = include_str!("../../../schemas/event.json");
    let bundled = Registry::load(files.iter().map(|file| ("f", file.as_str())).chain([("event", event)])).unwrap();
    let mut acceptor = Acceptor::new(context(&bundled));
    for i in 0..2_000 {
        assert!(compare(&mut acceptor, &bench_event(i)), "{}", bench_event(i));
    }
    // A play that cannot have been: what is said of it is said by the slow way.
    for (source, sent_first, is_quick) in
        [("square-blitz", true, false), ("square-blitz", false, false), ("other", true, true)]
    {
        let source = format!("\"source\":\"{source}\"");
        let rest =
            r#""type":"game.result","data":{"play_id":"p","total_squares":50,"clicked_count":2,"reaction_ms":[9,9]}"#;
        let text = if sent_first { format!("{{{source},{rest}}}") } else { format!("{{{rest},{source}}}") };
        assert_eq!(compare(&mut acceptor, &text), is_quick, "{text}");
    }
    for (reactions, is_quick) in
        [("[ 400 ,\n500]", true), ("[]", true), ("[3000,2700]", true), ("[8000]", false), ("[4e2]", false)]
    {
        let text = format!(
            r#"{{"source":"square-blitz","type":"game.result","data":{{"play_id":"p","total_squares":50,"clicked_count":2,"reaction_ms":{reactions}}}}}"#
        );
        assert_eq!(compare(&mut acceptor, &text), is_quick, "{text}");
    }
    let mut acceptor = Acceptor::new(context(&registry));
    for text in [
        r#"{"source":"s","type":"free text","data":{"a":{"a":[{"a":"\u00e9\\\/\b"}]},"b":-0.0e-7}}"#,
        r#"{"type":"x.y"}"#,
        " {\"type\":\"x.y\" ,\t\"data\":\"text\"}\r\n",
        r#"{"data":{"total":8,"hit":5},"type":"game.result","time":1795251600123.5}"#,
        r#"{"type":"game.result","data":{ "total" : 8, "hit":5 , "rate":62, "new":[1 ,2]}}"#,
        r#"{"type":"game.result","data":{"rate":null,"hit":5,"total":8}}"#,
        r#"{"type":"game.result","data":{"total":1}}"#,
        r#"{"type":"game.result","data":{}}"#,
    ] {
        assert!(compare(&mut acceptor, text), "{text}");
    }
}

#[test]
fn what_is_said_of_other_events_is_left_to_the_slow_way() {
    let registry = registry();
    let mut acceptor = Acceptor::new(context(&registry));
    let deep = format!("{}1{}", "[".repeat(15), "]".repeat(15));
    let kinds = |data: &str| format!(r#"{{"type":"test.kinds","data":{data}}}"#);
    for text in [
        "",
        "[]",
        "{}",
        r#"{"type":"x.y"}x"#,
        r#"{"type":"x.y","type":"x.y"}"#,
        r#"{"type":"x.y","data":{},"data":{}}"#,
        r#"{"type":"x.y","data":null}"#,
        r#"{"type":"x.y","data":{"a":1,"a":2}}"#,
        r#"{"type":"x.y","data":{"b":{"a":1,"\u0061":2}}}"#,
        r#"{"type":"x.y","data":{"a":01}}"#,
        r#"{"type":"x.y","data":{"a":"\ud800"}}"#,
        r#"{"type":"x.y","data":[1,]}"#,
        r#"{"type":"x.y","hops":1}"#,
        r#"{"type":"x.y","foo":1}"#,
        r#"{"type":"x.y","id":""}"#,
        r#"{"type":"x.y","id":null}"#,
        r#"{"type":"x.y","specversion":"1.1"}"#,
        r#"{"type":"x.y","time":"2020-01-01T00:00:00Z"}"#,
        r#"{"type":"x.y","time":"2026-11-22T10:00:01Z"}"#,
        r#"{"type":"x.y","time":"soon"}"#,
        r#"{"type":"test.kinds"}"#,
        &format!(r#"{{"type":"x.y","id":"{}"}}"#, "i".repeat(129)),
        &format!(r#"{{"type":"x.y","data":{{"a":{deep}}}}}"#),
        &kinds("{}"),
        &kinds("[]"),
        &kinds(r#"{"word":null}"#),
        &kinds(r#"{"word":"a","word":"b"}"#),
        &kinds(r#"{"word":"a","count":7,"any":6}"#),
        &kinds(r#"{"word":"a","count":-6}"#),
        &kinds(r#"{"word":"a","numbers":[]}"#),
        &kinds(r#"{"word":"a","numbers":[1,2,3,4,5]}"#),
        &kinds(r#"{"word":"a","short":"a"}"#),
        &kinds(r#"{"word":"a","state":"out"}"#),
        &kinds(r#"{"word":"a","level":3}"#),
        &kinds(r#"{"word":"a","cents":1000}"#),
        &kinds(r#"{"word":"a","cents":-2}"#),
        &kinds(r#"{"word":"a","day":"2026-02-30"}"#),
        &kinds(&format!(r#"{{"word":"a","more":{deep}}}"#)),
        r#"{"type":"game.result","data":{"total":8,"hit":9}}"#,
        r#"{"type":"game.result","data":{"total":8,"hit":5,"rate":60}}"#,
    ] {
        assert!(!compare(&mut acceptor, text), "{text}");
    }
    // As deep as it may be.
    let text = format!(r#"{{"type":"x.y","data":{{"a":{}}}}}"#, &deep[1..deep.len() - 1]);
    assert!(compare(&mut acceptor, &text));
}

#[test]
fn an_event_cut_or_changed_at_any_byte_is_judged_alike() {
    let registry = registry();
    let mut acceptor = Acceptor::new(context(&registry));
    let result = r#"{"type":"game.result","time":1795251600123.5,"userid":"7","data":{"total":8,"hit":5,"rate":62,"a":"\u00e9"}}"#;
    for text in [CANONICAL, result] {
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert!(!compare(&mut acceptor, &text[..at]));
            if !text.as_bytes()[at].is_ascii() {
                continue;
            }
            for with in ["", "\"", "\\", "0", "9", "-", ",", "}", "x", "\u{1}", " ", "null", "{}", "e"] {
                compare(&mut acceptor, &format!("{}{with}{}", &text[..at], &text[at + 1..]));
                compare(&mut acceptor, &format!("{}{with}{}", &text[..at], &text[at..]));
            }
        }
    }
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        (-20i64..20).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| n.to_string()),
        "-?[0-9]{1,20}(\\.[0-9]{1,4})?(e[0-9])?",
        "\"-?[0-9]{1,14}(\\.[0-9]{1,7})?\"",
        "\"2026-1[0-2]-[0-3][0-9]([T ]1[0-9]:0[0-9]:00(\\.[0-9]{1,7})?(Z|\\+09:00)?)?\"",
        "\"(on|off|[a-z가-힣]{0,5}|\\\\n|\\\\u00e9|\\\\\")\"",
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(("[ab]{1,2}", inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_event_is_judged_alike(
        event_type in prop_oneof![Just("test.kinds"), Just("game.result"), Just("x.y"), Just("free")],
        head in proptest::collection::vec((prop_oneof![Just("id"), Just("source"), Just("time"), Just("subject"), Just("userid"), Just("specversion"), Just("foo")], value()), 0..3),
        data in proptest::collection::vec((prop_oneof![Just("word"), Just("count"), Just("ratio"), Just("price"), Just("at"), Just("day"), Just("yes"), Just("more"), Just("numbers"), Just("words"), Just("state"), Just("level"), Just("short"), Just("cents"), Just("any"), Just("free"), Just("total"), Just("hit"), Just("rate"), Just("new")], value()), 0..8),
        is_last in any::<bool>(),
    ) {
        let registry = registry();
        let mut acceptor = Acceptor::new(context(&registry));
        let member = |(name, value): &(&str, String)| format!("\"{name}\":{value}");
        let data: Vec<String> = data.iter().map(member).collect();
        let mut members: Vec<String> = head.iter().map(member).collect();
        members.push(format!("\"type\":\"{event_type}\""));
        members.insert(if is_last { members.len() } else { 0 }, format!("\"data\":{{{}}}", data.join(",")));
        compare(&mut acceptor, &format!("{{{}}}", members.join(",")));
    }
}
