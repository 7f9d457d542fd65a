//! A managed domain by its name.

use crate::failure::OPEN;
use aws_sdk_opensearch::Client;
use aws_sdk_opensearch::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_opensearch::types::DomainStatus;
use sluice_ports::{ErrorKind, PortError};

/// The host that answers for a domain's documents.
pub(crate) async fn endpoint(client: &Client, name: &str) -> Result<String, PortError> {
    let answer = client.describe_domain().domain_name(name).send().await.map_err(|e| {
        let (kind, what) = match e.code() {
            Some("ResourceNotFoundException") => (ErrorKind::NotFound, "does not exist in this account and region"),
            Some("AccessDeniedException") => (ErrorKind::Denied, "may not be looked up (`es:DescribeDomain`)"),
            Some("ValidationException") => (ErrorKind::Invalid, "has a name that no domain has"),
            _ => (ErrorKind::Unavailable, "could not be looked up"),
        };
        PortError::new(kind, OPEN, format!("the search domain `{name}` {what}"))
            .with_source(DisplayErrorContext(&e).to_string())
    })?;
    endpoint_of(name, answer.domain_status())
}

fn endpoint_of(name: &str, status: Option<&DomainStatus>) -> Result<String, PortError> {
    let fail = |kind, what: &str| Err(PortError::new(kind, OPEN, format!("the search domain `{name}` {what}")));
    let Some(status) = status else { return fail(ErrorKind::NotFound, "does not exist in this account and region") };
    if status.deleted() == Some(true) {
        return fail(ErrorKind::NotFound, "is being deleted");
    }
    // A domain within a VPC has no public endpoint.
    match status.endpoint().or_else(|| status.endpoints()?.get("vpc").map(String::as_str)) {
        Some(endpoint) => Ok(endpoint.to_owned()),
        None => fail(ErrorKind::Unavailable, "has no endpoint yet: it is still being made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> aws_sdk_opensearch::types::builders::DomainStatusBuilder {
        let config = aws_sdk_opensearch::types::ClusterConfig::builder().build();
        DomainStatus::builder().domain_id("1/d").domain_name("d").arn("arn:aws:es:r:1:domain/d").cluster_config(config)
    }

    fn read(status: aws_sdk_opensearch::types::builders::DomainStatusBuilder) -> Result<String, ErrorKind> {
        endpoint_of("d", Some(&status.build().unwrap())).map_err(|e| e.kind)
    }

    #[test]
    fn the_endpoint_is_the_public_one_or_that_of_the_vpc() {
        assert_eq!(read(status().endpoint("search-d.example.org")), Ok("search-d.example.org".into()));
        assert_eq!(read(status().endpoints("vpc", "vpc-d.example.org")), Ok("vpc-d.example.org".into()));
    }

    #[test]
    fn a_domain_that_is_not_there_yet_or_no_more_has_none() {
        assert_eq!(read(status().created(false).processing(true)), Err(ErrorKind::Unavailable));
        assert_eq!(read(status().deleted(true).endpoint("search-d.example.org")), Err(ErrorKind::NotFound));
        assert_eq!(endpoint_of("d", None).unwrap_err().kind, ErrorKind::NotFound);
    }
}
