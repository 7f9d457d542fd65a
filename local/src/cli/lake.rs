//! `sluice lake`: what is done to the lake's tables while no server runs.

use crate::cli::Global;
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::Out;
#[cfg(feature = "runtime")]
use crate::cli::terminal::counted;

/// Tend the lake's tables while no server runs on them.
#[derive(Debug, clap::Subcommand)]
pub enum Lake {
    Relocate(Relocate),
}

/// Follow a data folder that was moved or copied: its tables name their files by the place where it was
///
/// Writes the tables' metadata anew and leaves the data files as they are. It may be stopped and run again, and does nothing where nothing
/// was moved.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice lake relocate
  sluice lake relocate --data /srv/sluice")]
pub struct Relocate {}

impl Lake {
    /// Does it.
    pub fn run(self, global: &Global, out: &mut Out) -> Result<(), Failure> {
        let Self::Relocate(Relocate {}) = self;
        relocate(global, out)
    }
}

#[cfg(feature = "runtime")]
fn relocate(global: &Global, out: &mut Out) -> Result<(), Failure> {
    let mut lines = Vec::new();
    let done = crate::runtime::relocate(&global.data, |table, from, written| {
        lines.push(format!("{table}: from {from}, {} written", counted(written as u64, "metadata object")));
    });
    // Those that have followed have done so whatever came then.
    for line in &lines {
        out.line(line)?;
    }
    done.map_err(|e| Failure::new(Exit::Failed, format!("{e:#}")))?;
    if lines.is_empty() {
        out.line("nothing was moved")?;
    }
    out.flush()
}

/// Says that this build cannot.
#[cfg(not(feature = "runtime"))]
fn relocate(_: &Global, _: &mut Out) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "this build of `sluice` has no runtime: build it with the feature `runtime`"))
}
