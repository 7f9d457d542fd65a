//! The audit: what the counters say, held against what the sinks durably have, per type and hour of receive time.
//!
//! What a sink has is read from the sink itself: of the lake the files that are recorded and in no table yet, and the tables. Files have to be
//! there in their size (and, where asked, their own footers have to say as many rows), and a table has to have the rows that were settled in
//! it, but those that were removed since by their own count ([`crate::compact`]). Of the search it is its documents. Detect leaves nothing behind but its counters. The counters are
//! read first and what was stored only grows, so a row that the counters have and the lake has not is lost whatever goes on meanwhile. What
//! can be seen a moment late (a document, a message on its way) is judged in closed hours only.

use super::{Counts, Sink, SinkCounts, by_hour};
use crate::compact;
use crate::groups::{self, RecordedFile, recorded_files, recorded_tables, settled_rows};
use crate::listing;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_domain::lake::RowCount;
use sluice_domain::schema::counted_as;
use sluice_domain::time::{HOUR_US, Timestamp};
use sluice_ports::{Catalog, Condition, ErrorKind, Key, Objects, PortError, Search, Table, TableFile, Write};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// After the end of an hour it is closed this much later.
const CLOSES_AFTER_US: i64 = HOUR_US;
/// Files read at the same time for their footers.
const CONCURRENT_READS: usize = 4;
/// Types in one hour that the search is asked for; there are no more by the ledger's own naming.
const MAX_TYPES: u64 = 10_000;
/// How often a table is looked at while others settle rows in it.
const LOOKS: usize = 8;
/// Problems that an audit tells by name; `problems` counts them all.
pub const MAX_TOLD: usize = 100;

/// What an audit reads.
#[derive(Clone)]
pub struct AuditPorts {
    /// Counters and recorded files.
    pub table: Arc<dyn Table>,
    /// The files themselves.
    pub objects: Arc<dyn Objects>,
    /// The documents.
    pub search: Arc<dyn Search>,
    /// The lake's tables; `None` where nobody makes them.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// Reads how many rows a file says that it has.
    pub row_count: Arc<dyn RowCount>,
}

/// What is asked of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The sinks that are in use.
    pub sinks: &'a [Sink],
    /// Whether each file is opened and its footer counted.
    pub deep: bool,
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// By hour and type, in that order.
    pub hours: Vec<Hour>,
    /// What does not add up, at most [`MAX_TOLD`].
    pub told: Vec<Problem>,
    /// How much does not add up.
    pub problems: u64,
    /// Data files that count.
    pub files: u64,
    /// Whether nothing is wrong.
    pub adds_up: bool,
}

/// The events of one type received in one hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// `YYYY-MM-DDTHH`, UTC.
    pub hour: String,
    /// As it is counted: `other` for types that are not of our form.
    #[serde(rename = "type")]
    pub event_type: String,
    /// By the counters.
    #[serde(flatten)]
    pub counts: Counts,
    /// By what the sinks have: events in the lake's files, documents.
    pub durable: BTreeMap<Sink, i64>,
}

/// One thing that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub sink: Sink,
    /// Hour of receive time, where it is known.
    pub hour: Option<String>,
    /// Type, where it is known.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// What, in a sentence.
    pub what: String,
}

/// Counted events by (hour, type).
pub(crate) type ByHour = BTreeMap<(String, String), i64>;

/// Compares, sink by sink. An error is a port's: nothing can be said then.
pub async fn audit(ports: &AuditPorts, asked: Asked<'_>, now: Timestamp) -> Result<Audited, PortError> {
    let counted = by_hour(ports.table.as_ref(), asked.sinks).await?.into_iter();
    let mut hours: BTreeMap<(String, String), Hour> =
        counted.map(|(key, counts)| (key, Hour { counts, ..Hour::default() })).collect();
    let mut audited = Audited::default();
    for sink in asked.sinks {
        let durable = match sink {
            Sink::Lake => lake(ports, asked.deep, &mut audited).await?,
            Sink::Search => documents(ports.search.as_ref(), "sluice-*").await?,
            Sink::Detect => continue,
        };
        for (key, n) in durable {
            hours.entry(key).or_default().durable.insert(*sink, n);
        }
        for hour in hours.values_mut() {
            hour.durable.entry(*sink).or_default();
        }
    }
    for ((hour, event_type), mut found) in hours {
        (found.hour, found.event_type) = (hour, event_type);
        judge(&found, asked.sinks, now, &mut audited);
        audited.hours.push(found);
    }
    audited.adds_up = audited.problems == 0;
    Ok(audited)
}

/// Row of what the last audit found.
fn last_key() -> Key {
    Key::new("audit", "last")
}

/// How many problems the last audit found that was noted.
pub(crate) async fn last(table: &dyn Table) -> Result<Option<u64>, PortError> {
    Ok(table.get(&[last_key()]).await?.pop().flatten().and_then(|row| row.value["problems"].as_u64()))
}

/// Notes what an audit found, for whoever watches. What is noted already is not written again.
pub(crate) async fn note(table: &dyn Table, problems: u64) -> Result<(), PortError> {
    if last(table).await? == Some(problems) {
        return Ok(());
    }
    let value = json!({"problems": problems});
    table.write(vec![Write::Put { key: last_key(), value, condition: Condition::Any, expires_at: None }]).await
}

impl Audited {
    fn tell(&mut self, problem: Problem) {
        self.problems += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(problem);
        }
    }
}

/// What of the lake is held against its objects.
#[derive(Default)]
struct Held {
    /// Recorded files that are in no table.
    open: Vec<RecordedFile>,
    /// Files of tables, with their table.
    live: Vec<(String, TableFile)>,
    /// Rows that tables have by their own account, by counter.
    settled: BTreeMap<String, u64>,
}

/// Events in the files that are there. A file that is not, or is another than recorded, is told; of an open one nothing counts then.
async fn lake(ports: &AuditPorts, deep: bool, audited: &mut Audited) -> Result<ByHour, PortError> {
    let mut held = Held::default();
    for table in recorded_tables(ports.table.as_ref()).await? {
        match &ports.catalog {
            Some(catalog) => held.add(ports.table.as_ref(), catalog.as_ref(), &table, audited).await?,
            None => held.open.append(&mut recorded_files(ports.table.as_ref(), &table).await?),
        }
    }
    audited.files = (held.open.len() + held.live.len()) as u64;
    let mut there = Vec::with_capacity(held.open.len());
    let listed = listing::all(ports.objects.as_ref(), "lake/", |_| true).await?;
    let sizes: HashMap<String, u64> = listed.into_iter().map(|meta| (meta.key, meta.size_bytes)).collect();
    let stands = |key: &str, size_bytes: u64| {
        let (key, found) = (key.to_owned(), sizes.get(key).copied());
        async move {
            match found {
                Some(size) if size == size_bytes => Ok(None),
                // Put after the listing began, or gone: asked for by name.
                None if exists(ports.objects.as_ref(), &key, size_bytes).await? => Ok(None),
                Some(size) => Ok(Some(format!("has {size} bytes instead of {size_bytes}"))),
                None => Ok::<_, PortError>(Some("is gone".to_owned())),
            }
        }
    };
    for file in held.open {
        match stands(&file.key, file.size_bytes).await? {
            None => there.push(file),
            Some(how) => audited.tell(lost(&file, &how)),
        }
    }
    let mut live = Vec::with_capacity(held.live.len());
    let mut missing = Vec::new();
    for (table, file) in held.live {
        match stands(&file.key, file.size_bytes).await? {
            None => live.push((table, file)),
            Some(how) => missing.push((table, file, how)),
        }
    }
    if deep {
        let mut sound = Vec::with_capacity(there.len());
        for (file, wrong) in opened(ports, there, |file| (&file.key, file.rows)).await? {
            match wrong {
                None => sound.push(file),
                Some(how) => audited.tell(lost(&file, &how)),
            }
        }
        there = sound;
        for ((table, file), wrong) in opened(ports, live, |(_, file)| (&file.key, file.rows)).await? {
            missing.extend(wrong.map(|how| (table, file, how)));
        }
    }
    tell_missing(ports, missing, audited).await?;
    let mut durable = ByHour::new();
    for (counter, n) in held.settled.iter().chain(there.iter().flat_map(|file| &file.counted)) {
        if let Some((hour, event_type)) = counter.split_once('#') {
            let n = i64::try_from(*n).unwrap_or(i64::MAX);
            *durable.entry((hour.to_owned(), event_type.to_owned())).or_default() += n;
        }
    }
    Ok(durable)
}

/// Tells files of tables that are not as they should be. One that its table does not have any more is none of them: its user was erased
/// meanwhile, and it went with its object.
async fn tell_missing(
    ports: &AuditPorts,
    missing: Vec<(String, TableFile, String)>,
    audited: &mut Audited,
) -> Result<(), PortError> {
    let mut live: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for (table, file, how) in missing {
        if let (Some(catalog), false) = (&ports.catalog, live.contains_key(&table)) {
            let files = catalog.files(&table).await?.map(|(_, files)| files).unwrap_or_default();
            live.insert(table.clone(), files.into_iter().map(|file| file.key).collect());
        }
        if live.get(&table).is_none_or(|live| live.contains(&file.key)) {
            audited.tell(lost_of_table(&table, &file, &how));
        }
    }
    Ok(())
}

impl Held {
    /// Adds a table, and tells where it has not the rows that it should have.
    async fn add(
        &mut self,
        state: &dyn Table,
        catalog: &dyn Catalog,
        table: &str,
        audited: &mut Audited,
    ) -> Result<(), PortError> {
        let (mut open, mut before, mut after);
        let mut found;
        let mut looks = 0;
        loop {
            before = settled_rows(state, table).await?;
            open = groups::open(state, table).await?;
            found = catalog.files(table).await?;
            after = settled_rows(state, table).await?;
            looks += 1;
            // What is settled in between would be seen in both places, or in none.
            if before == after || looks == LOOKS {
                break;
            }
        }
        let sum = |counted: &BTreeMap<String, u64>| counted.values().sum::<u64>();
        let (mut rows, mut removed) = (0, 0);
        if let Some((head, files)) = found {
            for name in [compact::REPEATED, compact::EXPIRED, compact::ERASED] {
                removed += compact::count(table, &head, name)?;
            }
            rows = files.iter().map(|file| file.rows).sum();
            self.live.extend(files.into_iter().map(|file| (table.to_owned(), file)));
        }
        // A commit settles after the swap, so that rows may be in the table and still be open.
        let most = sum(&after) + open.iter().map(|file| file.rows).sum::<u64>();
        let has = format!("the table `{table}` has {rows} rows, and {removed} were removed");
        if rows + removed < sum(&before) {
            audited.tell(of_table(format!("{has}, but {} were stored in it", sum(&before))));
        } else if rows + removed > most {
            audited.tell(of_table(format!("{has}, but only {most} were stored")));
        }
        for (counter, n) in after {
            *self.settled.entry(counter).or_default() += n;
        }
        self.open.append(&mut open);
        Ok(())
    }
}

/// Opens files whose footers have to say so many rows; answers what is wrong with each.
async fn opened<F>(
    ports: &AuditPorts,
    files: Vec<F>,
    of: impl Fn(&F) -> (&String, u64),
) -> Result<Vec<(F, Option<String>)>, PortError> {
    let read = files.into_iter().map(|file| {
        let (key, rows) = of(&file);
        let key = key.clone();
        async move {
            let wrong = match rows_of(ports, &key).await? {
                Ok(found) if found == rows => None,
                Ok(found) => Some(format!("says {found} rows")),
                Err(why) => Some(why),
            };
            Ok((file, wrong))
        }
    });
    futures::stream::iter(read).buffer_unordered(CONCURRENT_READS).collect::<Vec<_>>().await.into_iter().collect()
}

fn lost(file: &RecordedFile, how: &str) -> Problem {
    let hours: BTreeSet<&str> = file.counted.keys().filter_map(|counter| counter.split('#').next()).collect();
    let types: BTreeSet<&str> = file.counted.keys().filter_map(|counter| counter.split('#').nth(1)).collect();
    let only = |set: &BTreeSet<&str>| match set.len() {
        1 => set.first().map(|one| (*one).to_owned()),
        _ => None,
    };
    Problem {
        sink: Sink::Lake,
        hour: only(&hours),
        event_type: only(&types),
        what: format!("the file `{}` of {} rows {how}", file.key, file.rows),
    }
}

fn lost_of_table(table: &str, file: &TableFile, how: &str) -> Problem {
    of_table(format!("the file `{}` of {} rows in the table `{table}` {how}", file.key, file.rows))
}

fn of_table(what: String) -> Problem {
    Problem { sink: Sink::Lake, hour: None, event_type: None, what }
}

async fn exists(objects: &dyn Objects, key: &str, size_bytes: u64) -> Result<bool, PortError> {
    let found = objects.list(key, None, 1).await?;
    Ok(found.first().is_some_and(|meta| meta.key == key && meta.size_bytes == size_bytes))
}

async fn rows_of(ports: &AuditPorts, key: &str) -> Result<Result<u64, String>, PortError> {
    match ports.objects.get(key, None).await {
        Ok(bytes) => Ok(ports.row_count.rows(&bytes).map_err(|e| format!("cannot be read: {e}"))),
        Err(e) if e.kind == ErrorKind::NotFound => Ok(Err("is gone".into())),
        Err(e) => Err(e),
    }
}

/// Documents of the indices that match a pattern, by hour of receive time and type.
pub(crate) async fn documents(search: &dyn Search, pattern: &str) -> Result<ByHour, PortError> {
    let ask = json!({"size": 0, "query": {"match_all": {}}, "aggs": {"hours": {
        "date_histogram": {"field": "receivedtime", "fixed_interval": "1h", "min_doc_count": 1},
        "aggs": {"types": {"terms": {"field": "type", "size": MAX_TYPES}}},
    }}});
    let found = search.search(pattern, &ask).await?;
    let mut documents = ByHour::new();
    for hour in buckets(&found["aggregations"]["hours"]) {
        let at = hour["key"].as_f64().and_then(|ms| Timestamp::from_micros((ms * 1_000.0) as i64));
        let Some(at) = at else {
            let what = "a bucket of a date histogram has no time";
            return Err(PortError::new(ErrorKind::Corrupt, "search.search", what));
        };
        for one in buckets(&hour["types"]) {
            let name = counted_as(one["key"].as_str().unwrap_or_default()).to_owned();
            let n = one["doc_count"].as_i64().unwrap_or(0);
            *documents.entry((at.to_micros_text()[..13].to_owned(), name)).or_default() += n;
        }
    }
    Ok(documents)
}

fn buckets(aggregation: &Value) -> &[Value] {
    aggregation["buckets"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn judge(hour: &Hour, sinks: &[Sink], now: Timestamp, audited: &mut Audited) {
    let closed = Timestamp::parse_rfc3339(&format!("{}:00:00Z", hour.hour))
        .is_some_and(|begins| now >= begins.plus_micros(HOUR_US + CLOSES_AFTER_US));
    for sink in sinks {
        let none = SinkCounts::default();
        let counts = hour.counts.sinks.get(sink).unwrap_or(&none);
        let durable = hour.durable.get(sink).copied();
        let stored = counts.stored;
        let what = match durable {
            Some(durable) if durable + counts.removed < stored && (closed || *sink == Sink::Lake) => {
                let removed = match counts.removed {
                    0 => String::new(),
                    removed => format!(", {removed} were removed"),
                };
                Some(format!("{stored} events are counted as stored{removed} and {durable} are there"))
            }
            Some(durable) if durable > stored && closed => {
                Some(format!("{durable} events are there and {stored} are counted as stored"))
            }
            _ if counts.in_flight < 0 => {
                Some(format!("{} more events are accounted for than were accepted", -counts.in_flight))
            }
            _ if counts.in_flight > 0 && closed => {
                Some(format!("{} events are on their way since the hour was closed", counts.in_flight))
            }
            _ => None,
        };
        if let Some(what) = what {
            let (hour, event_type) = (Some(hour.hour.clone()), Some(hour.event_type.clone()));
            audited.tell(Problem { sink: *sink, hour, event_type, what });
        }
    }
}
