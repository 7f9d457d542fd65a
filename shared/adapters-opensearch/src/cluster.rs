//! Requests to the cluster and their answers.

use crate::failure::{self, OPEN, invalid};
use crate::{Access, OpenSearchSettings, Place};
use bytes::Bytes;
use opensearch::http::headers::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use opensearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use opensearch::http::{Method, Url};
use sluice_ports::{ErrorKind, PortError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The one who sends.
pub(crate) struct Cluster {
    place: Place,
    access: Access,
    settings: OpenSearchSettings,
    transport: OnceCell<Transport>,
}

/// A request.
pub(crate) struct Call<'c> {
    pub method: Method,
    pub path: &'c str,
    pub query: &'c [(&'static str, &'c str)],
    /// JSON, one text or one per line.
    pub body: Bytes,
    /// The port's operation, for errors.
    pub operation: &'static str,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

impl Cluster {
    pub(crate) fn new(place: Place, access: Access, settings: OpenSearchSettings) -> Result<Self, PortError> {
        let transport = match &place {
            Place::Url(url) => OnceCell::new_with(Some(transport(url, access.clone())?)),
            #[cfg(feature = "domain")]
            Place::Domain { .. } => OnceCell::new(),
        };
        Ok(Self { place, access, settings, transport })
    }

    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, PortError> {
        let Call { method, path, query, body, operation } = call;
        let transport = self.transport.get_or_try_init(|| self.open()).await?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Of a compressed answer the length is not known before it was read.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let timeout = Some(self.settings.request_timeout);
        let failed = |e| failure::unanswered(operation, self.settings.request_timeout, e);
        let response = transport.send(method, path, headers, Some(query), Some(body), timeout).await.map_err(failed)?;
        let limit = self.settings.answer_bytes;
        if response.content_length().is_some_and(|length| length > limit) {
            let detail = format!("the answer has more than {limit} bytes: ask for fewer hits or fewer fields");
            return Err(PortError::new(ErrorKind::TooLarge, operation, detail));
        }
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let status = response.status_code().as_u16();
        let body = response.bytes().await.map_err(failed)?;
        Ok(Answer { status, retry_after: seconds.map(Duration::from_secs), body })
    }

    async fn open(&self) -> Result<Transport, PortError> {
        match &self.place {
            Place::Url(url) => transport(url, self.access.clone()),
            #[cfg(feature = "domain")]
            Place::Domain { name, client } => {
                let endpoint = crate::domain::endpoint(client, name).await?;
                transport(&format!("https://{endpoint}"), self.access.clone())
            }
        }
    }
}

fn transport(url: &str, access: Access) -> Result<Transport, PortError> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // The address itself may hold a password, so it is not repeated.
    let parsed =
        parsed.ok_or_else(|| invalid(OPEN, "the address of the search cluster is not an http or https URL"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(invalid(OPEN, "the address of the search cluster holds a user: give user and password apart"));
    }
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let is_loopback = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let builder = access.apply(TransportBuilder::new(SingleNodeConnectionPool::new(parsed)))?;
    let builder = if is_loopback { builder.disable_proxy() } else { builder };
    builder.build().map_err(|e| invalid(OPEN, "no client of the search cluster can be made").with_source(e))
}
