use super::mail::{MailText, escape, line};
use super::{FIRED, RESOLVED, SOURCE, moment};
use crate::event::{Event, write_members};
use crate::identity::hex_id;
use crate::json::{self, Object, Value};
use crate::time::{SECOND_US, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// `rule_kind` of the product's own alerts.
pub const PIPELINE: &str = "pipeline";
/// Longest sentence of an incident, in characters, well below what `alert.fired` takes.
const MAX_MESSAGE_CHARS: usize = 1_000;
/// Longest name of what an incident is about, in bytes: more than AWS lets a queue, a function or an alarm be called.
const MAX_SUBJECT_BYTES: usize = 256;

/// What went wrong in the product itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// Messages lie in a dead-letter queue.
    DeadLetters,
    /// A consumer is behind.
    Lag,
    /// What was accepted and what is stored do not add up.
    Ledger,
    /// Calls of a function fail.
    FunctionErrors,
    /// A disk is nearly full.
    Disk,
    /// An alarm of CloudWatch.
    Cloudwatch,
}

impl IncidentKind {
    /// The word in events, rows and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead_letters",
            Self::Lag => "lag",
            Self::Ledger => "ledger",
            Self::FunctionErrors => "function_errors",
            Self::Disk => "disk",
            Self::Cloudwatch => "cloudwatch",
        }
    }
}

/// Which of its two messages an incident is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// It has begun.
    Firing,
    /// It is over.
    Resolved,
}

impl IncidentState {
    /// The word in events, rows and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::Firing => FIRED,
            Self::Resolved => RESOLVED,
        }
    }
}

/// Whom an incident is told. Fixed when it fires, so that whoever heard of the beginning hears of the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// A mail address, where there is no channel for operators.
    Address(String),
    /// A mail address of a channel.
    Mail {
        /// The channel's id.
        channel: String,
        /// The address.
        to: String,
    },
    /// The web address of a channel, by its id: the address itself is a secret.
    Hook(String),
}

/// One incident: from when something in the product went wrong until it was well again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// See [`Incident::id_of`].
    pub id: String,
    /// What went wrong.
    pub kind: IncidentKind,
    /// What it is about: a queue, a function, a disk, an alarm.
    pub subject: String,
    /// Whether it goes on.
    pub state: IncidentState,
    /// When it was decided that it has begun.
    #[serde(with = "moment")]
    pub fired_at: Timestamp,
    /// When it was decided that it is over, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
    /// What went wrong, in one sentence.
    pub message: String,
    /// What was measured when it began.
    pub value: Option<f64>,
    /// What it was compared with.
    pub threshold: Option<f64>,
    /// Whom it is told.
    pub told: Vec<Recipient>,
}

impl Incident {
    /// The id of the `number`-th incident of a subject, from 1: a hash of just these, so that whoever decides it makes the same id.
    pub fn id_of(kind: IncidentKind, subject: &str, number: u64) -> String {
        hex_id(&[b"incident", kind.name().as_bytes(), subject.as_bytes(), &number.to_le_bytes()])
    }

    /// A text as a subject: one harmless line of bounded length.
    pub fn subject_of(text: &str) -> String {
        let text = line(text);
        text[..text.floor_char_boundary(MAX_SUBJECT_BYTES)].to_owned()
    }

    /// A text as a message: one harmless line of bounded length.
    pub fn message_of(text: &str) -> String {
        line(text).chars().take(MAX_MESSAGE_CHARS).collect()
    }

    /// The id of the event that tells of the beginning or of the end.
    pub fn event_id(&self, state: IncidentState) -> String {
        hex_id(&[b"incident event", self.id.as_bytes(), state.name().as_bytes()])
    }

    /// The id of the batch that carries the event of the state that it is in.
    pub fn batch_id(&self) -> String {
        hex_id(&[b"alert batch", self.event_id(self.state).as_bytes()])
    }

    /// Type of the event of the state that it is in.
    pub fn event_type(&self) -> &'static str {
        self.state.event_type()
    }

    /// When it came to the state that it is in.
    pub fn since(&self) -> Timestamp {
        self.resolved().unwrap_or(self.fired_at)
    }

    fn resolved(&self) -> Option<Timestamp> {
        self.resolved_at.as_deref().and_then(Timestamp::parse_rfc3339)
    }

    /// The state in one sentence.
    pub fn sentence(&self) -> String {
        match self.state {
            IncidentState::Firing => self.message.clone(),
            IncidentState::Resolved => format!("Over after {}: {}", self.length(), self.message),
        }
    }

    fn length(&self) -> String {
        let seconds = (self.since().micros() - self.fired_at.micros()).max(0) / SECOND_US;
        match seconds {
            0..120 => format!("{seconds} s"),
            120..7_200 => format!("{} min", seconds / 60),
            _ => format!("{} h", seconds / 3_600),
        }
    }

    /// The event of the state that it is in, as it stands in a message: always the same text for the same state. It names no recipient.
    pub fn event_text(&self) -> String {
        let quoted = |text: &str| {
            let mut out = String::new();
            json::write_string(&mut out, text);
            out
        };
        let mut members = vec![
            ("rule_id", quoted(&format!("{PIPELINE}.{}", self.kind.name()))),
            ("rule_kind", quoted(PIPELINE)),
            ("message", quoted(&self.sentence())),
        ];
        let number = |value: Option<f64>| value.filter(|value| value.is_finite()).map(|value| value.to_string());
        members.extend(number(self.value).map(|value| ("value", value)));
        members.extend(number(self.threshold).map(|threshold| ("threshold", threshold)));
        let mut data = String::new();
        write_members(&mut data, members.iter().map(|(name, raw)| (*name, raw.as_str())));
        // What was just written is JSON; were it not, the event would go without data rather than not at all.
        let node = json::parse_str(&data).unwrap_or(json::Node { raw: "{}", value: Value::Object(Object::default()) });
        let id = self.event_id(self.state);
        let mut event = Event::derived(&id, SOURCE, self.event_type(), self.since(), self.since(), node);
        event.subject = Some(self.subject.as_str().into());
        let mut out = String::new();
        event.write(&mut out);
        out
    }

    /// The mail that tells of the state that it is in. The link is `{console_url}/monitor`; with an empty `console_url` there is none.
    pub fn mail(&self, console_url: &str) -> MailText {
        let subject = line(&self.subject);
        let word = match self.state {
            IncidentState::Firing => "Firing",
            IncidentState::Resolved => "Resolved",
        };
        let title = format!("{word}: {} of {subject}", self.words());
        let number = |value: f64| value.to_string();
        let mut rows =
            vec![("What", line(&self.sentence())), ("About", subject), ("Since", self.fired_at.to_micros_text())];
        rows.extend(self.resolved_at.as_deref().map(|at| ("Until", line(at))));
        rows.extend(self.value.map(|value| ("Measured", number(value))));
        rows.extend(self.threshold.map(|threshold| ("Allowed", number(threshold))));
        rows.push(("Incident", line(&self.id)));
        let console_url = line(console_url);
        let link = (!console_url.is_empty()).then(|| format!("{}/monitor", console_url.trim_end_matches('/')));
        let mut text = format!("{title}\n\n");
        for (name, value) in &rows {
            let _ = writeln!(text, "{name}: {value}");
        }
        if let Some(link) = &link {
            let _ = write!(text, "\nLook at it:\n{link}\n");
        }
        MailText { subject: format!("[Sluice] {title}"), text, html: html(&title, &rows, link.as_deref()) }
    }

    /// What a web address is posted, a JSON object.
    pub fn to_json(&self) -> Json {
        json!({
            "v": 1,
            "id": self.event_id(self.state),
            "type": self.event_type(),
            "incident": self.id,
            "kind": self.kind.name(),
            "subject": self.subject,
            "state": self.state.name(),
            "message": self.sentence(),
            "value": self.value,
            "threshold": self.threshold,
            "fired_at": self.fired_at.to_micros_text(),
            "resolved_at": self.resolved_at,
        })
    }

    fn words(&self) -> &'static str {
        match self.kind {
            IncidentKind::DeadLetters => "dead letters",
            IncidentKind::Lag => "lag",
            IncidentKind::Ledger => "imbalance",
            IncidentKind::FunctionErrors => "errors",
            IncidentKind::Disk => "lack of room",
            IncidentKind::Cloudwatch => "alarm",
        }
    }
}

fn html(title: &str, rows: &[(&str, String)], link: Option<&str>) -> String {
    let title = escape(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body style=\"font-family:sans-serif;color:#333333\">\n<h1 style=\"font-size:18px\">{title}</h1>\n<table style=\"border-collapse:collapse\">\n"
    );
    for (name, value) in rows {
        let _ = writeln!(
            html,
            "<tr><th style=\"text-align:left;padding:4px 16px 4px 0\">{}</th><td style=\"padding:4px 0\">{}</td></tr>",
            escape(name),
            escape(value)
        );
    }
    html.push_str("</table>\n");
    if let Some(link) = link {
        let _ = writeln!(html, "<p><a href=\"{}\">Look at it</a></p>", escape(link));
    }
    html.push_str("</body>\n</html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Shared;
    use crate::schema::Registry;

    fn incident() -> Incident {
        Incident {
            id: Incident::id_of(IncidentKind::Lag, "IndexQueue", 3),
            kind: IncidentKind::Lag,
            subject: "IndexQueue".into(),
            state: IncidentState::Firing,
            fired_at: Timestamp::parse_rfc3339("2026-11-20T00:30:00Z").unwrap(),
            resolved_at: None,
            message: "the oldest message waits for 42 s".into(),
            value: Some(42.0),
            threshold: Some(30.0),
            told: vec![Recipient::Address("kim@example.org".into())],
        }
    }

    fn over() -> Incident {
        let resolved_at = Some("2026-11-20T00:35:30.000000Z".into());
        Incident { state: IncidentState::Resolved, resolved_at, ..incident() }
    }

    #[test]
    fn the_events_of_an_incident_are_events_of_their_schemas() {
        let registry = Registry::load([
            ("event.json", include_str!("../../../../schemas/event.json")),
            ("alert.fired.json", include_str!("../../../../schemas/alert.fired.json")),
            ("alert.resolved.json", include_str!("../../../../schemas/alert.resolved.json")),
        ])
        .unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for incident in [incident(), over()] {
            let text = incident.event_text();
            let shared = Shared { received: incident.since(), ..Shared::default() };
            let event = Event::read(json::parse_str(&text).unwrap(), &shared).unwrap();
            event.check_data(&registry).unwrap();
            assert_eq!(event.event_type, incident.event_type());
            assert_eq!(event.subject.as_deref(), Some("IndexQueue"));
            assert!(text.contains(r#""rule_kind":"pipeline""#) && text.contains(r#""value":42"#), "{text}");
            assert!(!text.contains("kim@"), "{text}");
            assert!(ids.insert(event.id.into_owned()) && ids.insert(incident.batch_id()));
        }
        let other = [("IndexQueue", 4), ("ConvertQueue", 3)].map(|(s, n)| Incident::id_of(IncidentKind::Lag, s, n));
        assert!(!other.contains(&incident().id) && other[0] != other[1]);
    }

    #[test]
    fn the_mails_say_what_is_wrong_and_for_how_long_it_was() {
        let fired = incident().mail("https://console.example.org/");
        assert_eq!(fired.subject, "[Sluice] Firing: lag of IndexQueue");
        for part in ["waits for 42 s", "Allowed: 30\n", "2026-11-20T00:30:00", "https://console.example.org/monitor"] {
            assert!(fired.text.contains(part), "{part} in {}", fired.text);
        }
        let resolved = over().mail("");
        assert_eq!(resolved.subject, "[Sluice] Resolved: lag of IndexQueue");
        assert!(resolved.text.contains("Over after 5 min: the oldest message"), "{}", resolved.text);
        assert!(!resolved.text.contains("Look at it") && !resolved.html.contains("<a "));
    }

    #[test]
    fn text_from_outside_can_neither_break_lines_nor_become_markup() {
        let hostile = "A\r\nBcc: b@example.org\n<script>alert('x')</script>";
        let incident = Incident { subject: hostile.into(), message: hostile.into(), ..incident() };
        let mail = incident.mail("https://x/\"><b>\r\n");
        assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
        assert!(!mail.text.lines().any(|line| line.starts_with("Bcc")), "{}", mail.text);
        for markup in ["<script", "<b>"] {
            assert!(!mail.html.contains(markup), "{markup} in {}", mail.html);
        }
        assert_eq!(Incident::subject_of(&"é".repeat(400)).len(), MAX_SUBJECT_BYTES);
        assert_eq!(Incident::message_of(&"é\n".repeat(4_000)).chars().count(), MAX_MESSAGE_CHARS);
    }
}
