//! Calls of Glue, over what the SDKs' own calls are made of.
//!
//! `aws-sdk-glue` has 270 calls where four are needed, and takes 103 s of one core to build without optimization, which is more than all other
//! clients of AWS here together are worth waiting for. So the four are written here: retries, time-outs, signature and errors are those of the
//! other clients.
//!
//! Source: AWS Glue Web API Reference; Smithy's "AWS JSON 1.1 protocol".

use crate::Connection;
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::AuthSchemeOptionResolverParams;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::{ErrorKind, ProvideErrorKind, RetryConfig};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::region::SigningRegion;
use aws_types::{SdkConfig, SigningName};
use serde_json::Value;
use std::error::Error;
use std::fmt;

const SERVICE: &str = "glue";

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// Whatever may pass: the call changes nothing.
    Always,
    /// Only what the service has refused because it was asked too much. A change whose reply was lost would meet itself.
    WhereNothingHappened,
}

/// Glue in one account and region.
#[derive(Debug, Clone)]
pub(super) struct Glue {
    sdk: SdkConfig,
}

impl Glue {
    pub(super) fn new(connection: &Connection) -> Self {
        Self { sdk: connection.sdk().clone() }
    }

    /// Makes a call: `name` as in the API, `input` and the answer as its JSON.
    pub(super) async fn call(
        &self,
        name: &'static str,
        input: &Value,
        repeats: Repeats,
    ) -> Result<Value, SdkError<Refusal, HttpResponse>> {
        let mut operation = Operation::builder()
            .service_name(SERVICE)
            .operation_name(name)
            .endpoint_url(&self.url())
            .standard_retry(&self.sdk.retry_config().cloned().unwrap_or_else(RetryConfig::standard))
            .retry_classifier(AwsErrorCodeClassifier::<Refusal>::builder().transient_errors(&[][..]).build())
            .timeout_config(self.sdk.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled))
            .with_connection_poisoning()
            .runtime_plugin(self.signing());
        if repeats == Repeats::Always {
            operation = operation
                .retry_classifier(TransientErrorClassifier::<Refusal>::new())
                .retry_classifier(HttpStatusCodeClassifier::default());
        }
        if let Some(version) = self.sdk.behavior_version() {
            operation = operation.behavior_version(version);
        }
        if let Some(http) = self.sdk.http_client() {
            operation = operation.http_client(http);
        }
        operation
            .serializer(move |body| request(name, body))
            .deserializer(answer)
            .build()
            .invoke(input.to_string())
            .await
    }

    fn url(&self) -> String {
        if let Some(url) = self.sdk.endpoint_url() {
            return url.to_owned();
        }
        let region = self.sdk.region().map(AsRef::as_ref).unwrap_or_default();
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{SERVICE}.{region}.{domain}")
    }

    fn signing(&self) -> StaticRuntimePlugin {
        let mut config = Layer::new("signing");
        config.store_put(AuthSchemeOptionResolverParams::new(()));
        config.store_put(SigV4OperationSigningConfig {
            region: self.sdk.region().cloned().map(SigningRegion::from),
            name: Some(SigningName::from_static(SERVICE)),
            ..SigV4OperationSigningConfig::default()
        });
        let mut components = RuntimeComponentsBuilder::new("signing")
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID])))
            .with_auth_scheme(SigV4AuthScheme::new());
        if let Some(credentials) = self.sdk.credentials_provider() {
            components = components.with_identity_resolver(SCHEME_ID, credentials);
        }
        StaticRuntimePlugin::new().with_config(config.freeze()).with_runtime_components(components)
    }
}

fn request(name: &str, body: String) -> Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method("POST")?;
    request.headers_mut().try_insert("content-type", "application/x-amz-json-1.1")?;
    request.headers_mut().try_insert("x-amz-target", format!("AWSGlue.{name}"))?;
    Ok(request)
}

fn answer(response: &HttpResponse) -> Result<Value, OrchestratorError<Refusal>> {
    let body = response.body().bytes().unwrap_or_default();
    let read = serde_json::from_slice::<Value>(body);
    if response.status().is_success() {
        return read.map_err(|error| OrchestratorError::response(error.into()));
    }
    let read = read.unwrap_or_default();
    let text = |name: &str| read.get(name).and_then(Value::as_str);
    let mut said = ErrorMetadata::builder();
    if let Some(code) = response.headers().get("x-amzn-errortype").or_else(|| text("__type")).or_else(|| text("code")) {
        // `com.amazonaws.glue#EntityNotFoundException:http://…`
        let code = code.split(':').next().unwrap_or(code);
        said = said.code(code.rsplit('#').next().unwrap_or(code));
    }
    if let Some(message) = text("message").or_else(|| text("Message")) {
        said = said.message(message);
    }
    Err(OrchestratorError::operation(Refusal(said.build())))
}

/// What the service says against a call.
#[derive(Debug)]
pub(super) struct Refusal(ErrorMetadata);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Refusal {}

impl ProvideErrorMetadata for Refusal {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

impl ProvideErrorKind for Refusal {
    /// The code says it, which a classifier of its own reads.
    fn retryable_error_kind(&self) -> Option<ErrorKind> {
        None
    }

    fn code(&self) -> Option<&str> {
        self.0.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bounds, Credentials};
    use std::time::Duration;

    fn glue(region: &str, endpoint: Option<&str>) -> Glue {
        let credentials = Credentials::new("AKIA", "secret", None, None, "test");
        let bounds = Bounds::within(Duration::from_secs(30));
        Glue::new(&Connection::new(credentials, region.into(), endpoint.map(str::to_owned), bounds))
    }

    #[test]
    fn a_region_has_its_address() {
        assert_eq!(glue("eu-central-1", None).url(), "https://glue.eu-central-1.amazonaws.com");
        assert_eq!(glue("cn-north-1", None).url(), "https://glue.cn-north-1.amazonaws.com.cn");
        assert_eq!(glue("eu-central-1", Some("http://127.0.0.1:4566")).url(), "http://127.0.0.1:4566");
    }

    #[test]
    fn a_refusal_says_its_code_and_its_reason() {
        for (header, body) in [
            (None, r#"{"__type":"com.amazonaws.glue#EntityNotFoundException","Message":"no such table"}"#),
            (Some("EntityNotFoundException:http://internal.amazon.com/"), r#"{"message":"no such table"}"#),
        ] {
            let status = 400_u16.try_into().unwrap();
            let mut response = HttpResponse::new(status, SdkBody::from(body));
            if let Some(header) = header {
                response.headers_mut().insert("x-amzn-errortype", header);
            }
            let refused = answer(&response).unwrap_err();
            let refusal = refused.as_operation_error().unwrap();
            assert_eq!(
                (refusal.meta().code(), refusal.meta().message()),
                (Some("EntityNotFoundException"), Some("no such table"))
            );
        }
        let broken = HttpResponse::new(200_u16.try_into().unwrap(), SdkBody::from("<html>"));
        assert!(answer(&broken).unwrap_err().is_response_error());
    }
}
