//! `notify`.

use crate::start::run as start;
use sluice_adapters_aws::ses::SesMail;
use sluice_entry::Function;
use sluice_entry::functions::{QueueFunction, notify_settings};
use sluice_stages::notify::{Notify, NotifyPorts};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("notify", async |start| {
        let sender = start.resource("sender", "mail_from", "SLUICE_MAIL_FROM")?;
        let mail = Arc::new(SesMail::new(&start.connection, sender));
        let ports = NotifyPorts { mail, table: Arc::new(start.table()?), quarantine: start.quarantine()? };
        Ok(Arc::new(QueueFunction(Notify::new(ports, notify_settings(&start.settings)?))) as Arc<dyn Function>)
    })
}
