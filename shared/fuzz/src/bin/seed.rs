//! Writes the inputs from which fuzzing starts into the folder that is named: `seed fuzz/corpus`.
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_domain::demo::bench_event;
use sluice_domain::event::Shared;
use sluice_domain::message::{Entry, pack};
use sluice_domain::time::Timestamp;
use std::path::Path;

/// An event of every kind of value, as ingest writes them.
const KINDS: &str = r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00.000001Z","subject":"제목","userid":"007","sessionid":"z","specversion":"1.0","data":{"word":"한국어","count":-5,"ratio":-1.5,"price":"-999999999999.999999","huge":"99999999999999999999999999999999999999","at":"0001-01-01T00:00:00Z","day":"9999-12-31","yes":false,"more":{"a":[1,{"b":null}]},"numbers":[-1,0,9223372036854775807],"times":["2026-11-21T10:00:00Z",1795255200],"state":"on","level":2,"short":"abcd","cents":"-0.36","any":8,"part":5,"rate":62,"new":[1.50]}}"#;

/// The same in other words.
const OTHER: &str = r#" { "data" : {"wor\u0064":"\ud83d\ude00\n","count":5e0,"ratio":1e-7,"price":1.5,"at":1795255200000,"any":5.0,"part":5,"rate":null,"numbers":[ 1 ,null],"more":{ }} ,"type":"test.kinds","time":1795255200.5,"userid":7,"id":null,"traceparent":"00-1"} "#;

const STATEMENTS: [&str; 12] = [
    "SELECT type, count(*) AS n FROM event WHERE time > $1 GROUP BY type ORDER BY n DESC LIMIT 10",
    "select memberid, e_c from web_event where url like '%x%' and e_v between $2 and 7",
    "WITH t AS (SELECT * FROM a UNION ALL SELECT * FROM b) SELECT t.id, $3 FROM t JOIN c ON t.id = c.id",
    "SELECT CASE WHEN a IS NULL THEN 1 ELSE -1 END, CAST(b AS DECIMAL(18, 6)), date_trunc('hour', time) FROM quote_trade",
    "SELECT sum(x) OVER (PARTITION BY a ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "EXPLAIN SELECT 1",
    "SHOW TABLES",
    "DESCRIBE web_event",
    "VALUES (1, 'a'), (2, $1)",
    "SELECT * FROM (SELECT DISTINCT a FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.a = t.a)) x /* c */ -- d",
    "DELETE FROM event",
    "SELECT \"BOTH\", both, [1, 2][1], {'a': 1}, interval '1' day, timestamp '2026-01-01 00:00:00' FROM t FETCH FIRST 3 ROWS ONLY",
];

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let mut seeds: Vec<(&str, String)> = Vec::new();
    let bench: Vec<String> = (0..4).map(bench_event).collect();
    let lists = [KINDS, OTHER.trim(), &bench[0], &format!("{KINDS},{KINDS}")].map(|events| format!("[{events}]"));
    seeds.extend(lists.iter().map(|list| ("decoder", list.clone())));
    seeds
        .extend([KINDS, OTHER].into_iter().chain(bench.iter().map(String::as_str)).map(|e| ("envelope", e.to_owned())));
    seeds.extend(STATEMENTS.map(|text| ("statement", text.to_owned())));
    let shared = Shared {
        received: Timestamp::from_micros(1_795_255_200_000_000).unwrap(),
        client_ip: Some("10.0.0.0".into()),
        user_agent: Some("curl \"8\"".into()),
    };
    for events in [vec![KINDS], vec![KINDS, &bench[1]], vec![KINDS; 12]] {
        let entry = |text: &&str| Entry { event_type: "test.kinds".to_owned(), text: (*text).to_owned() };
        let packed = pack("b", &shared, &events.iter().map(entry).collect::<Vec<_>>()).unwrap();
        seeds.push(("message", packed.published_as("p").body));
    }
    let zstd = STANDARD.encode(zstd::bulk::compress(lists[1].as_bytes(), 1).unwrap());
    let head = r#""v":1,"batch":"b","replay":true,"received":"2026-11-21T10:00:00Z","areas":[],"count":1,"types":{}"#;
    seeds.push(("message", format!("{{{head},\"zstd\":\"{zstd}\"}}")));
    seeds.push(("message", format!(" {{{head},\"events\": {}}}", lists[1])));
    for (number, (target, text)) in seeds.iter().enumerate() {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("seed-{number:02}")), text).unwrap();
    }
}
