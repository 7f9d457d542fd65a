//! The quick reader of events answers what the slow, obvious one answers, whatever the text.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;
use sluice_columnar::ParquetEncoder;
use sluice_domain::demo::bench_event;
use sluice_domain::event::{Event, Shared};
use sluice_domain::json::{self, JsonErrorKind, Value};
use sluice_domain::lake::{Encoder, Misfit, TableBuilder};
use sluice_domain::message::{MAX_EVENT_DEPTH, MessageError};
use sluice_domain::scan::Events;
use sluice_domain::schema::Schema;
use sluice_domain::time::Timestamp;

const KINDS: &str = r#"{"type":"object","x-type":"test.kinds","x-sort":"word","properties":{
    "word":{"type":"string","x-low-cardinality":true,"x-column-id":101},
    "count":{"type":"integer","minimum":-5,"maximum":1e15,"x-column-id":102},
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
    "cents":{"type":"string","x-decimal":[5,2],"x-column-id":115},
    "any":{"type":"integer","x-column-id":116}}}"#;

const HEAD: &str = r#""id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z""#;

/// An event of every kind of value, as ingest writes them.
const CANONICAL: &str = r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00.000001Z","subject":"제목","userid":"007","sessionid":"z","specversion":"1.0","hops":2,"data":{"word":"한국어","count":-5,"ratio":-1.5,"price":"-999999999999.999999","huge":"99999999999999999999999999999999999999","at":"0001-01-01T00:00:00Z","day":"9999-12-31","yes":false,"more":{"a":[1,{"b":null}]},"numbers":[-1,0,9223372036854775807],"words":["가",""],"state":"on","level":2,"short":"abcd","cents":"-0.36","any":0,"new":[1.50],"old":"x"},"extra":{"old":7}}"#;

/// What becomes of a message: its file, and its events that are not in it.
#[derive(Debug, PartialEq)]
struct Outcome {
    file: Option<Bytes>,
    misfits: Vec<(usize, Misfit)>,
    unreadable: Vec<(usize, String, MessageError)>,
}

fn schema() -> Schema {
    Schema::parse("kinds", KINDS).unwrap()
}

fn shared() -> Shared<'static> {
    Shared { received: Timestamp::default(), client_ip: Some("10.0.0.0".into()), user_agent: None }
}

fn file(table: &dyn TableBuilder) -> Option<Bytes> {
    let rows: Vec<u32> = (0..table.rows()).collect();
    (!rows.is_empty()).then(|| Bytes::from(table.encode(&rows).unwrap().bytes))
}

/// Reads a message as `convert` does; beside the outcome, how many events were read the quick way. Nothing where it is not a list.
fn quick(schema: &Schema, text: &str) -> Option<(Outcome, usize)> {
    let shared = shared();
    let mut table = ParquetEncoder::new().table(schema).unwrap();
    let mut outcome = Outcome { file: None, misfits: Vec::new(), unreadable: Vec::new() };
    let (mut events, mut position, mut count) = (Events::new(text, &shared), 0, 0);
    while events.advance()? {
        if events.head().is_some_and(|(head, cursor)| table.push_text(head, cursor)) {
            count += 1;
        } else {
            match events.event()? {
                (raw, Err(e)) => outcome.unreadable.push((position, raw.to_owned(), e.into())),
                (_, Ok(event)) => outcome.misfits.extend(table.push(&event).err().map(|misfit| (position, misfit))),
            }
        }
        position += 1;
    }
    outcome.file = file(table.as_ref());
    Some((outcome, count))
}

/// Reads a message by its tree, event by event, value by value.
fn slow(schema: &Schema, text: &str) -> Option<Outcome> {
    let shared = shared();
    let Value::Array(nodes) = json::parse_within(text, MAX_EVENT_DEPTH).ok()?.value else { return None };
    let mut table = ParquetEncoder::new().table(schema).unwrap();
    let mut outcome = Outcome { file: None, misfits: Vec::new(), unreadable: Vec::new() };
    for (position, node) in nodes.into_iter().enumerate() {
        let raw = node.raw;
        match Event::read(node, &shared) {
            Err(e) => outcome.unreadable.push((position, raw.to_owned(), e.into())),
            Ok(event) => outcome.misfits.extend(table.push(&event).err().map(|misfit| (position, misfit))),
        }
    }
    outcome.file = file(table.as_ref());
    Some(outcome)
}

/// The value of a column of the only row, as the Parquet crate's record reader shows it.
fn value(file: &Bytes, column: &str) -> String {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
    let field = row.get_column_iter().find(|(name, _)| *name == column).unwrap().1;
    match field {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn events_as_ingest_writes_them_are_read_the_quick_way() {
    let (outcome, count) = quick(&schema(), &format!("[{CANONICAL},{CANONICAL}]")).unwrap();
    assert_eq!(count, 2);
    assert_eq!(Some(outcome), slow(&schema(), &format!("[{CANONICAL},{CANONICAL}]")));
    for (kind, file) in [
        ("web.event", include_str!("../../../schemas/web.event.json")),
        ("http.access", include_str!("../../../schemas/http.access.json")),
        ("game.result", include_str!("../../../schemas/game.result.json")),
        ("quote.trade", include_str!("../../../schemas/quote.trade.json")),
        // The table of events without a schema takes them all.
        ("event", include_str!("../../../schemas/event.json")),
    ] {
        let schema = Schema::parse(kind, file).unwrap();
        let texts: Vec<String> = (0..8_000).map(bench_event).filter(|text| text.contains(kind)).collect();
        let text = format!("[{}]", texts.join(","));
        let (outcome, count) = quick(&schema, &text).unwrap();
        assert_eq!(count, texts.len(), "{kind}");
        assert_eq!(Some(outcome), slow(&schema, &text), "{kind}");
    }
}

#[test]
fn valid_values_come_out_right() {
    let schema = schema();
    for (column, sent, expected) in [
        ("word", r#""a\"b\\c\/d\b\f\n\r\t""#, "a\"b\\c/d\u{8}\u{c}\n\r\t"),
        ("word", r#""\u00e9\u0000\uFFFF""#, "é\u{0}\u{ffff}"),
        ("word", r#""\ud83d\ude00 \uD834\uDD1E""#, "😀 𝄞"),
        ("word", "\"\u{7f}\u{80}\u{ffff}😀\"", "\u{7f}\u{80}\u{ffff}😀"),
        ("word", r#""""#, ""),
        ("word", r#""null""#, "null"),
        ("wor\\u0064", r#""x""#, "x"),
        ("any", "0", "0"),
        ("any", "-0", "0"),
        ("any", "9223372036854775807", "9223372036854775807"),
        ("any", "-9223372036854775808", "-9223372036854775808"),
        ("any", "5.0", "5"),
        ("any", "50e-1", "5"),
        ("any", "5E+2", "500"),
        ("ratio", "0.1", "0.1"),
        ("ratio", "-0.0", "-0.0"),
        ("ratio", "9007199254740993", "9007199254740992.0"),
        ("ratio", "9007199254740993.0", "9007199254740992.0"),
        ("ratio", "123456789012345678", "123456789012345680.0"),
        ("ratio", "1e-400", "0.0"),
        ("ratio", "2.2250738585072011e-308", "2.225073858507201E-308"),
        ("price", "\"007.50\"", "7.500000"),
        ("price", "1.5e3", "1500.000000"),
        ("price", "0.000001", "0.000001"),
        ("cents", "\"999.99\"", "999.99"),
        ("cents", "\"1.500\"", "1.50"),
        ("huge", "\"-1\"", "-1"),
        ("at", "\"2026-11-21T19:00:00.5+09:00\"", "2026-11-21 10:00:00.500000 +00:00"),
        ("at", "\"2026-11-21 10:00:00\"", "2026-11-21 10:00:00.000000 +00:00"),
        ("at", "1795255200000", "2026-11-21 10:00:00.000000 +00:00"),
        ("day", "\"2000-02-29\"", "2000-02-29"),
        ("numbers", " [ 1 , null ,\t-2 ] ", "[1, null, -2]"),
        ("words", r#"["\n",null]"#, "[\"\n\", null]"),
        ("more", r#"{ "k" : "\u0041" }"#, r#"{ "k" : "\u0041" }"#),
        ("state", r#""\u006fn""#, "on"),
        ("level", "2", "2"),
        ("yes", "null", "null"),
        ("unknown", "[1.50]", "null"),
    ] {
        let text = format!("[ {{ {HEAD} , \"data\" :{{\"{column}\": {sent} }} }} ]\r\n\t ");
        let compact = format!("[{{{HEAD},\"data\":{{\"{column}\":{sent}}}}}]");
        for text in [text, compact] {
            let (outcome, _) = quick(&schema, &text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(outcome.misfits, [], "{text}");
            let file = outcome.file.clone().unwrap();
            let column = column.replace("\\u0064", "d");
            if column == "unknown" {
                assert_eq!(value(&file, "extra"), r#"{"unknown":[1.50]}"#);
            } else {
                let shown = value(&file, &column);
                let floats = shown.parse::<f64>().ok().zip(expected.parse::<f64>().ok());
                let same = floats.is_some_and(|(a, b)| a.to_bits() == b.to_bits());
                assert!(shown == expected || same, "{text}: `{shown}` for `{expected}`");
            }
            assert_eq!(Some(outcome), slow(&schema, &text), "{text}");
        }
    }
}

#[test]
fn values_that_do_not_fit_are_refused_with_their_reason() {
    let schema = schema();
    for (column, sent, word) in [
        ("word", "1", "must be text"),
        ("any", "1.5", "whole number"),
        ("any", "9223372036854775808", "beyond 64 bits"),
        ("any", "\"1\"", "whole number"),
        ("count", "-6", "must be in"),
        ("count", "1000000000000001", "must be in"),
        ("ratio", "1e999", "64-bit float"),
        ("ratio", "true", "must be a number"),
        ("price", "\"1.0000001\"", "more than 6 digits"),
        ("price", "\"9999999999999\"", "more than 18 digits"),
        ("price", "\"1 \"", "not a decimal"),
        ("price", "\"+1\"", "not a decimal"),
        ("price", "\".5\"", "not a decimal"),
        ("price", "\"\"", "not a decimal"),
        ("cents", "\"1000\"", "more than 5 digits"),
        ("at", "\"2026-02-30T00:00:00Z\"", "RFC 3339"),
        ("day", "\"2026-2-3\"", "not a day"),
        ("yes", "1", "true or false"),
        ("numbers", "[]", "0 elements"),
        ("numbers", "[1,2,3,4,5]", "5 elements"),
        ("numbers", "[1,2.5]", "[1] must be"),
        ("numbers", "7", "a list"),
        ("state", "\"broken\"", "one of on, off"),
        ("level", "3", "one of 1, 2"),
        ("short", "\"a\"", "1 characters"),
        ("short", "\"가나다라마\"", "5 characters"),
    ] {
        let good = format!("{{{HEAD},\"data\":{{\"word\":\"good\",\"numbers\":[7]}}}}");
        let text = format!("[{good},{{{HEAD},\"data\":{{\"words\":[\"x\"],\"{column}\":{sent}}}}},{good}]");
        let (outcome, count) = quick(&schema, &text).unwrap();
        assert_eq!(count, 2, "{text}");
        let [(1, misfit)] = outcome.misfits.as_slice() else { panic!("{text}: {:?}", outcome.misfits) };
        assert_eq!(misfit.pointer, format!("/data/{column}"));
        assert!(misfit.reason.contains(word), "{text}: {}", misfit.reason);
        assert_eq!(Some(outcome), slow(&schema, &text), "the row before it is whole, and nothing of it is left");
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_reason() {
    use JsonErrorKind::{
        ControlCharacter, DuplicateKey, InvalidEscape, InvalidNumber, TooDeep, TrailingText, Unexpected, UnexpectedEnd,
    };
    let schema = schema();
    let deep = format!("{}1{}", "[".repeat(MAX_EVENT_DEPTH - 2), "]".repeat(MAX_EVENT_DEPTH - 2));
    for (data, kind) in [
        (r#"{"any":01}"#, InvalidNumber),
        (r#"{"any":-}"#, InvalidNumber),
        (r#"{"any":+1}"#, InvalidNumber),
        (r#"{"any":1.}"#, InvalidNumber),
        (r#"{"any":.1}"#, Unexpected('.')),
        (r#"{"any":1e}"#, InvalidNumber),
        (r#"{"any":0x1}"#, InvalidNumber),
        (r#"{"any":1_0}"#, InvalidNumber),
        (r#"{"any":NaN}"#, InvalidNumber),
        (r#"{"numbers":[1,02]}"#, InvalidNumber),
        (r#"{"numbers":[1,]}"#, Unexpected(']')),
        (r#"{"numbers":[,1]}"#, Unexpected(',')),
        (r#"{"word":"\x"}"#, InvalidEscape),
        (r#"{"word":"\ud800"}"#, InvalidEscape),
        (r#"{"word":"\udc00"}"#, InvalidEscape),
        (r#"{"word":"\ud800\u0041"}"#, InvalidEscape),
        (r#"{"word":"\u00g0"}"#, InvalidEscape),
        ("{\"word\":\"a\nb\"}", ControlCharacter),
        ("{\"word\":\"long enough for words of eight\u{0}\"}", ControlCharacter),
        (r#"{"word":'x'}"#, Unexpected('\'')),
        (r#"{"word":True}"#, Unexpected('T')),
        (r#"{"yes":tru}"#, Unexpected('t')),
        (r#"{"yes":truee}"#, Unexpected('e')),
        (r#"{"yes":nulll}"#, Unexpected('l')),
        (r#"{"word":"a","word":"b"}"#, DuplicateKey("word".into())),
        (r#"{"word":null,"word":"b"}"#, DuplicateKey("word".into())),
        (r#"{"word":"a","word":null}"#, DuplicateKey("word".into())),
        (r#"{"word":null,"word":null}"#, DuplicateKey("word".into())),
        (r#"{"word":"a","\u0077ord":"b"}"#, DuplicateKey("word".into())),
        (r#"{"new":1,"new":2}"#, DuplicateKey("new".into())),
        (r#"{"more":{"a":1,"a":2}}"#, DuplicateKey("a".into())),
        (r#"{"word":"a",}"#, Unexpected('}')),
        (r#"{"word" "a"}"#, Unexpected('"')),
        (r#"{word:"a"}"#, Unexpected('w')),
        (r#"{"word":"a" "any":1}"#, Unexpected('"')),
        (r#"{"word":"a"}]"#, Unexpected(']')),
        (&format!("{{\"new\":{deep}}}"), TooDeep),
        (&format!("{{\"more\":{deep}}}"), TooDeep),
        (r#"{},"data":{}"#, DuplicateKey("data".into())),
        (r#"{},"id":"2""#, DuplicateKey("id".into())),
        (r#"{},"extra":{},"extra":{}"#, DuplicateKey("extra".into())),
        (r#"{"#, UnexpectedEnd),
        (r#"{}}],[{"#, TrailingText),
    ] {
        let text = format!("[{{{HEAD},\"data\":{data}}}]");
        let text = if kind == UnexpectedEnd { text.trim_end_matches("}]").to_owned() } else { text };
        assert_eq!(json::parse_within(&text, MAX_EVENT_DEPTH).unwrap_err().kind, kind, "{text}");
        assert!(quick(&schema, &text).is_none(), "{text}");
    }
    for text in ["", "[", "{}", "[1]", "[[]]", "null", "[] x", "[{}", "[{},]", "[,{}]", "[{} {}]", "\u{feff}[]", "[]"] {
        assert_eq!(quick(&schema, text).map(|(outcome, _)| outcome), slow(&schema, text), "{text}");
    }
}

#[test]
fn a_message_cut_at_any_byte_is_refused() {
    let schema = schema();
    let text = format!("[{CANONICAL},{CANONICAL}]");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        assert!(quick(&schema, &text[..end]).is_none() && slow(&schema, &text[..end]).is_none(), "{end}");
    }
}

#[test]
fn a_message_with_any_byte_changed_is_read_alike() {
    let schema = schema();
    let text = format!("[{CANONICAL}]");
    for at in (0..text.len()).filter(|at| text.as_bytes()[*at].is_ascii()) {
        for with in ["", "\"", "\\", "0", ",", "}", "x", "\u{1}", " "] {
            let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            let (quick, slow) = (quick(&schema, &changed).map(|(outcome, _)| outcome), slow(&schema, &changed));
            assert!(quick == slow, "{changed}\n{quick:?}\n{slow:?}");
        }
    }
}

fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
        "[a-c가]{0,6}".prop_map(|s| format!("\"{s}\"")),
        "\"(\\\\u00[0-9a-f]{2}|\\\\n|\\\\ud83d\\\\ude00|[a-z]){0,6}\"",
        any::<i64>().prop_map(|n| n.to_string()),
        (-3i64..9).prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        "\"-?[0-9]{1,20}(\\.[0-9]{1,8})?\"",
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        "\"20[0-9]{2}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-]0[0-9]:[0-5]0)?)?\"",
        "\\[( ?-?[0-9]{1,19} ?, ?){0,4}(null|[0-9]|\"x\")\\]",
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        Just("{\"a\":[1,{\"b\":null}]}".to_owned()),
        Just("[]".to_owned()),
        Just("\"on\"".to_owned()),
    ]
}

fn event() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => proptest::sample::select(vec![
            "word", "count", "ratio", "price", "huge", "at", "day", "yes", "more", "numbers", "words", "state", "level",
            "short", "cents", "any",
        ]).prop_map(str::to_owned),
        1 => "[a-z]{1,3}",
    ];
    let fields = proptest::collection::vec((name, json_value()), 0..10);
    let head = proptest::sample::subsequence(
        vec![
            "\"subject\":\"가\"",
            "\"userid\":\"1\"",
            "\"hops\":1",
            "\"specversion\":\"1.0\"",
            "\"subject\":\"\\n\"",
            "\"hops\":1.5",
            "\"new\":[]",
            "\"time\":\"soon\"",
            "\"data_base64\":\"AA==\"",
        ],
        0..3,
    );
    let tail = prop_oneof![
        6 => Just(""),
        1 => Just(",\"extra\":{\"word\":1,\"p\":\"q\"}"),
        1 => Just(",\"extra\":{}"),
        1 => Just(",\"extra\":7"),
        1 => Just(",\"subject\":\"late\""),
    ];
    let space = proptest::sample::select(vec!["", "", "", " ", "\n\t"]);
    (0u8..9, 0u32..60, head, fields, tail, space).prop_map(|(id, second, head, fields, tail, space)| {
        let head: String = head.iter().map(|member| format!("{member},{space}")).collect();
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}{space}")).collect();
        format!(
            r#"{{"id":"{id}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:{second:02}Z",{head}"data":{{{}}}{tail}{space}}}"#,
            fields.join(",")
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn messages_are_read_alike(events in proptest::collection::vec(event(), 1..6)) {
        let schema = schema();
        let text = format!("[{}]", events.join(","));
        prop_assert_eq!(quick(&schema, &text).map(|(outcome, _)| outcome), slow(&schema, &text));
        // One after the other too: one that repeats a key makes the whole message unreadable.
        for event in events {
            let text = format!("[{event}]");
            prop_assert_eq!(quick(&schema, &text).map(|(outcome, _)| outcome), slow(&schema, &text));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}\":,0-9a-e.\\\\ -]{0,60}") {
        let schema = schema();
        for text in [text.clone(), format!("[{{{HEAD},\"data\":{{{text}}}}}]"), format!("[{{{HEAD},{text}}}]")] {
            prop_assert_eq!(quick(&schema, &text).map(|(outcome, _)| outcome), slow(&schema, &text));
        }
    }
}
