//! The search cluster that the settings name.

use crate::start::Start;
use anyhow::bail;
use sluice_adapters_aws::secrets;
use sluice_adapters_opensearch::{Access, OpenSearch, OpenSearchSettings, Place, SignedService};
use sluice_entry::settings::SettingError;
use std::sync::Arc;

/// Opens the cluster; `None` where this deployment has none.
pub(crate) async fn open(start: &Start) -> anyhow::Result<Option<Arc<OpenSearch>>> {
    let sdk = start.connection.sdk();
    let place = match (start.settings.text("search_endpoint")?, start.settings.text("search_domain")?) {
        ("", "") => return Ok(None),
        ("", name) => Place::Domain { name: name.to_owned(), client: aws_sdk_opensearch::Client::new(sdk) },
        (url, "") => Place::Url(url.to_owned()),
        _ => bail!("setting `search_domain` (`SLUICE_SEARCH_DOMAIN`): an endpoint is given too; give one of them"),
    };
    let sign = start.settings.text("search_sign")?;
    let access = match sign {
        "es" => Access::SigV4 { service: SignedService::Domain, config: sdk.clone() },
        "aoss" => Access::SigV4 { service: SignedService::Serverless, config: sdk.clone() },
        "none" => Access::Open,
        "basic" => {
            let named = start.resource("secret", "search_secret", "SLUICE_SEARCH_SECRET")?;
            let secret = secrets::read(&start.connection, &named).await?;
            let Some((user, password)) = secret.expose().split_once(':') else {
                bail!("{named} is not of the form `user:password`");
            };
            Access::Basic { user: user.to_owned(), password: password.to_owned() }
        }
        _ => {
            let reason = format!("must be `es`, `aoss`, `basic` or `none`, not `{sign}`");
            return Err(SettingError { key: "search_sign".into(), reason }.into());
        }
    };
    let bounds = start.connection.bounds();
    let settings = OpenSearchSettings { request_timeout: bounds.operation, ..OpenSearchSettings::default() };
    Ok(Some(Arc::new(OpenSearch::new(place, access, settings)?)))
}
