//! How a cluster is told who asks.

use crate::failure::{OPEN, invalid};
use opensearch::auth::Credentials;
use opensearch::http::transport::TransportBuilder;
use sluice_ports::PortError;

/// Who asks. It has no `Debug`: it holds secrets.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in a program")]
pub enum Access {
    /// Nobody in particular, for a cluster without the security plugin.
    Open,
    /// A user with a password, for a cluster of one's own.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// A role of AWS: every request is signed (Signature Version 4).
    #[cfg(feature = "sigv4")]
    SigV4 {
        /// What is asked.
        service: SignedService,
        /// Credentials and region.
        config: aws_types::SdkConfig,
    },
}

/// Which of AWS's services a signature is for.
#[cfg(feature = "sigv4")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedService {
    /// A managed domain (`es`).
    Domain,
    /// A Serverless collection (`aoss`). Only collections of the search type take document ids.
    Serverless,
}

impl Access {
    /// The transport with these credentials; without any where AWS gave no region or no credentials, which is an error.
    pub(crate) fn apply(self, transport: TransportBuilder) -> Result<TransportBuilder, PortError> {
        match self {
            Self::Open => Ok(transport),
            Self::Basic { user, .. } if user.is_empty() || user.contains(':') => {
                Err(invalid(OPEN, "the user of the search cluster is empty or has a colon"))
            }
            Self::Basic { user, password } => Ok(transport.auth(Credentials::Basic(user, password))),
            #[cfg(feature = "sigv4")]
            Self::SigV4 { service, config } => {
                let credentials = Credentials::try_from(&config).map_err(|e| {
                    invalid(OPEN, "requests to the search cluster cannot be signed: region or credentials are missing")
                        .with_source(e)
                })?;
                let name = match service {
                    SignedService::Domain => "es",
                    SignedService::Serverless => "aoss",
                };
                Ok(transport.auth(credentials).service_name(name))
            }
        }
    }
}
