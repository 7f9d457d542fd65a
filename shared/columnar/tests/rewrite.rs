//! Many files of a partition become few: sorted as a whole, one row per identity, whatever fits the memory at once.
#![allow(clippy::unwrap_used)]

use arrow::json::ArrayWriter;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::Value;
use sluice_columnar::{ParquetEncoder, ParquetRewriter, RewriteLimits};
use sluice_domain::event::{Event, Shared};
use sluice_domain::json;
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Erased, Rewriter};
use sluice_domain::schema::Schema;
use sluice_domain::time::Timestamp;
use std::collections::BTreeMap;

/// 2026-11-21T10:00:00Z.
const BEGIN: i64 = 1_795_255_200_000_000;
/// So little fits that every kind of limit is met.
const TINY: RewriteLimits = RewriteLimits { run_bytes: 30_000, identities: 60, file_bytes: 6_000, group_rows: 50 };

fn schema(columns: &str) -> Schema {
    let text = format!(r#"{{"type":"object","x-type":"test.kinds","x-sort":"word","properties":{{{columns}}}}}"#);
    Schema::parse("kinds", &text).unwrap()
}

fn kinds() -> Schema {
    schema(
        r#""word":{"type":"string","x-column-id":101},
        "count":{"type":"integer","x-column-id":102},
        "ratio":{"type":"number","x-column-id":103},
        "price":{"type":"string","x-decimal":[18,6],"x-column-id":104},
        "huge":{"type":"string","x-decimal":[38,0],"x-column-id":105},
        "at":{"type":"string","format":"date-time","x-column-id":106},
        "day":{"type":"string","format":"date","x-column-id":107},
        "yes":{"type":"boolean","x-column-id":108},
        "more":{"x-json":true,"x-column-id":109},
        "numbers":{"type":"array","items":{"type":"integer"},"x-column-id":110},
        "words":{"type":"array","items":{"type":"string"},"x-column-id":111}"#,
    )
}

fn file(schema: &Schema, received: i64, events: &[String]) -> Bytes {
    let shared = Shared { received: Timestamp::from_micros(received).unwrap(), client_ip: None, user_agent: None };
    let mut table = ParquetEncoder::new().table(schema).unwrap();
    for text in events {
        table.push(&Event::read(json::parse_str(text).unwrap(), &shared).unwrap()).unwrap();
    }
    let rows: Vec<u32> = (0..table.rows()).collect();
    table.encode(&rows).unwrap().bytes.into()
}

fn rewrite(
    schema: &Schema,
    limits: RewriteLimits,
    files: &[Bytes],
    erased: &Erased,
) -> Result<(Vec<EncodedFile>, u64, u64), EncodeError> {
    let rows = files.iter().map(|file| rows_of(file.clone()).len() as u64).sum();
    let mut rewrite = ParquetRewriter::new(limits).begin(schema, rows, erased)?;
    let mut gone = 0;
    for pass in 0..rewrite.passes() {
        for (number, file) in (0..).zip(files) {
            let shown = rewrite.show(number, file.clone())?;
            assert_eq!(shown.rows, rows_of(file.clone()).len() as u64);
            if pass == 0 {
                gone += shown.erased;
            }
        }
        rewrite.end_pass();
    }
    let mut repeated = 0;
    let mut taken = 0;
    for (number, file) in (0..).zip(files) {
        repeated += rewrite.repeated(number);
        taken += rewrite.take(number, file.clone())?;
    }
    let mut out = Vec::new();
    while let Some(file) = rewrite.next_file()? {
        out.push(file);
    }
    assert!(rewrite.next_file()?.is_none());
    assert_eq!(out.iter().map(|file| file.rows).sum::<u64>(), taken);
    Ok((out, repeated, gone))
}

/// The rows of a file as JSON, absent values left out.
fn rows_of(bytes: Bytes) -> Vec<Value> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let mut writer = ArrayWriter::new(Vec::new());
    for batch in reader {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let text = writer.into_inner();
    if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text).unwrap() }
}

fn text<'v>(row: &'v Value, name: &str) -> Option<&'v str> {
    row[name].as_str()
}

/// What rows are sorted by.
fn key(row: &Value) -> [Option<&str>; 4] {
    ["word", "time", "source", "id"].map(|name| text(row, name))
}

fn identity(row: &Value) -> [String; 3] {
    ["source", "id", "time"].map(|name| text(row, name).unwrap().to_owned())
}

/// An event of few distinct identities, all columns of which may be absent.
fn event() -> impl Strategy<Value = String> {
    let data = (0..64_u32, 0..9_i64, any::<bool>(), 0..4_usize);
    (0..40_u32, 0..3_u32, 0..20_i64, data).prop_map(|(id, source, second, (present, n, yes, length))| {
        let numbers: Vec<i64> = (0..length as i64).collect();
        let words: Vec<String> = (0..length).map(|i| format!("w{i}")).collect();
        let columns = [
            format!(r#""word":"w{n}""#),
            format!(r#""count":{n},"ratio":{n}.5"#),
            format!(r#""price":"{n}.25","huge":"9000000000000000000000{n}""#),
            format!(r#""at":"2026-11-21T10:00:0{n}Z","day":"2026-11-0{}""#, n + 1),
            format!(r#""yes":{yes},"more":{{"a":[{n}]}}"#),
            format!(r#""numbers":{},"words":{}"#, Value::from(numbers), Value::from(words)),
        ];
        let there = columns.iter().enumerate().filter(|(i, _)| present >> i & 1 == 1).map(|(_, column)| column.as_str());
        let data = there.collect::<Vec<_>>().join(",");
        let user = if n < 5 { format!(r#""userid":"u{n}","#) } else { String::new() };
        format!(
            r#"{{"id":"e{id}","source":"/s{source}","type":"test.kinds",{user}"time":"2026-11-21T10:00:{second:02}Z","data":{{{data}}}}}"#
        )
    })
}

fn files() -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec(event(), 1..40), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_identity_is_one_row_the_first_received_in_sorted_files(files in files(), erased in any::<bool>()) {
        let schema = kinds();
        // Later files were received earlier.
        let files: Vec<Bytes> =
            files.iter().enumerate().map(|(i, events)| file(&schema, BEGIN - i as i64, events)).collect();
        let mut expected: BTreeMap<[String; 3], Value> = BTreeMap::new();
        // Of the first user everything, of the other what was not received last.
        let until = |user: &str, micros| (user.to_owned(), Timestamp::from_micros(micros).unwrap());
        let users =
            if erased { Erased::from([until("u1", BEGIN), until("u3", BEGIN - 1)]) } else { Erased::default() };
        let is_erased = |row: &Value| {
            let received = Timestamp::parse_rfc3339(text(row, "receivedtime").unwrap()).unwrap();
            text(row, "userid").and_then(|user| users.get(user)).is_some_and(|until| received <= *until)
        };
        let (mut gone, mut kept) = (0, 0);
        for row in files.iter().flat_map(|file| rows_of(file.clone())) {
            if is_erased(&row) {
                gone += 1;
                continue;
            }
            kept += 1;
            let first = expected.entry(identity(&row)).or_insert_with(|| row.clone());
            if text(&row, "receivedtime") < text(first, "receivedtime") {
                *first = row;
            }
        }
        let repeated = kept - expected.len() as u64;
        let seen = files.iter().map(|file| ParquetRewriter::default().erased_rows(&schema, file.clone(), &users).unwrap());
        prop_assert_eq!(seen.sum::<u64>(), gone);
        for limits in [RewriteLimits::default(), TINY] {
            let (out, found, found_gone) = rewrite(&schema, limits, &files, &users).unwrap();
            prop_assert_eq!((found, found_gone), (repeated, gone));
            let mut all = Vec::new();
            for file in &out {
                let rows = rows_of(file.bytes.clone().into());
                prop_assert_eq!(rows.len() as u64, file.rows);
                let times = || rows.iter().map(|row| Timestamp::parse_rfc3339(text(row, "time").unwrap()).unwrap());
                prop_assert_eq!((times().min(), times().max()), (Some(file.min_time), Some(file.max_time)));
                all.extend(rows);
            }
            prop_assert!(all.is_sorted_by(|a, b| key(a) <= key(b)));
            let by_identity: BTreeMap<[String; 3], Value> = all.iter().map(|row| (identity(row), row.clone())).collect();
            prop_assert_eq!(by_identity.len(), all.len());
            prop_assert_eq!(&by_identity, &expected);
            if limits == TINY && kept > 250 {
                prop_assert!(out.len() > 1, "{} files of {} rows", out.len(), all.len());
            }
        }
    }
}

#[test]
fn what_was_written_before_a_column_was_added_has_none_and_unknown_columns_are_never_left_out() {
    let old = schema(r#""word":{"type":"string","x-column-id":101}"#);
    let new = schema(r#""word":{"type":"string","x-column-id":101},"count":{"type":"integer","x-column-id":102}"#);
    let event = |id: &str, data: &str| {
        format!(r#"{{"id":"{id}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":{{{data}}}}}"#)
    };
    let before = file(&old, BEGIN, &[event("a", r#""word":"x""#)]);
    let after = file(&new, BEGIN, &[event("b", r#""word":"w","count":7"#)]);
    let (out, ..) = rewrite(&new, RewriteLimits::default(), &[before.clone(), after.clone()], &Erased::new()).unwrap();
    let rows = rows_of(out[0].bytes.clone().into());
    let found: Vec<_> = rows.iter().map(|row| (text(row, "id"), row["count"].as_i64())).collect();
    assert_eq!(found, [(Some("b"), Some(7)), (Some("a"), None)]);
    let error = rewrite(&old, RewriteLimits::default(), &[before, after], &Erased::new()).unwrap_err();
    assert!(error.to_string().contains("column `count`"), "{error}");
}

#[test]
fn what_is_no_data_file_is_an_error() {
    let schema = kinds();
    let mut rewrite = ParquetRewriter::default().begin(&schema, 1, &Erased::new()).unwrap();
    assert!(rewrite.show(0, Bytes::from_static(b"PAR1 is not enough PAR1")).is_err());
}
