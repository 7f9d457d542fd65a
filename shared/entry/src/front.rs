//! What stands before the gateway: the distribution of the console, which asks in the name of its own clients.
//!
//! It says by headers who asks it and under which host. Anybody can send such headers to the gateway itself, so they count only beside the
//! secret that the stack shares with its distribution.

use sluice_stages::http::Request;
use std::fmt;
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// Has the secret.
const SECRET: &str = "x-sluice-origin";
/// Has the client's address. The function `ConsoleClient` of the template writes it, over what a client sends.
const CLIENT: &str = "true-client-ip";
/// Has the host that the client asked, which pages of the same site have too.
const HOST: &str = "x-forwarded-host";

/// The distribution, if there is one.
#[derive(Clone, Default)]
pub struct Front {
    /// Empty where there is none.
    secret: String,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

impl Front {
    /// The distribution that sends this secret; an empty one is nobody's.
    pub fn sharing(secret: &str) -> Self {
        Self { secret: secret.to_owned() }
    }

    /// Makes a request that the distribution passed on the one that it was asked; any other stays as it is. The secret does not go on.
    pub fn undo(&self, request: &mut Request) {
        let Some(given) = request.headers.remove(SECRET) else { return };
        if self.secret.is_empty() || !bool::from(self.secret.as_bytes().ct_eq(given.as_bytes())) {
            return;
        }
        let client = request.header(CLIENT).and_then(|address| address.trim().parse::<IpAddr>().ok());
        if let Some(client) = client {
            request.client_ip = client.to_string();
        }
        if let Some(host) = request.headers.remove(HOST) {
            request.headers.insert("host".to_owned(), host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [(&str, &str); 3] =
        [("host", "id.execute-api.example"), (CLIENT, "2001:db8::7"), (HOST, "console.example")];

    fn through(front: &Front, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut request = Request { headers, client_ip: "192.0.2.1".into(), ..Request::default() };
        front.undo(&mut request);
        request
    }

    #[test]
    fn with_the_secret_client_and_host_are_those_that_asked_the_distribution() {
        let request = through(&Front::sharing("s3cret"), &[ASKED.as_slice(), &[(SECRET, "s3cret")]].concat());
        assert_eq!((request.client_ip.as_str(), request.header("host")), ("2001:db8::7", Some("console.example")));
        assert_eq!(request.header(SECRET), None, "the secret goes no further");
    }

    #[test]
    fn without_the_secret_nobody_is_believed() {
        for given in [None, Some(""), Some("s3cre"), Some("s3cret "), Some("S3CRET"), Some("s3cret,s3cret")] {
            for secret in ["s3cret", ""] {
                let sent: Vec<(&str, &str)> = given.map(|given| (SECRET, given)).into_iter().chain(ASKED).collect();
                let request = through(&Front::sharing(secret), &sent);
                assert_eq!(
                    (request.client_ip.as_str(), request.header("host")),
                    ("192.0.2.1", Some("id.execute-api.example")),
                    "{given:?}"
                );
                assert_eq!(request.header(SECRET), None);
            }
        }
    }

    #[test]
    fn what_is_no_address_is_not_taken_for_one() {
        let sent = [(SECRET, "s3cret"), (CLIENT, "203.0.113.9, 10.0.0.1"), ("host", "id.execute-api.example")];
        let request = through(&Front::sharing("s3cret"), &sent);
        assert_eq!((request.client_ip.as_str(), request.header("host")), ("192.0.2.1", Some("id.execute-api.example")));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert!(!format!("{:?}", Front::sharing("s3cret")).contains("s3cret"));
    }
}
