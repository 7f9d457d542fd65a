//! The settings: one list, each declared once. The environment variable `SLUICE_TIME_ZONE`, the template's parameter `TimeZone` and the key
//! `time_zone` in `DATA/settings.toml` are the same name in three spellings.

use chrono_tz::Tz;
use sluice_stages::networks::Networks;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

/// Where a setting means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// On AWS and on one machine.
    Both,
    /// Only on AWS: names of resources, filled in by the template.
    Aws,
    /// Only on one machine; where AWS needs it, the template fills it in.
    OneMachine,
}

/// A setting's declaration.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name as a key of `settings.toml`.
    pub key: &'static str,
    /// Its value where nothing is said; `None`: it must be given.
    pub default: Option<&'static str>,
    /// Where it means something.
    pub world: World,
    /// What it does, with its unit.
    pub description: &'static str,
}

impl Setting {
    /// `SLUICE_TIME_ZONE`
    pub fn environment_variable(&self) -> String {
        format!("SLUICE_{}", self.key.to_ascii_uppercase())
    }

    /// `TimeZone`
    pub fn parameter(&self) -> String {
        self.key
            .split('_')
            .map(|w| w.get(..1).map_or_else(String::new, |first| first.to_ascii_uppercase() + &w[1..]))
            .collect()
    }
}

const fn setting(key: &'static str, default: &'static str, world: World, description: &'static str) -> Setting {
    Setting { key, default: Some(default), world, description }
}

const fn resource(key: &'static str, description: &'static str) -> Setting {
    Setting { key, default: None, world: World::Aws, description }
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    setting(
        "client_ip_mode",
        "truncated",
        World::Both,
        "What is kept of a client's address: `full`, `truncated` (/24 for IPv4, /48 for IPv6) or `none`.",
    ),
    setting(
        "console_url",
        "",
        World::Both,
        "Address of the web console, for links in mails, without a slash at its end. Empty: mails have no links.",
    ),
    setting(
        "log_level",
        "info",
        World::Both,
        "`error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,sluice_stages=debug`.",
    ),
    setting("mail_from", "sluice@localhost", World::Both, "Sender address of mails."),
    setting(
        "max_body_bytes",
        "4500000",
        World::Both,
        "Largest request body in bytes, as sent. On AWS a function gets no more: its event has 6 MiB, in which a compressed body stands in base64.",
    ),
    setting("max_decompressed_bytes", "16777216", World::Both, "Largest request body in bytes after decompression."),
    setting("max_events_per_request", "10000", World::Both, "Most events in one request."),
    setting(
        "metrics_allowed",
        "127.0.0.1,::1",
        World::Both,
        "Addresses or CIDR ranges, comma-separated, that get `/metrics` without a key. Behind a proxy that is not in `trusted_proxies` every client has the proxy's address.",
    ),
    setting(
        "private_networks",
        "",
        World::Both,
        "Addresses or CIDR ranges, comma-separated, that webhooks may call although they are not public ones. Empty: public ones only.",
    ),
    setting(
        "quarantine_per_key_hour",
        "10000",
        World::Both,
        "Rejected events kept per write key and hour; beyond, they are only counted.",
    ),
    setting("sql_max_rows", "10000", World::Both, "Most rows that one SQL query answers."),
    setting("sql_timeout_ms", "30000", World::Both, "A SQL query is stopped after this many milliseconds."),
    setting(
        "time_zone",
        "UTC",
        World::Both,
        "The project's time zone (IANA name): times without an offset are read in it.",
    ),
    resource(
        "admin_key_secret",
        "ARN of the Secrets Manager secret that holds the first admin key, which `api` makes at its first start.",
    ),
    resource(
        "athena_workgroup",
        "Name of the Athena workgroup that runs `/v1/sql`; it says where results lie and how much a query may scan.",
    ),
    resource("bucket", "Name of the bucket for lake, quarantine and schemas."),
    resource("commit_queue", "URL of the queue that tells `commit` which tables have new files."),
    resource(
        "dead_letters",
        "The dead-letter queues that are swept: `stage=URL`, comma-separated, each with the stage whose letters lie there.",
    ),
    resource(
        "glue_database",
        "Name of the Glue database of the lake's tables, which `commit` makes there and `/v1/sql` reads.",
    ),
    setting(
        "origin_secret",
        "",
        World::Aws,
        "What CloudFront sends along, so that its word on a client's address counts. Empty: nobody's does.",
    ),
    resource("quarantine_queue", "URL of the quarantine queue."),
    resource(
        "queues",
        "All queues for `/v1/queues` and `/v1/status`: `Name=URL`, comma-separated, with the names of the template.",
    ),
    setting(
        "search_domain",
        "",
        World::Aws,
        "Name of a managed OpenSearch domain whose endpoint is looked up; instead of `SLUICE_SEARCH_ENDPOINT`.",
    ),
    setting(
        "search_endpoint",
        "",
        World::Aws,
        "URL of OpenSearch. Without it and without a domain there is no search: `index` does not start, `/v1/search` answers 503.",
    ),
    setting(
        "search_secret",
        "",
        World::Aws,
        "ARN of the Secrets Manager secret with `user:password` for OpenSearch, where `SLUICE_SEARCH_SIGN` is `basic`.",
    ),
    setting(
        "search_sign",
        "es",
        World::Aws,
        "How requests to OpenSearch are signed: `es` (a managed domain), `aoss` (a Serverless collection), `basic` (user and password) or `none`.",
    ),
    resource("stack", "Name of the stack, a dimension of the metrics."),
    resource("table", "Name of the state table."),
    resource("topic", "ARN of the events topic."),
    setting(
        "disk_free_alert_bytes",
        "1073741824",
        World::OneMachine,
        "Operators are told when the disk of the data folder has fewer bytes left. On AWS nothing fills up.",
    ),
    setting(
        "lag_alert_s",
        "30",
        World::OneMachine,
        "Operators are told when the oldest message of a queue waits for more than these seconds. On AWS the template's alarms say when.",
    ),
    setting("listen", "127.0.0.1:7070", World::OneMachine, "Address and port of `sluice up`."),
    setting(
        "max_backlog_bytes",
        "4294967296",
        World::OneMachine,
        "Bytes that a queue holds before senders are asked to slow down (429).",
    ),
    setting(
        "max_request_memory_bytes",
        "268435456",
        World::OneMachine,
        "Bytes of request bodies in memory at once; beyond, senders are asked to slow down (429).",
    ),
    setting(
        "max_window_ms",
        "1000",
        World::OneMachine,
        "Longest batching window in milliseconds; the template's windows are cut to it, since an invocation costs nothing here.",
    ),
    setting(
        "search_memory_bytes",
        "67108864",
        World::OneMachine,
        "Memory for documents that are being indexed, in bytes.",
    ),
    setting("sql_memory_bytes", "268435456", World::OneMachine, "Memory that one SQL query may use, in bytes."),
    setting(
        "stages_off",
        "",
        World::OneMachine,
        "Stages that do not run, comma-separated (`index,detect`); nothing is queued for them. On AWS the template fills it in: `index` with `Search=none`.",
    ),
    setting(
        "trusted_proxies",
        "",
        World::OneMachine,
        "Addresses or CIDR ranges, comma-separated, whose `X-Forwarded-For` is believed.",
    ),
];

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting `{}` (`SLUICE_{}`): {}", self.key, self.key.to_ascii_uppercase(), self.reason)
    }
}

impl std::error::Error for SettingError {}

/// Values of settings, read and checked when they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    /// Takes values by key from several places, the first that has one wins. A key that no setting has is an error that names the ones
    /// there are.
    pub fn from_layers(layers: impl IntoIterator<Item = BTreeMap<String, String>>) -> Result<Self, SettingError> {
        let mut values = BTreeMap::new();
        for layer in layers {
            for (key, value) in layer {
                if !SETTINGS.iter().any(|s| s.key == key) {
                    let known: Vec<&str> = SETTINGS.iter().map(|s| s.key).collect();
                    return Err(SettingError {
                        key,
                        reason: format!("there is no such setting; there are {}", known.join(", ")),
                    });
                }
                values.entry(key).or_insert(value);
            }
        }
        Ok(Self { values })
    }

    /// The values that the process environment gives.
    pub fn environment() -> BTreeMap<String, String> {
        SETTINGS
            .iter()
            .filter_map(|s| Some((s.key.to_owned(), std::env::var(s.environment_variable()).ok()?)))
            .collect()
    }

    /// A setting's text.
    pub fn text(&self, key: &str) -> Result<&str, SettingError> {
        let fail = |reason: &str| SettingError { key: key.to_owned(), reason: reason.to_owned() };
        let setting = SETTINGS.iter().find(|s| s.key == key).ok_or_else(|| fail("is not declared"))?;
        match self.values.get(key) {
            Some(value) => Ok(value),
            None => setting.default.ok_or_else(|| fail("is missing")),
        }
    }

    /// A setting that is a whole number above zero.
    pub fn number(&self, key: &str) -> Result<u64, SettingError> {
        let text = self.text(key)?;
        text.trim().parse().ok().filter(|n| *n > 0).ok_or_else(|| SettingError {
            key: key.to_owned(),
            reason: format!("must be a whole number above 0, not `{text}`"),
        })
    }

    /// A setting that is a size in memory.
    pub fn size(&self, key: &str) -> Result<usize, SettingError> {
        usize::try_from(self.number(key)?)
            .map_err(|_| SettingError { key: key.to_owned(), reason: "is too large".into() })
    }

    /// A setting that is an IANA time zone.
    pub fn zone(&self, key: &str) -> Result<Tz, SettingError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| SettingError {
            key: key.to_owned(),
            reason: format!("`{text}` is not an IANA time zone such as `Asia/Seoul`"),
        })
    }

    /// A setting that is a set of addresses and CIDR ranges, separated by commas.
    pub fn networks(&self, key: &str) -> Result<Networks, SettingError> {
        let texts = self.list(key)?;
        Networks::parse(texts.iter().map(String::as_str)).map_err(|text| {
            let reason = format!("`{text}` is neither an address nor a CIDR range");
            SettingError { key: key.to_owned(), reason }
        })
    }

    /// A setting that is a list, separated by commas.
    pub fn list(&self, key: &str) -> Result<Vec<String>, SettingError> {
        Ok(self.text(key)?.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
    }
}

/// The settings as a Markdown page.
pub fn reference() -> String {
    let mut page = String::from(
        "# Settings\n\nEvery setting has one name in three spellings: the environment variable, the key in `DATA/settings.toml` on one machine,\n\
         and the parameter of `template.yaml` on AWS. The environment wins over the file. This page is made from the declarations in\n\
         `shared/entry/src/settings.rs`; a test fails when it is out of date.\n",
    );
    for (world, title) in [
        (World::Both, "Everywhere"),
        (World::OneMachine, "On one machine"),
        (World::Aws, "On AWS, filled in by the template"),
    ] {
        let _ = write!(
            page,
            "\n## {title}\n\n| `settings.toml` | environment | parameter | default | what it does |\n|---|---|---|---|---|\n"
        );
        for s in SETTINGS.iter().filter(|s| s.world == world) {
            let default = match s.default {
                None => "(required)".into(),
                Some("") => "(empty)".into(),
                Some(d) => format!("`{d}`"),
            };
            let parameter = if world == World::Both { format!("`{}`", s.parameter()) } else { "–".into() };
            let key = if world == World::Aws { "–".into() } else { format!("`{}`", s.key) };
            let _ = writeln!(
                page,
                "| {key} | `{}` | {parameter} | {default} | {} |",
                s.environment_variable(),
                s.description
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn the_first_layer_wins_and_defaults_fill_in() {
        let settings = Settings::from_layers([layer("time_zone", "Asia/Seoul"), layer("time_zone", "UTC")]).unwrap();
        assert_eq!(settings.zone("time_zone"), Ok(Tz::Asia__Seoul));
        assert_eq!(settings.number("sql_max_rows"), Ok(10_000));
    }

    #[test]
    fn mistakes_name_the_setting_and_what_is_allowed() {
        let unknown = Settings::from_layers([layer("time_zoen", "UTC")]).unwrap_err();
        assert!(
            unknown.to_string().contains("setting `time_zoen`") && unknown.reason.contains("time_zone"),
            "{unknown}"
        );
        let settings = Settings::from_layers([layer("time_zone", "Mars"), layer("sql_max_rows", "many")]).unwrap();
        assert!(settings.zone("time_zone").unwrap_err().reason.contains("`Mars`"));
        assert!(settings.number("sql_max_rows").unwrap_err().reason.contains("`many`"));
        assert_eq!(settings.text("bucket").unwrap_err().reason, "is missing");
        let settings = Settings::from_layers([layer("metrics_allowed", "10.0.0.0/8, ten")]).unwrap();
        assert!(settings.networks("metrics_allowed").unwrap_err().reason.contains("`ten`"));
        let local = Settings::default().networks("metrics_allowed").unwrap();
        assert!(local.contains([127, 0, 0, 1].into()) && !local.contains([10, 0, 0, 1].into()));
    }

    #[test]
    fn a_setting_has_three_spellings() {
        let setting = SETTINGS.iter().find(|s| s.key == "max_body_bytes").unwrap();
        assert_eq!(
            (setting.environment_variable().as_str(), setting.parameter().as_str()),
            ("SLUICE_MAX_BODY_BYTES", "MaxBodyBytes")
        );
    }

    #[test]
    fn the_settings_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "docs/settings.md is out of date: run `UPDATE=1 cargo test -p sluice-entry`");
    }
}
