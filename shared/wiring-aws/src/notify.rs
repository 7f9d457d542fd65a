//! `notify`.

use crate::start::run as start;
use sluice_adapters_aws::ses::SesMail;
use sluice_adapters_http::HttpHooks;
use sluice_entry::Function;
use sluice_entry::functions::{QueueFunction, callable, notify_settings};
use sluice_stages::notify::{Notify, NotifyPorts};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("notify", async |start| {
        let sender = start.resource("sender", "mail_from", "SLUICE_MAIL_FROM")?;
        let mail = Arc::new(SesMail::new(&start.connection, sender));
        let ports = NotifyPorts {
            mail,
            hooks: Arc::new(HttpHooks::new(callable(&start.settings)?)?),
            table: Arc::new(start.table()?),
            topic: start.topic()?,
            quarantine: start.quarantine()?,
        };
        Ok(Arc::new(QueueFunction(Notify::new(ports, notify_settings(&start.settings)?))) as Arc<dyn Function>)
    })
}
