//! Alerts: the rule language, what fires a rule, and the wording of the mail.
//!
//! A rule compares exactly: prices and thresholds are decimals, never floats. A rule fires at most once per (rule, symbol, direction) in a
//! tumbling window of event time; the alert's id is a hash of just these, so that whoever decides it makes the same id.

mod fire;
mod incident;
mod mail;
mod rule;

pub use fire::{Alert, Direction, Trade, Watchlist, alert_id};
pub use incident::{Incident, IncidentKind, IncidentState, PIPELINE, Recipient};
pub use mail::MailText;
pub use rule::{Channel, Comparison, Condition, Fluctuation, Language, Percent, Rule, RuleError, Side};
pub use rule::{MAX_CHANNELS, MAX_RULE_BYTES, MAX_SYMBOLS, is_address};

/// `type` of the event that says that a rule fired.
pub const FIRED: &str = "alert.fired";
/// `type` of the event that says that what a rule fired about is over.
pub const RESOLVED: &str = "alert.resolved";
/// `source` of the product's own events.
pub const SOURCE: &str = "sluice";

/// Timestamps as their text with six digits behind the second.
mod moment {
    use crate::time::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(moment: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&moment.to_micros_text())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not RFC 3339")))
    }
}

/// Time zones by their IANA name.
mod zone {
    use chrono_tz::Tz;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(zone: &Tz, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(zone.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tz, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a time zone")))
    }
}
