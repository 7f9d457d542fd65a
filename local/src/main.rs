//! `sluice`: the whole platform on one machine, and the command line to it.
//!
//! The command line speaks to a server over HTTP only: it knows nothing of queues, tables, Parquet or the search engine, and works the same
//! against this machine and any other. Only [`runtime`] builds the pipeline.

mod cli;
mod client;
#[cfg(feature = "runtime")]
mod runtime;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
