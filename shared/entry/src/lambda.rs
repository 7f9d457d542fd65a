//! The loop of a Lambda: takes events from the runtime API, hands them to the function, answers.

use crate::{Function, metrics, telemetry};
use anyhow::anyhow;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use sluice_domain::time::Timestamp;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::Instrument as _;

/// What is left of a call's time when it is given up, so that there is time to say so: an environment that Lambda ends itself says nothing.
const RESERVE: Duration = Duration::from_millis(500);
/// The longest that Lambda lets a call take (AWS Lambda quotas).
const LONGEST: Duration = Duration::from_secs(900);

/// Serves the stage `verb` of a stack until the environment is shut down. A call that fails is reported as failed, with what failed and
/// not with the event. Every log line of a call has its request id and, where there is one, its X-Ray trace id.
pub async fn serve(verb: &'static str, stack: &str, function: Arc<dyn Function>) -> anyhow::Result<()> {
    let handler = |event: LambdaEvent<Box<RawValue>>| {
        let (function, stack) = (function.clone(), stack.to_owned());
        let context = event.context;
        let trace_id = context.xray_trace_id.as_deref().unwrap_or_default();
        let span = tracing::info_span!("call", function = verb, request.id = %context.request_id, trace.id = trace_id);
        let left = left(context.deadline(), SystemTime::now());
        async move {
            let now = Timestamp::from_system(SystemTime::now());
            let called = tokio::time::timeout(left, function.invoke(event.payload.get().as_bytes(), now)).await;
            let now_ms = Timestamp::from_system(SystemTime::now()).micros() / 1_000;
            if metrics::is_due(verb, now_ms)
                && let Some(line) = metrics::take(&stack, verb, now_ms)
            {
                println!("{line}");
            }
            let Ok(reply) = called else {
                tracing::error!("the call was given up: its time is over");
                return Err(lambda_runtime::Error::from(format!("`{verb}` did not finish in its time")));
            };
            let reply = reply.inspect_err(|e| tracing::error!(error = %telemetry::chain(e), "the call failed"))?;
            Ok(RawValue::from_string(String::from_utf8(reply)?)?)
        }
        .instrument(span)
    };
    lambda_runtime::run(service_fn(handler)).await.map_err(|e| anyhow!("the Lambda runtime ended: {e}"))
}

/// How long a call may work. A deadline that is over before the call begins is none: `cargo lambda watch` says 600,000 ms since 1970.
fn left(deadline: SystemTime, now: SystemTime) -> Duration {
    deadline.duration_since(now).map_or(LONGEST, |left| left.saturating_sub(RESERVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_given_up_before_its_deadline_and_one_without_a_deadline_has_the_longest_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        assert_eq!(left(now + Duration::from_secs(30), now), Duration::from_millis(29_500));
        assert_eq!(left(now + Duration::from_millis(100), now), Duration::ZERO);
        assert_eq!(left(SystemTime::UNIX_EPOCH + Duration::from_millis(600_000), now), LONGEST);
    }
}
