//! Alarms of CloudWatch, as SNS hands them on.
//!
//! Source of the form: Amazon CloudWatch User Guide, "Alarm events and SNS notifications". `StateChangeTime` is CloudWatch's own, so it orders
//! the messages of an alarm, which SNS may hand on in any order and more than once.

use crate::incidents::Sighting;
use serde::Deserialize;
use sluice_domain::alert::{IncidentKind, IncidentState};
use sluice_domain::time::Timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Alarm {
    alarm_name: String,
    alarm_description: Option<String>,
    new_state_value: String,
    new_state_reason: Option<String>,
    state_change_time: String,
    trigger: Option<Trigger>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Trigger {
    threshold: Option<f64>,
}

/// What a message of an alarm says; `None` where it is none. An alarm that lacks data says nothing. The error says what cannot be read.
pub(crate) fn read(body: &str) -> Option<Result<Option<Sighting>, String>> {
    // Our own messages have no such member; most are told apart without being read.
    if !body.contains("\"AlarmName\"") {
        return None;
    }
    let alarm: Alarm = serde_json::from_str(body).ok()?;
    let state = match alarm.new_state_value.as_str() {
        "ALARM" => IncidentState::Firing,
        "OK" => IncidentState::Resolved,
        "INSUFFICIENT_DATA" => return Some(Ok(None)),
        _ => return Some(Err("`NewStateValue` is none of `ALARM`, `OK` and `INSUFFICIENT_DATA`".into())),
    };
    // `2026-11-21T10:00:00.000+0000`
    let rfc3339 = match alarm.state_change_time.strip_suffix("+0000") {
        Some(utc) => format!("{utc}Z"),
        None => alarm.state_change_time,
    };
    let Some(changed) = Timestamp::parse_rfc3339(&rfc3339) else {
        return Some(Err("`StateChangeTime` is no time".into()));
    };
    let message = [alarm.alarm_description, alarm.new_state_reason].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Some(Ok(Some(Sighting {
        kind: IncidentKind::Cloudwatch,
        subject: alarm.alarm_name,
        state,
        message,
        value: None,
        threshold: alarm.trigger.and_then(|trigger| trigger.threshold),
        order: Some(changed.to_micros_text()),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_alarm_is_taken_for_one() {
        for other in
            ["", "{}", "\"AlarmName\"", r#"{"v":1,"events":[{"data":{"AlarmName":"x"}}]}"#, r#"{"AlarmName":"x"}"#]
        {
            assert!(read(other).is_none(), "{other}");
        }
        let with = |state: &str, time: &str| {
            read(&format!(r#"{{"AlarmName":"x","NewStateValue":"{state}","StateChangeTime":"{time}"}}"#)).unwrap()
        };
        let sighting = with("ALARM", "2026-11-21T10:00:00.123+0000").unwrap().unwrap();
        assert_eq!(
            (sighting.state, sighting.order.as_deref()),
            (IncidentState::Firing, Some("2026-11-21T10:00:00.123000Z"))
        );
        assert_eq!(with("INSUFFICIENT_DATA", "x"), Ok(None));
        assert!(with("BROKEN", "2026-11-21T10:00:00.123+0000").is_err() && with("OK", "x").is_err());
    }
}
