//! The loop of a Lambda: takes events from the runtime API, hands them to the function, answers.

use crate::{Function, telemetry};
use anyhow::anyhow;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use sluice_domain::time::Timestamp;
use std::sync::Arc;
use std::time::SystemTime;

/// Serves until the environment is shut down. A call that fails is reported as failed, with what failed and not with the event.
pub async fn serve(function: Arc<dyn Function>) -> anyhow::Result<()> {
    let handler = |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move {
            let reply =
                function.invoke(event.payload.get().as_bytes(), Timestamp::from_system(SystemTime::now())).await;
            let reply = reply.inspect_err(|e| tracing::error!(error = %telemetry::chain(e), "the call failed"))?;
            Ok::<_, lambda_runtime::Error>(RawValue::from_string(String::from_utf8(reply)?)?)
        }
    };
    lambda_runtime::run(service_fn(handler)).await.map_err(|e| anyhow!("the Lambda runtime ended: {e}"))
}
