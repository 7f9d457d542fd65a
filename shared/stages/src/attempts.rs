//! How often somebody may try to sign in: per address that asks and per account that is asked for, over rows that all processes share.
//!
//! An attempt is counted before the password is looked at, so that many at once are not let through together, and taken back when it was
//! good. An account that does not exist is counted like one that does. What is counted is held for a window of fixed bounds.

use crate::rows::expiry;
use sluice_domain::identity::hex_id;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{ErrorKind, Key, PortError, Table, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Length of a window.
pub const WINDOW_US: i64 = 900 * SECOND_US;
/// Failed attempts from one address (of IPv6: one /64) in a window.
pub const PER_ADDRESS: i64 = 20;
/// Failed attempts at one account in a window.
pub const PER_ACCOUNT: i64 = 10;
/// How often counting is tried when others count at the same time.
const TRIES: usize = 3;
const FIELD: &str = "attempts";

/// The attempts in a table.
#[derive(Clone)]
pub struct Attempts {
    table: Arc<dyn Table>,
}

/// An attempt that was counted.
#[derive(Debug)]
pub struct Attempt {
    keys: [Key; 2],
}

/// Why an attempt is not let through.
#[derive(Debug)]
pub enum Refused {
    /// Too many failed: come again after this many seconds.
    TooMany(i64),
    /// They cannot be counted.
    Port(PortError),
}

impl Attempts {
    /// Attempts in this table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Counts an attempt at an account (an address of mail, a link) from an address as the gateway saw it.
    pub async fn begin(&self, client_ip: &str, account: &str, now: Timestamp) -> Result<Attempt, Refused> {
        let window = now.micros().div_euclid(WINDOW_US);
        let key =
            |kind: &str, what: &str| Key::new("attempt", format!("{kind}#{}#{window}", hex_id(&[what.as_bytes()])));
        let attempt =
            Attempt { keys: [key("address", &network(client_ip)), key("account", &account.trim().to_lowercase())] };
        self.add(&attempt, 1, now).await.map_err(Refused::Port)?;
        let rows = self.table.get(&attempt.keys).await.map_err(Refused::Port)?;
        let counts = rows.iter().map(|row| row.as_ref().and_then(|row| row.value[FIELD].as_i64()).unwrap_or(0));
        if counts.zip([PER_ADDRESS, PER_ACCOUNT]).any(|(count, most)| count > most) {
            let left_us = (window + 1) * WINDOW_US - now.micros();
            return Err(Refused::TooMany(left_us.div_euclid(SECOND_US) + 1));
        }
        Ok(attempt)
    }

    /// Takes a good attempt back. Where that fails, it counts as a failed one.
    pub async fn succeeded(&self, attempt: &Attempt, now: Timestamp) {
        if let Err(error) = self.add(attempt, -1, now).await {
            tracing::warn!(error.kind = ?error.kind, error.message = %error, "a good sign-in stays counted");
        }
    }

    async fn add(&self, attempt: &Attempt, by: i64, now: Timestamp) -> Result<(), PortError> {
        let expires_at = Some(expiry(now, 2 * WINDOW_US));
        let add = |key: &Key| Write::Add { key: key.clone(), deltas: vec![(FIELD.to_owned(), by)], expires_at };
        let mut tries = 1;
        loop {
            match self.table.write(attempt.keys.iter().map(add).collect()).await {
                Err(e) if e.kind == ErrorKind::Conflict && tries < TRIES => tries += 1,
                written => return written,
            }
        }
    }
}

/// What counts as one address: whoever has an IPv6 address has its /64.
fn network(client_ip: &str) -> String {
    match client_ip.trim().parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => Ipv6Addr::from(u128::from(ip) & (u128::MAX << 64)).to_string(),
        Ok(ip) => ip.to_string(),
        Err(_) => String::new(),
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

    fn attempts() -> (Arc<Faulty<MemoryTable>>, Attempts) {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        (table.clone(), Attempts::new(table))
    }

    #[tokio::test]
    async fn failed_attempts_at_an_account_are_bounded_wherever_they_come_from() {
        let (_, attempts) = attempts();
        for n in 0..PER_ACCOUNT {
            attempts.begin(&format!("203.0.113.{n}"), "Kim@example.org", at(0)).await.unwrap();
        }
        let refused = attempts.begin("198.51.100.1", " kim@EXAMPLE.org", at(10 * SECOND_US)).await.unwrap_err();
        let Refused::TooMany(after_s) = refused else { panic!("{refused:?}") };
        assert_eq!(after_s, 15 * 60 - 10 + 1);
        attempts.begin("198.51.100.1", "lee@example.org", at(0)).await.unwrap();
        attempts.begin("198.51.100.1", "kim@example.org", at(after_s * SECOND_US + 10 * SECOND_US)).await.unwrap();
    }

    #[tokio::test]
    async fn failed_attempts_from_an_address_are_bounded_whomever_they_ask_for() {
        let (_, attempts) = attempts();
        for n in 0..PER_ADDRESS {
            attempts.begin(&format!("2001:db8::{n}"), &format!("{n}@example.org"), at(0)).await.unwrap();
        }
        let refused = attempts.begin("2001:db8::ffff", "other@example.org", at(0)).await;
        assert!(matches!(refused, Err(Refused::TooMany(_))));
        attempts.begin("2001:db8:0:1::1", "other@example.org", at(0)).await.unwrap();
    }

    #[tokio::test]
    async fn good_attempts_do_not_count() {
        let (_, attempts) = attempts();
        for _ in 0..3 * PER_ADDRESS {
            let attempt = attempts.begin("203.0.113.7", "kim@example.org", at(0)).await.unwrap();
            attempts.succeeded(&attempt, at(0)).await;
        }
    }

    #[tokio::test]
    async fn many_at_once_are_all_counted() {
        let (_, attempts) = attempts();
        let all = (0..50).map(|_| attempts.begin("203.0.113.7", "kim@example.org", at(0)));
        let through = futures::future::join_all(all).await.into_iter().filter(Result::is_ok).count();
        assert!(through as i64 <= PER_ACCOUNT, "{through}");
    }

    #[tokio::test]
    async fn without_a_count_nobody_is_let_through() {
        let (table, attempts) = attempts();
        table.script("table.write", [Fault::Before(ErrorKind::Conflict), Fault::Before(ErrorKind::Conflict)]);
        attempts.begin("203.0.113.7", "kim@example.org", at(0)).await.unwrap();
        table.always("table.write", Fault::Before(ErrorKind::Unavailable));
        let refused = attempts.begin("203.0.113.7", "kim@example.org", at(0)).await;
        assert!(matches!(refused, Err(Refused::Port(e)) if e.is_transient()));
    }

    #[tokio::test]
    async fn rows_hold_no_address_and_expire() {
        let (table, attempts) = attempts();
        attempts.begin("203.0.113.7", "kim@example.org", at(0)).await.unwrap();
        for item in table.inner().items() {
            assert!(!format!("{item:?}").contains("203.0") && !format!("{item:?}").contains("kim"), "{item:?}");
            assert!(item.expires_at.is_some_and(|end| end * SECOND_US >= at(WINDOW_US).micros()));
        }
    }
}
