//! How many HTTP requests were answered, by method, route and status, and how long that took, by route.
//!
//! They are counted in memory and added to rows of the table every [`FLUSH_US`], with the request that comes then: so they hold across
//! processes that come and go, and a request costs no write of its own. A process that dies takes what it has not added with it. What counts
//! as a route is its template, never the path, so that there are only so many.

use crate::rows;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{ErrorKind, Key, PortError, Table, Write};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How long counts stay in memory, in microseconds.
pub const FLUSH_US: i64 = 15 * SECOND_US;
/// The route of whatever has none.
pub const OTHER: &str = "other";
/// Upper bounds of the times that requests are sorted by, in microseconds, each included. Source: the default buckets of Prometheus'
/// client libraries.
pub const BOUNDS_US: [i64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];
/// Partition of the rows with numbers of requests; each process adds to one of [`SHARDS`], so that they seldom wait for each other.
const NUMBERS: &str = "requests";
/// Partition of the rows with times.
const TIMES: &str = "request-times";
/// Field of a sum of times, behind its route.
const SUM_US: &str = "us";
const SHARDS: u8 = 8;
/// Most counts that are added in one write; the rest go with the next.
const MAX_FIELDS: usize = 100;
/// Methods that are counted by name.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// What a request is counted as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// Method in upper case, or [`OTHER`].
    pub method: String,
    /// Template of the route, or [`OTHER`].
    pub route: String,
    /// Status code of the answer.
    pub status: u16,
}

impl Answered {
    /// Its field in a row.
    fn field(&self) -> String {
        format!("{} {} {}", self.method, self.route, self.status)
    }

    fn read(field: &str) -> Option<Self> {
        let (rest, status) = field.rsplit_once(' ')?;
        let (method, route) = rest.split_once(' ')?;
        Some(Self { method: method.to_owned(), route: route.to_owned(), status: status.parse().ok()? })
    }
}

/// How long the requests of a route took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// How many took up to each of [`BOUNDS_US`] and more than the one before, and last how many took longer than all.
    pub counts: [i64; BOUNDS_US.len() + 1],
    /// All together, in microseconds.
    pub sum_us: i64,
}

/// Counts requests; one for all functions of a process.
pub struct Requests {
    table: Arc<dyn Table>,
    shard: String,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By partition and field.
    counts: BTreeMap<(&'static str, String), i64>,
    since: Option<Timestamp>,
}

impl Requests {
    /// Counts in this table.
    pub fn new(table: Arc<dyn Table>) -> Result<Self, PortError> {
        let mut shard = [0];
        crate::access::random("requests.new", &mut shard)?;
        let shard = format!("{}", shard[0] % SHARDS);
        Ok(Self { table, shard, waiting: Mutex::default() })
    }

    /// Counts a request that came at `now` and took so long to be answered. `route` is a template.
    pub async fn count(&self, method: &str, route: &'static str, status: u16, took_us: i64, now: Timestamp) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        let answered = Answered { method: method.to_owned(), route: route.to_owned(), status };
        // A clock that went back says nothing.
        let took_us = took_us.max(0);
        let bucket = BOUNDS_US.iter().take_while(|bound| took_us > **bound).count();
        let counts = [
            (NUMBERS, answered.field(), 1),
            (TIMES, format!("{route} {bucket}"), 1),
            (TIMES, format!("{route} {SUM_US}"), took_us),
        ];
        let is_due = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (partition, field, by) in counts {
                *waiting.counts.entry((partition, field)).or_default() += by;
            }
            let since = *waiting.since.get_or_insert(now);
            now.micros() - since.micros() >= FLUSH_US || now < since
        };
        if is_due {
            self.flush(now).await;
        }
    }

    /// Adds to the table what was counted. What surely was not added is added with the next.
    pub async fn flush(&self, now: Timestamp) {
        let counts: Vec<((&'static str, String), i64)> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = waiting.counts.keys().nth(MAX_FIELDS).cloned();
            let rest = rest.map(|from| waiting.counts.split_off(&from)).unwrap_or_default();
            waiting.since = (!rest.is_empty()).then_some(now);
            std::mem::replace(&mut waiting.counts, rest).into_iter().collect()
        };
        let add = |partition: &'static str| {
            let of_row = counts.iter().filter(|((of, _), _)| *of == partition);
            let deltas: Vec<(String, i64)> = of_row.map(|((_, field), by)| (field.clone(), *by)).collect();
            let key = Key::new(partition, &self.shard);
            (!deltas.is_empty()).then_some(Write::Add { key, deltas, expires_at: None })
        };
        let writes: Vec<Write> = [NUMBERS, TIMES].into_iter().filter_map(add).collect();
        if writes.is_empty() {
            return;
        }
        let Err(error) = self.table.write(writes).await else { return };
        tracing::debug!(error.kind = ?error.kind, error.message = %error, "counts of requests could not be added");
        // After a time-out they may be there: better too few than twice.
        if error.kind != ErrorKind::Timeout {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.since.get_or_insert(now);
            for (field, by) in counts {
                *waiting.counts.entry(field).or_default() += by;
            }
        }
    }

    /// How many requests all processes have answered, as far as it was added.
    pub async fn numbers(&self) -> Result<BTreeMap<Answered, i64>, PortError> {
        let mut counts = BTreeMap::new();
        for (field, by) in self.read(NUMBERS).await? {
            if let Some(answered) = Answered::read(&field) {
                *counts.entry(answered).or_default() += by;
            }
        }
        Ok(counts)
    }

    /// How long that took by route, as far as it was added.
    pub async fn times(&self) -> Result<BTreeMap<String, Times>, PortError> {
        let mut times: BTreeMap<String, Times> = BTreeMap::new();
        for (field, by) in self.read(TIMES).await? {
            let Some((route, what)) = field.rsplit_once(' ') else { continue };
            let route = times.entry(route.to_owned()).or_default();
            match what.parse().ok().and_then(|bucket: usize| route.counts.get_mut(bucket)) {
                Some(count) => *count += by,
                None if what == SUM_US => route.sum_us += by,
                None => {}
            }
        }
        Ok(times)
    }

    /// The fields of all rows of a partition.
    async fn read(&self, partition: &str) -> Result<Vec<(String, i64)>, PortError> {
        let items = rows::all(self.table.as_ref(), partition).await?;
        let fields = items.iter().flat_map(|item| item.value.as_object().into_iter().flatten());
        Ok(fields.filter_map(|(field, by)| Some((field.clone(), by.as_i64()?))).collect())
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::MemoryTable;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000 + us).unwrap()
    }

    fn requests() -> (Arc<Faulty<MemoryTable>>, Requests) {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        (table.clone(), Requests::new(table).unwrap())
    }

    async fn counted(requests: &Requests) -> Vec<(String, i64)> {
        requests.numbers().await.unwrap().iter().map(|(answered, n)| (answered.field(), *n)).collect()
    }

    #[tokio::test]
    async fn requests_are_added_every_few_seconds_and_over_all_processes() {
        let (table, here) = requests();
        let there = Requests::new(table.clone()).unwrap();
        for _ in 0..3 {
            here.count("POST", "/v1/events", 202, 7_000, at(0)).await;
            there.count("POST", "/v1/events", 202, 7_000, at(0)).await;
        }
        here.count("GET", "/v1/rules/{id}", 404, 7_000, at(FLUSH_US - 1)).await;
        assert_eq!((table.calls("table.write"), counted(&here).await), (0, vec![]));
        here.count("BREW", OTHER, 405, 7_000, at(FLUSH_US)).await;
        there.flush(at(FLUSH_US)).await;
        there.flush(at(FLUSH_US)).await;
        assert_eq!(table.calls("table.write"), 2);
        let expected = [("GET /v1/rules/{id} 404", 1), ("POST /v1/events 202", 6), ("other other 405", 1)];
        assert_eq!(counted(&here).await, expected.map(|(field, n)| (field.to_owned(), n)));
    }

    #[tokio::test]
    async fn what_surely_was_not_added_is_added_later_and_nothing_twice() {
        for (fault, kept) in [
            (Fault::Before(ErrorKind::Unavailable), 2),
            (Fault::Before(ErrorKind::Conflict), 2),
            (Fault::Before(ErrorKind::Timeout), 1),
            (Fault::After, 2),
        ] {
            let (table, requests) = requests();
            requests.count("GET", "/health", 200, 7_000, at(0)).await;
            table.script("table.write", [fault.clone()]);
            requests.flush(at(0)).await;
            requests.count("GET", "/health", 200, 7_000, at(0)).await;
            requests.flush(at(1)).await;
            assert_eq!(counted(&requests).await, [("GET /health 200".to_owned(), kept)], "{fault:?}");
        }
    }

    #[tokio::test]
    async fn more_than_fits_one_write_goes_with_the_next() {
        let (_, requests) = requests();
        for status in 0..248 {
            requests.count("GET", "/health", status, 7_000, at(0)).await;
        }
        // A bucket and a sum go with the last.
        for sum in [100, 200, 248, 248] {
            requests.flush(at(0)).await;
            assert!(counted(&requests).await.len().abs_diff(sum) <= 2);
        }
        assert_eq!(counted(&requests).await.len(), 248);
        assert_eq!(requests.times().await.unwrap()["/health"].counts[1], 248);
    }

    #[tokio::test]
    async fn times_are_sorted_by_their_bounds() {
        let (_, requests) = requests();
        for took_us in [-5, 0, 5_000, 5_001, 10_000_000, 10_000_001, 90_000_000] {
            requests.count("GET", "/health", 200, took_us, at(0)).await;
        }
        requests.count("GET", "/metrics", 200, 30_000, at(0)).await;
        requests.flush(at(0)).await;
        let times = requests.times().await.unwrap();
        let health = Times { counts: [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], sum_us: 110_010_002 };
        assert_eq!(times["/health"], health);
        assert_eq!((times["/metrics"].counts[3], times["/metrics"].sum_us), (1, 30_000));
    }

    #[tokio::test]
    async fn a_clock_that_goes_back_stops_nothing() {
        let (table, requests) = requests();
        requests.count("GET", "/health", 200, 7_000, at(FLUSH_US)).await;
        requests.count("GET", "/health", 200, 7_000, at(0)).await;
        assert_eq!(table.calls("table.write"), 1);
    }
}
