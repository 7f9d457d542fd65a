//! The routes of the first Square-Blitz server, for pages that still send to them: a body becomes `game.start` or `game.result`.
//!
//! The pages carry no key and no id of the play, so the deployment's public game key is taken ([`crate::game`]) and every request is a
//! play of its own. What they send beside the fields below, or what was corrected, is kept in the event's data under `legacy`.

use super::form::{Refusal, refusal};
use sluice_domain::game::SOURCE;
use sluice_domain::json::{self, Node, Object, Value};
use sluice_domain::time::Timestamp;
use std::fmt::Write as _;

/// What such a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Legacy {
    /// `POST /api/log-game-start`: `{userId, timestamp, event: "game_start", details: {clickedAt}}`.
    Start,
    /// `POST /api/log-game-data`: `{userId, timestamp, totalSquares, clickedCount, successRate}`.
    Result,
}

impl Legacy {
    /// The one of this path.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/api/log-game-start" => Some(Self::Start),
            "/api/log-game-data" => Some(Self::Result),
            _ => None,
        }
    }

    /// The text of the event; `play_id` names the play.
    pub(super) fn event(self, body: &[u8], play_id: &str) -> Result<String, Refusal> {
        let node = json::parse(body).map_err(|e| Refusal {
            status: 400,
            code: e.kind.code(),
            pointer: e.pointer.clone(),
            reason: format!("{} at byte {}", e.kind, e.offset),
        })?;
        let sent = node.as_object().ok_or_else(|| wrong("", "the body is a JSON object"))?;
        let mut read = Read { sent, taken: vec!["userId", "timestamp"], data: String::new(), kept: String::new() };
        if !matches!(present(sent, "userId").map(|node| &node.value), Some(Value::String(_) | Value::Number(_))) {
            return Err(wrong("/userId", "`userId` is a number or text"));
        }
        member(&mut read.data, "play_id", |out| json::write_string(out, play_id));
        match self {
            Self::Start => read.start()?,
            Self::Result => read.result()?,
        }
        Ok(read.event(if self == Self::Start { "game.start" } else { "game.result" }))
    }
}

/// A body that is being read.
struct Read<'s, 'b> {
    sent: &'s Object<'b>,
    /// Fields that are in the event already.
    taken: Vec<&'static str>,
    /// Members of the event's `data`.
    data: String,
    /// Members of what is kept as it was sent.
    kept: String,
}

impl Read<'_, '_> {
    fn start(&mut self) -> Result<(), Refusal> {
        self.taken.extend(["event", "details"]);
        if present(self.sent, "event").is_some_and(|node| node.as_str() != Some("game_start")) {
            return Err(wrong("/event", "`event` is \"game_start\""));
        }
        let Some(details) = present(self.sent, "details") else { return Ok(()) };
        let details = details.as_object().ok_or_else(|| wrong("/details", "`details` is an object"))?;
        if let Some(node) = present(details, "clickedAt") {
            let digits = match &node.value {
                Value::Number(digits) => Some(*digits),
                Value::String(text) => Some(text.as_ref()),
                _ => None,
            };
            let at = digits.and_then(|text| Timestamp::parse_epoch(text).or_else(|| Timestamp::parse_rfc3339(text)));
            let at = at.ok_or_else(|| wrong("/details/clickedAt", "`clickedAt` is milliseconds since the epoch"))?;
            member(&mut self.data, "clicked_at", |out| json::write_string(out, &at.to_micros_text()));
        }
        for (name, node) in details.0.iter().filter(|(name, _)| name != "clickedAt") {
            member(&mut self.kept, name, |out| out.push_str(node.raw));
        }
        Ok(())
    }

    /// Counts and rate as they can have been: at most as many clicks as squares, and the rate that follows from the two.
    fn result(&mut self) -> Result<(), Refusal> {
        let total = self.count("totalSquares")?;
        let clicked = self.count("clickedCount")?;
        let mut suspect = Vec::new();
        if clicked > total {
            suspect.push("clicks_above_total");
        } else {
            self.taken.push("clickedCount");
        }
        self.taken.push("totalSquares");
        let counts = [("total_squares", total), ("clicked_count", clicked.min(total))];
        for (name, count) in counts {
            member(&mut self.data, name, |out| _ = write!(out, "{count}"));
        }
        match present(self.sent, "successRate").map(|node| (&node.value, node.raw)) {
            None => self.taken.push("successRate"),
            Some((Value::Number(digits), raw)) => {
                if digits.parse::<f64>().is_ok_and(|rate| (0.0..=100.0).contains(&rate)) {
                    self.taken.push("successRate");
                    member(&mut self.data, "success_rate", |out| out.push_str(raw));
                } else {
                    suspect.push("rate_out_of_range");
                }
            }
            Some(_) => return Err(wrong("/successRate", "`successRate` is a number")),
        }
        if !suspect.is_empty() {
            member(&mut self.data, "suspect", |out| json::write_string(out, &suspect.join(",")));
        }
        Ok(())
    }

    /// A whole number of 0 or more, however it is written (`50`, `50.0`).
    fn count(&self, name: &'static str) -> Result<i64, Refusal> {
        let whole = |digits: &str| {
            let float = || digits.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && *n <= 1e9).map(|n| n as i64);
            digits.parse::<i64>().ok().or_else(float).filter(|n| *n >= 0)
        };
        let count = match present(self.sent, name).map(|node| &node.value) {
            Some(Value::Number(digits)) => whole(digits),
            _ => None,
        };
        count.ok_or_else(|| wrong(&format!("/{name}"), &format!("`{name}` is a whole number of 0 or more")))
    }

    fn event(mut self, event_type: &str) -> String {
        for (name, node) in &self.sent.0 {
            if self.taken.iter().all(|taken| taken != name) {
                member(&mut self.kept, name, |out| out.push_str(node.raw));
            }
        }
        if !self.kept.is_empty() {
            let kept = std::mem::take(&mut self.kept);
            member(&mut self.data, "legacy", |out| _ = write!(out, "{{{kept}}}"));
        }
        let mut out = format!("{{\"source\":\"{SOURCE}\",\"type\":\"{event_type}\"");
        for (name, of) in [("userid", "userId"), ("time", "timestamp")] {
            if let Some(node) = present(self.sent, of) {
                let _ = write!(out, ",\"{name}\":{}", node.raw);
            }
        }
        let _ = write!(out, ",\"data\":{{{}}}}}", self.data);
        out
    }
}

/// A member that is there and not null.
fn present<'s, 'b>(sent: &'s Object<'b>, name: &str) -> Option<&'s Node<'b>> {
    sent.get(name).filter(|node| node.value != Value::Null)
}

fn member(out: &mut String, name: &str, value: impl FnOnce(&mut String)) {
    if !out.is_empty() {
        out.push(',');
    }
    json::write_string(out, name);
    out.push(':');
    value(out);
}

fn wrong(pointer: &str, reason: &str) -> Refusal {
    Refusal { pointer: pointer.to_owned(), ..refusal(400, "schema", reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(legacy: Legacy, body: &str) -> String {
        legacy.event(body.as_bytes(), "p").unwrap()
    }

    #[test]
    fn a_start_becomes_an_event() {
        let body = r#"{"userId":7,"timestamp":"2026-11-21T10:00:00.123Z","event":"game_start","details":{"clickedAt":1795255200123}}"#;
        assert_eq!(
            event(Legacy::Start, body),
            r#"{"source":"square-blitz","type":"game.start","userid":7,"time":"2026-11-21T10:00:00.123Z","data":{"play_id":"p","clicked_at":"2026-11-21T10:00:00.123000Z"}}"#
        );
        assert_eq!(
            event(Legacy::Start, r#"{"userId":"007","details":{"theme":"dark"},"page":"a\"b"}"#),
            r#"{"source":"square-blitz","type":"game.start","userid":"007","data":{"play_id":"p","legacy":{"theme":"dark","page":"a\"b"}}}"#
        );
    }

    #[test]
    fn a_result_becomes_an_event() {
        assert_eq!(
            event(
                Legacy::Result,
                r#"{"userId":"u","timestamp":1795255200,"totalSquares":50,"clickedCount":40.0,"successRate":80}"#
            ),
            r#"{"source":"square-blitz","type":"game.result","userid":"u","time":1795255200,"data":{"play_id":"p","total_squares":50,"clicked_count":40,"success_rate":80}}"#
        );
    }

    #[test]
    fn what_cannot_be_is_corrected_flagged_and_kept() {
        let data = |counts: &str| {
            let text = event(Legacy::Result, &format!(r#"{{"userId":1,{counts}}}"#));
            text[text.find("\"total_squares").unwrap()..].trim_end_matches("}}").to_owned()
        };
        assert_eq!(
            data(r#""totalSquares":50,"clickedCount":60,"successRate":120"#),
            r#""total_squares":50,"clicked_count":50,"suspect":"clicks_above_total,rate_out_of_range","legacy":{"clickedCount":60,"successRate":120}"#
        );
        assert_eq!(
            data(r#""totalSquares":50,"clickedCount":50,"successRate":100.1"#),
            r#""total_squares":50,"clicked_count":50,"suspect":"rate_out_of_range","legacy":{"successRate":100.1}"#
        );
        assert_eq!(data(r#""totalSquares":0,"clickedCount":0"#), r#""total_squares":0,"clicked_count":0"#);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (legacy, body, pointer, code) in [
            (Legacy::Start, "", "", "malformed_json"),
            (Legacy::Start, "[]", "", "schema"),
            (Legacy::Start, r#"{"userId":1,"userId":2}"#, "", "duplicate_key"),
            (Legacy::Start, r#"{"details":{"clickedAt":1}}"#, "/userId", "schema"),
            (Legacy::Start, r#"{"userId":{}}"#, "/userId", "schema"),
            (Legacy::Start, r#"{"userId":1,"event":"game_end"}"#, "/event", "schema"),
            (Legacy::Start, r#"{"userId":1,"details":[]}"#, "/details", "schema"),
            (Legacy::Start, r#"{"userId":1,"details":{"clickedAt":"soon"}}"#, "/details/clickedAt", "schema"),
            (Legacy::Result, r#"{"userId":1,"clickedCount":1}"#, "/totalSquares", "schema"),
            (Legacy::Result, r#"{"userId":1,"totalSquares":-1,"clickedCount":1}"#, "/totalSquares", "schema"),
            (Legacy::Result, r#"{"userId":1,"totalSquares":"5","clickedCount":1}"#, "/totalSquares", "schema"),
            (Legacy::Result, r#"{"userId":1,"totalSquares":5,"clickedCount":1.5}"#, "/clickedCount", "schema"),
            (Legacy::Result, r#"{"userId":1,"totalSquares":5,"clickedCount":1e99}"#, "/clickedCount", "schema"),
            (
                Legacy::Result,
                r#"{"userId":1,"totalSquares":5,"clickedCount":1,"successRate":"20"}"#,
                "/successRate",
                "schema",
            ),
        ] {
            let refused = legacy.event(body.as_bytes(), "p").unwrap_err();
            assert_eq!((refused.pointer.as_str(), refused.code, refused.status), (pointer, code, 400), "{body}");
        }
    }
}
