//! Posts to web addresses that somebody else chose.
//!
//! Where a name leads is looked up once, checked, and only what was checked is connected to; a redirect is not followed; no proxy is asked,
//! since it would look up the name again. This crate does not know which addresses may be called, nor what is posted.

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use sluice_ports::{ErrorKind, HookCall, Hooks, PortError, SEND_TIMEOUT};
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const POST: &str = "hook.post";

/// Which addresses may be called.
pub type Guard = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Posts over HTTP and HTTPS.
pub struct HttpHooks {
    client: Client,
    guard: Guard,
}

impl HttpHooks {
    /// Calls only addresses that `guard` lets pass.
    pub fn new(guard: Guard) -> Result<Self, PortError> {
        // Fails only where a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .dns_resolver(Arc::new(Guarded(guard.clone())))
            .redirect(Policy::none())
            .no_proxy()
            .timeout(SEND_TIMEOUT)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| PortError::new(ErrorKind::Invalid, POST, "no client can be made").with_source(e))?;
        Ok(Self { client, guard })
    }

    /// A name is checked when it is looked up. An address that stands in the URL is not looked up.
    fn check(&self, url: &Url) -> Result<(), PortError> {
        let host = url.host_str().unwrap_or_default();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
        match address {
            Ok(address) if !(self.guard)(address) => Err(refused()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Hooks for HttpHooks {
    async fn post(&self, call: HookCall) -> Result<(), PortError> {
        let invalid = |what: &str| PortError::new(ErrorKind::Invalid, POST, what);
        let url = Url::parse(&call.url).map_err(|_| invalid("the address is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("the address is not http or https"));
        }
        self.check(&url)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header has no good name"))?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid("a header has no good value"))?;
            headers.insert(name, value);
        }
        let sent = self.client.post(url).headers(headers).body(call.body).send().await;
        // What is in the answer says nothing to us, so it is not read.
        let status = sent.map_err(failed)?.status();
        let answered = |kind| Err(PortError::new(kind, POST, format!("the address answered {}", status.as_u16())));
        match status {
            _ if status.is_success() => Ok(()),
            _ if status.is_redirection() => {
                let what = format!("the address answered {} and a redirect is not followed", status.as_u16());
                Err(PortError::new(ErrorKind::Denied, POST, what))
            }
            StatusCode::TOO_MANY_REQUESTS => answered(ErrorKind::Throttled),
            _ if status.is_client_error() => answered(ErrorKind::Denied),
            _ => answered(ErrorKind::Unavailable),
        }
    }
}

fn refused() -> PortError {
    PortError::new(ErrorKind::Denied, POST, NotAllowed.to_string())
}

/// The address may hold a secret, so no error repeats it.
fn failed(error: reqwest::Error) -> PortError {
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(found) = cause {
        if found.is::<NotAllowed>() {
            return refused();
        }
        cause = found.source();
    }
    let (kind, what) = if error.is_timeout() {
        (ErrorKind::Timeout, format!("the address did not answer within {} s", SEND_TIMEOUT.as_secs()))
    } else if error.is_connect() {
        (ErrorKind::Unavailable, "the address cannot be reached".to_owned())
    } else {
        (ErrorKind::Unavailable, "the connection broke before there was an answer".to_owned())
    };
    PortError::new(kind, POST, what).with_source(error)
}

/// Looks names up, and refuses those that lead to any address that may not be called.
struct Guarded(Guard);

#[derive(Debug)]
struct NotAllowed;

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address is not a public one: setting `private_networks` says which others may be called")
    }
}

impl Error for NotAllowed {}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match found.iter().all(|address| guard(address.ip())) {
                true => Ok(Box::new(found.into_iter()) as Addrs),
                false => Err(Box::new(NotAllowed) as Box<dyn Error + Send + Sync>),
            }
        })
    }
}
