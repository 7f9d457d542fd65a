//! The one-machine runtime: `sluice up`.

use crate::cli::exit::{Exit, Failure};
use crate::cli::{Global, up::Up};

/// Runs the pipeline until it is told to stop.
pub fn up(_global: &Global, _args: Up) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "this build of `sluice` has no runtime: build it with the feature `runtime`"))
}
