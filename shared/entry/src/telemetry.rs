//! Logs: `tracing` events as text on a terminal, as one JSON object per line elsewhere.

use crate::metrics::{Counting, TARGET};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
    /// As Lambda wants it: JSON lines, with the call that each belongs to; and what stages count is summed up for
    /// [`crate::metrics::take`].
    Lambda,
}

/// Starts logging to standard error at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,sluice_stages=debug`).
/// A level that cannot be read counts as `info`. A second call does nothing.
pub fn start(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    // Counts are no log lines, whatever the level.
    let filter = match format!("{TARGET}=off").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => tracing_subscriber::registry().with(lines.compact().with_filter(filter)).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_filter(filter);
            tracing_subscriber::registry().with(lines).try_init()
        }
        LogFormat::Lambda => {
            let counting = Counting
                .with_filter(Targets::new().with_default(LevelFilter::INFO).with_target(TARGET, LevelFilter::TRACE));
            let lines = lines.json().flatten_event(true).with_span_list(false).with_filter(filter);
            tracing_subscriber::registry().with(lines).with(counting).try_init()
        }
    };
    // Another subscriber is already there (a test harness): its choice stands.
    let _ = started;
}

/// An error with all of its causes in one line, for the place where it is handled.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
