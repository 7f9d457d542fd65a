//! Events go into a file and come out of it, read by the Parquet reader, as they were.
#![allow(clippy::unwrap_used)]

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{BoundaryOrder, Compression};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use proptest::prelude::*;
use sluice_columnar::{ParquetEncoder, arrow_schema};
use sluice_domain::event::{Data, Event, Shared};
use sluice_domain::json;
use sluice_domain::lake::{EncodedFile, Encoder, Misfit};
use sluice_domain::scan::Events;
use sluice_domain::schema::{Cell, Schema, decimal_text};
use sluice_domain::time::Timestamp;
use std::ops::Range;

const KINDS: &str = r#"{"type":"object","x-type":"test.kinds","x-sort":"word","properties":{
    "word":{"type":"string","x-bloom":true,"x-column-id":101},
    "count":{"type":"integer","x-column-id":102},
    "ratio":{"type":"number","x-column-id":103},
    "price":{"type":"string","x-decimal":[18,6],"x-column-id":104},
    "huge":{"type":"string","x-decimal":[38,0],"x-column-id":105},
    "at":{"type":"string","format":"date-time","x-column-id":106},
    "day":{"type":"string","format":"date","x-column-id":107},
    "yes":{"type":"boolean","x-column-id":108},
    "more":{"x-json":true,"x-column-id":109},
    "numbers":{"type":"array","items":{"type":"integer"},"x-column-id":110},
    "words":{"type":"array","items":{"type":"string"},"x-column-id":111},
    "state":{"type":"string","enum":["on","off"],"x-column-id":112}}}"#;

const GENERIC: &str = r#"{"type":"object","x-type":"event","x-sort":"type","properties":{
    "data":{"x-json":true,"x-column-id":101},"data_base64":{"type":"string","x-column-id":102}}}"#;

fn kinds() -> Schema {
    Schema::parse("kinds", KINDS).unwrap()
}

fn generic() -> Schema {
    Schema::parse("event", GENERIC).unwrap()
}

fn shared() -> Shared<'static> {
    Shared {
        received: Timestamp::from_micros(1_795_255_200_000_000).unwrap(),
        client_ip: Some("10.0.0.0".into()),
        user_agent: None,
    }
}

fn event(text: &str) -> Event<'_> {
    Event::read(json::parse_str(text).unwrap(), &shared()).unwrap()
}

/// Events as they come in a message, the quick way where there is one: their file, and by their position those that do not fit.
fn encode(schema: &Schema, texts: &[impl AsRef<str>]) -> (Option<EncodedFile>, Vec<(usize, Misfit)>) {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let (message, shared) = (format!("[{}]", texts.join(",")), shared());
    let mut table = ParquetEncoder::new().table(schema).unwrap();
    let mut events = Events::new(&message, &shared);
    let mut misfits = Vec::new();
    let mut position = 0;
    while events.advance().unwrap() {
        let quick = events.head().is_some_and(|(head, cursor)| table.push_text(head, cursor));
        if !quick {
            let (_, event) = events.event().unwrap();
            misfits.extend(table.push(&event.unwrap()).err().map(|misfit| (position, misfit)));
        }
        position += 1;
    }
    assert_eq!(position, texts.len());
    assert_eq!(table.rows() as usize + misfits.len(), texts.len());
    let rows: Vec<u32> = (0..table.rows()).collect();
    ((!rows.is_empty()).then(|| table.encode(&rows).unwrap()), misfits)
}

fn read(schema: &Schema, file: &EncodedFile) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.bytes.clone())).unwrap();
    assert_eq!(
        reader.schema().fields(),
        arrow_schema(schema).fields(),
        "the reader sees our schema, field ids included"
    );
    reader.build().unwrap().map(|batch| batch.unwrap()).collect()
}

/// All values of a column as text.
fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    batches
        .iter()
        .flat_map(|batch| {
            let array = batch.column_by_name(name).unwrap();
            (0..array.len()).map(|row| shown(array, row)).collect::<Vec<_>>()
        })
        .collect()
}

fn shown(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "null".into();
    }
    match array.data_type() {
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            decimal_text(array.as_primitive::<Decimal128Type>().value(row), u8::try_from(*scale).unwrap())
        }
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<String> = (0..items.len()).map(|i| shown(&items, i)).collect();
            format!("[{}]", items.join(","))
        }
        other => panic!("{other}"),
    }
}

fn shown_cell(schema: &Schema, name: &str, event: &Event<'_>) -> String {
    fn show(cell: &Cell<'_>, scale: u8) -> String {
        match cell {
            Cell::Null => "null".into(),
            Cell::Integer(n) | Cell::Timestamp(n) => n.to_string(),
            Cell::Number(n) => format!("{n:?}"),
            Cell::Decimal(n) => decimal_text(*n, scale),
            Cell::Text(s) | Cell::Json(s) => format!("{s:?}"),
            Cell::Date(d) => d.to_string(),
            Cell::Boolean(b) => b.to_string(),
            Cell::List(cells) => format!("[{}]", cells.iter().map(|c| show(c, scale)).collect::<Vec<_>>().join(",")),
        }
    }
    let Data::Json(data) = &event.data else { return "null".into() };
    let Some(node) = data.as_object().unwrap().get(name) else { return "null".into() };
    let column = &schema.columns[schema.column_index(name).unwrap()];
    show(&column.read(node).unwrap(), if name == "price" { 6 } else { 0 })
}

#[test]
fn every_kind_of_value_comes_back_at_its_extremes() {
    let schema = kinds();
    let texts = [
        r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00.000001Z","subject":"제목","userid":"007",
            "hops":2,"data":{"word":"한국어 \"텍스트\"\n😀","count":-9223372036854775808,"ratio":-1.5e-300,"price":"-999999999999.999999",
            "huge":99999999999999999999999999999999999999,"at":"0001-01-01T00:00:00Z","day":"9999-12-31","yes":false,
            "more":{"a":[1,{"b":null}]},"numbers":[9223372036854775807,null,-1],"words":["가","",null],"state":"on"}}"#,
        r#"{"id":"2","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":{"word":null,"numbers":[],"more":"x"}}"#,
        r#"{"id":"3","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z"}"#,
    ];
    let (file, misfits) = encode(&schema, &texts);
    let file = file.unwrap();
    assert_eq!((file.rows, misfits.len()), (3, 0));
    assert_eq!(file.max_time.micros() - file.min_time.micros(), 1);
    let rows = read(&schema, &file);
    assert_eq!(column(&rows, "id"), ["\"2\"", "\"3\"", "\"1\""]);
    assert_eq!(column(&rows, "word"), ["null", "null", r#""한국어 \"텍스트\"\n😀""#]);
    assert_eq!(column(&rows, "count")[2], "-9223372036854775808");
    assert_eq!(column(&rows, "ratio")[2], "-1.5e-300");
    assert_eq!(column(&rows, "price")[2], "-999999999999.999999");
    assert_eq!(column(&rows, "huge")[2], "99999999999999999999999999999999999999");
    assert_eq!(column(&rows, "at")[2], "-62135596800000000");
    assert_eq!(column(&rows, "day")[2], "2932896");
    assert_eq!(column(&rows, "yes"), ["null", "null", "false"]);
    assert_eq!(column(&rows, "more"), [r#""\"x\"""#, "null", r#""{\"a\":[1,{\"b\":null}]}""#]);
    assert_eq!(column(&rows, "numbers"), ["[]", "null", "[9223372036854775807,null,-1]"]);
    assert_eq!(column(&rows, "words"), ["null", "null", r#"["가","",null]"#]);
    assert_eq!(column(&rows, "subject"), ["null", "null", "\"제목\""]);
    assert_eq!(column(&rows, "userid")[2], "\"007\"");
    assert_eq!(column(&rows, "hops")[2], "2");
    assert_eq!(column(&rows, "clientip")[0], "\"10.0.0.0\"");
    assert_eq!(column(&rows, "receivedtime")[0], "1795255200000000");
    assert_eq!(column(&rows, "useragent")[0], "null");
}

#[test]
fn unknown_fields_and_attributes_stand_in_extra_fields_first() {
    let schema = kinds();
    let text = r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z",
        "data":{"colour":"red","word":"w","depth":{"x":1.50}},"extra":{"colour":7,"partitionkey":"p"}}"#;
    let (file, _) = encode(&schema, &[text]);
    let rows = read(&schema, &file.unwrap());
    let extra: Vec<String> = column(&rows, "extra");
    assert_eq!(extra, [format!("{:?}", r#"{"colour":"red","depth":{"x":1.50},"ce-colour":7,"partitionkey":"p"}"#)]);
}

#[test]
fn rows_are_sorted_and_the_file_says_so() {
    let schema = kinds();
    let make = |word: &str, time: u32, source: &str, id: &str| {
        format!(
            r#"{{"id":"{id}","source":"{source}","type":"test.kinds","time":"2026-11-21T10:00:{time:02}Z","data":{{"word":{word}}}}}"#
        )
    };
    let texts = [
        make("\"b\"", 1, "s", "1"),
        make("\"a long common beginning 2\"", 9, "s", "2"),
        make("\"a long common beginning 1\"", 9, "s", "3"),
        make("null", 5, "s", "4"),
        make("\"b\"", 0, "s", "5"),
        make("\"b\"", 1, "r", "6"),
        make("\"b\"", 1, "s", "0"),
        make("\"a\"", 9, "s", "7"),
    ];
    let file = encode(&schema, &texts).0.unwrap();
    let ids: String = column(&read(&schema, &file), "id").iter().map(|id| id.trim_matches('"')).collect();
    assert_eq!(ids, "47325601");
    let reader = SerializedFileReader::new(Bytes::from(file.bytes)).unwrap();
    let group = reader.metadata().row_group(0);
    let sorting: Vec<(i32, bool, bool)> =
        group.sorting_columns().unwrap().iter().map(|s| (s.column_idx, s.descending, s.nulls_first)).collect();
    assert_eq!(sorting, [(17, false, true), (3, false, true), (1, false, true), (0, false, true)]);
}

#[test]
fn numbers_and_days_sort_by_value() {
    for (kind, values) in [
        (r#""type":"integer""#, ["-9223372036854775808", "-2", "0", "10", "9223372036854775807"]),
        (r#""type":"number""#, ["-1e300", "-2", "0", "0.1", "1e300"]),
        (r#""type":"string","x-decimal":[38,2]"#, ["-10000000000000000", "-2", "0", "0.01", "99999999999999999999"]),
        (r#""type":"boolean""#, ["null", "false", "false", "true", "true"]),
        (
            r#""type":"string","format":"date""#,
            ["\"0001-01-01\"", "\"1969-12-31\"", "\"1970-01-01\"", "\"2026-11-21\"", "\"9999-12-31\""],
        ),
    ] {
        let file = format!(
            r#"{{"type":"object","x-type":"test.sort","x-sort":"v","properties":{{"v":{{{kind},"x-column-id":101}}}}}}"#
        );
        let schema = Schema::parse("f", &file).unwrap();
        let texts: Vec<String> = [3, 1, 4, 0, 2]
            .map(|i: usize| {
                format!(
                    r#"{{"id":"{i}","source":"s","type":"test.sort","time":"2026-11-21T10:00:0{i}Z","data":{{"v":{}}}}}"#,
                    values[i]
                )
            })
            .into();
        let ids = column(&read(&schema, &encode(&schema, &texts).0.unwrap()), "id").concat();
        assert_eq!(ids, r#""0""1""2""3""4""#, "{kind}");
    }
}

#[test]
fn an_event_that_does_not_fit_is_named_and_its_neighbours_are_written() {
    let schema = kinds();
    let make = |id: u32, rest: &str| {
        format!(r#"{{"id":"{id}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z"{rest}}}"#)
    };
    let texts = [
        make(0, r#","data":{"word":"x","numbers":[1,"2"]}"#),
        make(1, r#","data":{"word":"x","count":1}"#),
        make(2, r#","data":{"word":7}"#),
        make(3, r#","data":[1]"#),
        make(4, r#","data_base64":"AAAA""#),
        make(5, r#","data":{"state":"broken"}"#),
    ];
    let (file, misfits) = encode(&schema, &texts);
    let file = file.unwrap();
    assert_eq!(file.rows, 1);
    assert_eq!(column(&read(&schema, &file), "id"), ["\"1\""]);
    let named: Vec<(usize, &str)> = misfits.iter().map(|(i, m)| (*i, m.pointer.as_str())).collect();
    assert_eq!(named, [(0, "/data/numbers"), (2, "/data/word"), (3, "/data"), (4, "/data_base64"), (5, "/data/state")]);
    assert!(misfits[0].1.reason.contains("[1] must be a whole number"), "{}", misfits[0].1.reason);
}

#[test]
fn nothing_that_fits_makes_no_file() {
    assert_eq!(encode(&kinds(), &[""; 0]), (None, Vec::new()));
    let text = r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":1}"#;
    let (file, misfits) = encode(&kinds(), &[text]);
    assert_eq!((file, misfits.len()), (None, 1));
}

#[test]
fn the_generic_table_keeps_any_payload() {
    let schema = generic();
    let make = |id: u32, rest: &str| {
        format!(r#"{{"id":"{id}","source":"s","type":"Any Thing","time":"2026-11-21T10:00:00Z"{rest}}}"#)
    };
    let texts = [
        make(0, r#","data":{"a": 1.50, "b":"가"},"extra":{"x":1}"#),
        make(1, r#","data":[1, 2]"#),
        make(2, r#","data":"text""#),
        make(3, r#","data_base64":"/+8=""#),
        make(4, ""),
        make(5, r#","data":{"data_base64":"not it"}"#),
    ];
    let (file, misfits) = encode(&schema, &texts);
    assert_eq!(misfits, []);
    let rows = read(&schema, &file.unwrap());
    let quoted = |texts: [&str; 6]| texts.map(|t| if t == "null" { t.to_owned() } else { format!("{t:?}") });
    let data = [
        r#"{"a": 1.50, "b":"가"}"#,
        r#"{"value":[1, 2]}"#,
        r#"{"value":"text"}"#,
        "null",
        "null",
        r#"{"data_base64":"not it"}"#,
    ];
    assert_eq!(column(&rows, "data"), quoted(data));
    assert_eq!(column(&rows, "data_base64"), quoted(["null", "null", "null", "/+8=", "null", "null"]));
    assert_eq!(column(&rows, "extra"), quoted([r#"{"x":1}"#, "null", "null", "null", "null", "null"]));
}

#[test]
fn a_generic_schema_without_payload_columns_loses_nothing() {
    let schema = Schema::parse("event", r#"{"type":"object","x-type":"event"}"#).unwrap();
    let make = |rest: &str| {
        format!(r#"{{"id":"1","source":"s","type":"a.b","time":"2026-11-21T10:00:00Z"{rest},"extra":{{"data":1}}}}"#)
    };
    let texts = [make(r#","data":{"a":1}"#), make(r#","data_base64":"AA==""#)];
    let rows = read(&schema, &encode(&schema, &texts).0.unwrap());
    let expected = [r#"{"data":{"a":1},"ce-data":1}"#, r#"{"data_base64":"AA==","data":1}"#];
    assert_eq!(column(&rows, "extra"), expected.map(|t| format!("{t:?}")));
}

#[test]
fn a_file_has_ids_statistics_page_index_bloom_filters_and_no_arrow_schema() {
    let schema = kinds();
    let texts: Vec<String> = (0..1000)
        .map(|i| {
            format!(
                r#"{{"id":"{i}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":{{"word":"w{i}","numbers":[{i}]}}}}"#
            )
        })
        .collect();
    let file = encode(&schema, &texts).0.unwrap();
    let reader = SerializedFileReader::new(Bytes::from(file.bytes)).unwrap();
    let meta = reader.metadata();
    assert_eq!(meta.file_metadata().created_by(), Some(concat!("sluice version ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(meta.file_metadata().key_value_metadata(), None);
    let root = meta.file_metadata().schema();
    let numbers = root.get_fields().iter().find(|f| f.name() == "numbers").unwrap();
    assert_eq!(numbers.get_basic_info().id(), 110);
    assert_eq!(numbers.get_fields()[0].get_fields()[0].get_basic_info().id(), 1110);
    assert_eq!(numbers.get_fields()[0].get_fields()[0].name(), "element");
    assert!(root.get_fields().iter().all(|f| f.get_basic_info().has_id()));
    let group = meta.row_group(0);
    let word = group.columns().iter().find(|c| c.column_path().string() == "word").unwrap();
    assert!(word.bloom_filter_offset().is_some());
    assert!(word.bloom_filter_length().unwrap() < 4096, "sized for the rows: {:?}", word.bloom_filter_length());
    for column in group.columns() {
        assert!(column.statistics().is_some() && column.offset_index_offset().is_some(), "{}", column.column_path());
        // What is the same in all rows is a few bytes, which a codec only makes more.
        let codec = match column.column_path().string().as_str() {
            "id" | "word" | "numbers.list.element" => Compression::ZSTD(Default::default()),
            _ => Compression::UNCOMPRESSED,
        };
        assert_eq!(column.compression(), codec, "{}", column.column_path());
    }
}

#[test]
fn rows_are_sorted_across_the_parts_in_which_they_are_held() {
    let schema = kinds();
    let filler = "x".repeat(400);
    // 7 and 80,000 have no common divisor, so that every word comes once.
    let texts: Vec<String> = (0..80_000u32)
        .map(|i| {
            let n = i * 7 % 80_000;
            let rest = if n % 2 == 0 { format!(",\"numbers\":[{n}]") } else { String::new() };
            format!(
                r#"{{"id":"{i}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":{{"word":"{n:06}","filler":"{filler}"{rest}}}}}"#
            )
        })
        .collect();
    let rows = read(&schema, &encode(&schema, &texts).0.unwrap());
    let expected: Vec<String> = (0..80_000).map(|n| format!("\"{n:06}\"")).collect();
    assert_eq!(column(&rows, "word"), expected);
    let numbers: Vec<String> = (0..80_000).map(|n| if n % 2 == 0 { format!("[{n}]") } else { "null".into() }).collect();
    assert_eq!(column(&rows, "numbers"), numbers);
    assert!(column(&rows, "day").iter().all(|day| day == "null"));
}

#[test]
fn what_pages_say_of_their_values_is_so() {
    let schema = kinds();
    // A third of the counts is missing, in the second page all of them; texts share more than statistics hold.
    let texts: Vec<String> = (0..50_000u32)
        .map(|i| {
            let count = if i % 3 == 0 || (20_000..40_000).contains(&i) { "null".into() } else { (50_000 - i).to_string() };
            format!(
                r#"{{"id":"{i}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":{{"word":"{}{i:06}","count":{count},"yes":{}}}}}"#,
                "가".repeat(30), i >= 40_000
            )
        })
        .collect();
    let file = encode(&schema, &texts).0.unwrap();
    let rows = read(&schema, &file);
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = reader.parse_and_finish(&Bytes::from(file.bytes)).unwrap();
    let columns = metadata.row_group(0).columns();
    let place = |name: &str| columns.iter().position(|c| c.column_path().string() == name).unwrap();
    let pages = |name: &str| -> Vec<Range<usize>> {
        let locations = metadata.offset_index().unwrap()[0][place(name)].page_locations();
        let starts: Vec<usize> = locations.iter().map(|l| usize::try_from(l.first_row_index).unwrap()).collect();
        let ends = starts.iter().skip(1).copied().chain([50_000]);
        starts.iter().zip(ends).map(|(start, end)| *start..end).collect()
    };
    let index = |name: &str| &metadata.column_index().unwrap()[0][place(name)];

    let ColumnIndexMetaData::BYTE_ARRAY(words) = index("word") else { panic!() };
    let values: Vec<String> = column(&rows, "word").iter().map(|word| word.trim_matches('"').to_owned()).collect();
    assert_eq!(index("word").get_boundary_order(), Some(BoundaryOrder::ASCENDING));
    assert!(pages("word").len() > 3, "text fills pages before rows do");
    for (i, page) in pages("word").into_iter().enumerate() {
        let (least, greatest) = (words.min_value(i).unwrap(), words.max_value(i).unwrap());
        assert!(least <= values[page.start].as_bytes() && greatest >= values[page.end - 1].as_bytes());
        assert!(least.len() <= 64 && greatest.len() <= 64);
    }
    assert!(!columns[place("word")].statistics().unwrap().max_is_exact());

    let ColumnIndexMetaData::INT64(counts) = index("count") else { panic!() };
    let values: Vec<Option<i64>> = column(&rows, "count").iter().map(|n| n.parse().ok()).collect();
    assert_eq!(pages("count").len(), 3);
    for (i, page) in pages("count").into_iter().enumerate() {
        let nulls = values[page.clone()].iter().filter(|n| n.is_none()).count();
        assert_eq!(counts.null_count(i), Some(nulls as i64));
        assert_eq!(counts.min_value(i).copied(), values[page.clone()].iter().flatten().min().copied());
        assert_eq!(counts.max_value(i).copied(), values[page].iter().flatten().max().copied());
    }
    assert_eq!(index("count").get_boundary_order(), Some(BoundaryOrder::DESCENDING));
    assert!(index("count").is_null_page(1) && !index("count").is_null_page(0));

    let ColumnIndexMetaData::BOOLEAN(yes) = index("yes") else { panic!() };
    assert_eq!((yes.max_value(0), yes.min_value(2)), (Some(&false), Some(&true)));
    let statistics = columns[place("count")].statistics().unwrap();
    let Statistics::Int64(count) = statistics else { panic!() };
    assert_eq!((count.min_opt(), count.max_opt()), (values.iter().flatten().min(), values.iter().flatten().max()));
    assert!(counts.min_value(0) > counts.min_value(2), "the least value is not in the first page");
    assert_eq!(
        statistics.null_count_opt(),
        Some(column(&rows, "count").iter().filter(|n| *n == "null").count() as u64)
    );
}

#[test]
fn some_rows_of_a_table_make_a_file_of_their_own() {
    let (schema, shared) = (kinds(), shared());
    let event = |id: u32, data: &str| {
        format!(r#"{{"id":"{id}","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00Z","data":{{{data}}}}}"#)
    };
    let texts = [
        event(0, r#""word":"b","numbers":[1]"#),
        event(1, r#""word":"never","numbers":[2,3],"count":7"#),
        event(2, r#""numbers":[]"#),
        event(3, r#""word":"a","numbers":[4,null]"#),
    ];
    let message = format!("[{}]", texts.join(","));
    let mut table = ParquetEncoder::new().table(&schema).unwrap();
    let mut events = Events::new(&message, &shared);
    while events.advance().unwrap() {
        let (head, cursor) = events.head().unwrap();
        assert!(table.push_text(head, cursor));
    }
    let file = table.encode(&[0, 2, 3]).unwrap();
    assert_eq!(file.rows, 3);
    assert!(!file.bytes.windows(5).any(|bytes| bytes == b"never"), "nothing of the other row is in it");
    let rows = read(&schema, &file);
    assert_eq!(column(&rows, "word"), ["null", "\"a\"", "\"b\""]);
    assert_eq!(column(&rows, "numbers"), ["[]", "[4,null]", "[1]"]);
    assert_eq!(column(&rows, "count"), ["null"; 3]);
}

#[test]
fn many_rows_and_much_text_are_written_in_bounded_parts() {
    let schema = generic();
    let filler = "x".repeat(1000);
    let texts: Vec<String> = (0..70_000)
        .map(|i| {
            format!(
                r#"{{"id":"{i:06}","source":"s","type":"a.b","time":"2026-11-21T10:00:00Z","data":{{"n":{i},"f":"{filler}"}}}}"#
            )
        })
        .collect();
    let file = encode(&schema, &texts).0.unwrap();
    assert_eq!(file.rows, 70_000);
    let rows = read(&schema, &file);
    let ids = column(&rows, "id");
    assert_eq!((ids.len(), ids[0].as_str(), ids[69_999].as_str()), (70_000, "\"000000\"", "\"069999\""));
    assert!(column(&rows, "data")[40_000].starts_with(r#""{\"n\":40000,"#));
}

/// One field with a value of its kind.
fn field() -> impl Strategy<Value = (&'static str, String)> {
    let string = || any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap());
    let integer = || prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -5i64..5].prop_map(|n| n.to_string());
    let time = || {
        (-62_135_596_800_000_000i64..253_402_300_799_999_999)
            .prop_map(|t| format!("{:?}", Timestamp::from_micros(t).unwrap().to_micros_text()))
    };
    fn list(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![9 => item, 1 => Just("null".to_owned())], 0..5)
            .prop_map(|items| format!("[{}]", items.join(",")))
    }
    prop_oneof![
        string().prop_map(|v| ("word", v)),
        "[가-힣]{0,20}".prop_map(|v| ("word", format!("{v:?}"))),
        integer().prop_map(|v| ("count", v)),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|v| ("ratio", format!("{v:?}"))),
        (-999_999_999_999_999_999i128..=999_999_999_999_999_999).prop_map(|v| ("price", decimal_text(v, 6))),
        any::<i128>().prop_map(|v| ("huge", format!("\"{}\"", v % 10i128.pow(38)))),
        time().prop_map(|v| ("at", v)),
        (-719_162i32..2_932_897).prop_map(|d| ("day", format!("{:?}", sluice_domain::time::date_text(d)))),
        any::<bool>().prop_map(|v| ("yes", v.to_string())),
        string().prop_map(|v| ("more", format!("{{\"k\":{v}}}"))),
        list(integer()).prop_map(|v| ("numbers", v)),
        list(string()).prop_map(|v| ("words", v)),
        Just(("state", "\"off\"".to_owned())),
        "[a-z]{1,3}".prop_map(|v| ("unknown", format!("{v:?}"))),
        Just(("count", "null".to_owned())),
    ]
}

fn event_text() -> impl Strategy<Value = String> {
    let fields = proptest::collection::vec(field(), 0..12);
    (any::<u8>(), "[ab]", 0u32..60, fields, proptest::option::of(any::<String>())).prop_map(
        |(id, source, second, fields, subject)| {
            let mut seen: Vec<&str> = Vec::new();
            let mut data = String::new();
            for (name, value) in fields {
                if !seen.contains(&name) {
                    let comma = if seen.is_empty() { "" } else { "," };
                    data.push_str(&format!("{comma}\"{name}\":{value}"));
                    seen.push(name);
                }
            }
            let subject = subject.map_or_else(String::new, |s| format!(",\"subject\":{}", serde_json::to_string(&s).unwrap()));
            format!(
                r#"{{"id":"{id}","source":"{source}","type":"test.kinds","time":"2026-11-21T10:00:{second:02}Z"{subject},"data":{{{data}}}}}"#
            )
        },
    )
}

/// The order that the documentation promises, by the slow way.
fn order_key(event: &Event<'_>) -> (Option<String>, i64, String, String) {
    let Data::Json(data) = &event.data else { panic!() };
    let word = data.as_object().unwrap().get("word").and_then(|n| n.as_str()).map(str::to_owned);
    (word, event.time.micros(), event.source.to_string(), event.id.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(texts in proptest::collection::vec(event_text(), 1..40)) {
        let schema = kinds();
        let mut events: Vec<Event<'_>> = texts.iter().map(|t| event(t)).collect();
        let (file, misfits) = encode(&schema, &texts);
        let file = file.unwrap();
        prop_assert_eq!(misfits, []);
        prop_assert_eq!(file.rows, texts.len() as u64);
        let rows = read(&schema, &file);
        events.sort_by_key(order_key);
        prop_assert_eq!(file.min_time, events.iter().map(|e| e.time).min().unwrap());
        for column_of in &schema.columns {
            let expected: Vec<String> = events.iter().map(|e| shown_cell(&schema, &column_of.name, e)).collect();
            prop_assert_eq!(column(&rows, &column_of.name), expected, "{}", column_of.name);
        }
        let text = |value: Option<&str>| value.map_or_else(|| "null".to_owned(), |v| format!("{v:?}"));
        for (name, expected) in [
            ("id", events.iter().map(|e| text(Some(&e.id))).collect::<Vec<_>>()),
            ("source", events.iter().map(|e| text(Some(&e.source))).collect()),
            ("type", events.iter().map(|e| text(Some(&e.event_type))).collect()),
            ("time", events.iter().map(|e| e.time.micros().to_string()).collect()),
            ("subject", events.iter().map(|e| text(e.subject.as_deref())).collect()),
        ] {
            prop_assert_eq!(column(&rows, name), expected, "{}", name);
        }
    }

    #[test]
    fn no_data_makes_it_panic(data in proptest::collection::vec("[a-z0-9\\[\\]{}:,\".-]{0,12}", 0..20)) {
        let texts: Vec<String> = data.iter().map(|d| {
            let value = if json::parse_str(d).is_ok() { d.clone() } else { serde_json::to_string(d).unwrap() };
            format!(r#"{{"id":"1","source":"s","type":"t","time":"2026-11-21T10:00:00Z","data":{{"word":{value},"count":{value}}}}}"#)
        }).collect();
            for schema in [kinds(), generic()] {
            let (file, misfits) = encode(&schema, &texts);
            prop_assert_eq!(file.map_or(0, |f| f.rows) as usize + misfits.len(), texts.len());
        }
    }
}
