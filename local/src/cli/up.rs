//! `sluice up`: arguments only; the runtime does the rest.

use crate::cli::Global;
use crate::cli::exit::{Exit, Failure};
use std::path::PathBuf;

/// Run the whole platform on this machine.
///
/// Prints the address, the admin key and what to try next. Ctrl-C (SIGINT) and SIGTERM stop it cleanly: what is in
/// flight is finished first. A second one ends it at once; what was answered is kept even then.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "\
Examples:
  sluice up
  sluice up --data /srv/sluice --listen 0.0.0.0:7070",
    arg(unused("url")),
    arg(unused("key"))
)]
pub struct Up {
    /// Address and port to listen on; port 0 takes a free one [default: the setting `listen`, 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// Wire the stages by this template instead of the bundled one
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
}

/// An option of all commands that means nothing to the server itself: taken, and not shown.
fn unused(name: &'static str) -> clap::Arg {
    clap::Arg::new(name).long(name).hide(true)
}

/// Runs until it is told to stop.
#[cfg(feature = "runtime")]
pub fn run(global: &Global, up: Up) -> Result<(), Failure> {
    let options = crate::runtime::UpOptions {
        data: global.data.clone(),
        listen: up.listen.map(|a| a.to_string()),
        template: up.template,
    };
    crate::runtime::up(&options).map_err(|e| Failure::new(Exit::Failed, format!("{e:#}")))
}

/// Says that this build cannot.
#[cfg(not(feature = "runtime"))]
pub fn run(_: &Global, _: Up) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "this build of `sluice` has no runtime: build it with the feature `runtime`"))
}
