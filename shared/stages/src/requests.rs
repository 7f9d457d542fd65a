//! How many HTTP requests were answered, by method, route and status.
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
/// Partition of the rows; each process adds to one of [`SHARDS`], so that they seldom wait for each other.
const PARTITION: &str = "requests";
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

/// Counts requests; one for all functions of a process.
pub struct Requests {
    table: Arc<dyn Table>,
    row: Key,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    counts: BTreeMap<Answered, i64>,
    since: Option<Timestamp>,
}

impl Requests {
    /// Counts in this table.
    pub fn new(table: Arc<dyn Table>) -> Result<Self, PortError> {
        let mut shard = [0];
        crate::access::random("requests.new", &mut shard)?;
        let row = Key::new(PARTITION, format!("{}", shard[0] % SHARDS));
        Ok(Self { table, row, waiting: Mutex::default() })
    }

    /// Counts a request that was answered. `route` is a template.
    pub async fn count(&self, method: &str, route: &'static str, status: u16, now: Timestamp) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        let answered = Answered { method: method.to_owned(), route: route.to_owned(), status };
        let is_due = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            *waiting.counts.entry(answered).or_default() += 1;
            let since = *waiting.since.get_or_insert(now);
            now.micros() - since.micros() >= FLUSH_US || now < since
        };
        if is_due {
            self.flush(now).await;
        }
    }

    /// Adds to the table what was counted. What surely was not added is added with the next.
    pub async fn flush(&self, now: Timestamp) {
        let counts: Vec<(Answered, i64)> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = waiting.counts.keys().nth(MAX_FIELDS).cloned();
            let rest = rest.map(|from| waiting.counts.split_off(&from)).unwrap_or_default();
            waiting.since = (!rest.is_empty()).then_some(now);
            std::mem::replace(&mut waiting.counts, rest).into_iter().collect()
        };
        if counts.is_empty() {
            return;
        }
        let deltas = counts.iter().map(|(answered, by)| (answered.field(), *by)).collect();
        let add = Write::Add { key: self.row.clone(), deltas, expires_at: None };
        let Err(error) = self.table.write(vec![add]).await else { return };
        tracing::debug!(error.kind = ?error.kind, error.message = %error, "counts of requests could not be added");
        // After a time-out they may be there: better too few than twice.
        if error.kind != ErrorKind::Timeout {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.since.get_or_insert(now);
            for (answered, by) in counts {
                *waiting.counts.entry(answered).or_default() += by;
            }
        }
    }

    /// All counts of all processes, as far as they were added.
    pub async fn read(&self) -> Result<BTreeMap<Answered, i64>, PortError> {
        let mut counts = BTreeMap::new();
        for item in rows::all(self.table.as_ref(), PARTITION).await? {
            for (field, by) in item.value.as_object().into_iter().flatten() {
                if let (Some(answered), Some(by)) = (Answered::read(field), by.as_i64()) {
                    *counts.entry(answered).or_default() += by;
                }
            }
        }
        Ok(counts)
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
        requests.read().await.unwrap().iter().map(|(answered, n)| (answered.field(), *n)).collect()
    }

    #[tokio::test]
    async fn requests_are_added_every_few_seconds_and_over_all_processes() {
        let (table, here) = requests();
        let there = Requests::new(table.clone()).unwrap();
        for _ in 0..3 {
            here.count("POST", "/v1/events", 202, at(0)).await;
            there.count("POST", "/v1/events", 202, at(0)).await;
        }
        here.count("GET", "/v1/rules/{id}", 404, at(FLUSH_US - 1)).await;
        assert_eq!((table.calls("table.write"), counted(&here).await), (0, vec![]));
        here.count("BREW", OTHER, 405, at(FLUSH_US)).await;
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
            requests.count("GET", "/health", 200, at(0)).await;
            table.script("table.write", [fault.clone()]);
            requests.flush(at(0)).await;
            requests.count("GET", "/health", 200, at(0)).await;
            requests.flush(at(1)).await;
            assert_eq!(counted(&requests).await, [("GET /health 200".to_owned(), kept)], "{fault:?}");
        }
    }

    #[tokio::test]
    async fn more_than_fits_one_write_goes_with_the_next() {
        let (_, requests) = requests();
        for status in 0..250 {
            requests.count("GET", "/health", status, at(0)).await;
        }
        for sum in [100, 200, 250, 250] {
            requests.flush(at(0)).await;
            assert_eq!(counted(&requests).await.len(), sum);
        }
    }

    #[tokio::test]
    async fn a_clock_that_goes_back_stops_nothing() {
        let (table, requests) = requests();
        requests.count("GET", "/health", 200, at(FLUSH_US)).await;
        requests.count("GET", "/health", 200, at(0)).await;
        assert_eq!(table.calls("table.write"), 1);
    }
}
