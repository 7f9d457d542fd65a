//! Logs: `tracing` events as text on a terminal, as one JSON object per line elsewhere.

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line, as CloudWatch Logs reads them.
    Json,
}

/// Starts logging to standard error at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,sluice_stages=debug`).
/// A level that cannot be read counts as `info`. A second call does nothing.
pub fn start(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
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
