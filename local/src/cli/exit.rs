//! Exit codes and the one error type of the command line.

use std::fmt;
use std::io;

/// How a command ends; scripts may rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed, or some of the input was rejected.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No server answers.
    Unreachable = 3,
    /// The server refuses the key (HTTP 401 or 403).
    Refused = 4,
    /// Stopped by Ctrl-C before it was done.
    Interrupted = 130,
}

/// What `--help` says about exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, or some of the input was rejected
  2    wrong usage
  3    no server answers
  4    the server refuses the key
  130  stopped by Ctrl-C before it was done";

/// Why a command ends early: what to tell the user, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One or more sentences for the user; none where the reader of the output went away, or all has been said.
    pub message: Option<String>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    /// An end about which all has been said.
    pub fn silent(exit: Exit) -> Self {
        Self { exit, message: None }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("stopped"))
    }
}

impl std::error::Error for Failure {}

/// For writing to standard output; a reader that went away (`sluice search … | head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Done),
            _ => Self::new(Exit::Failed, format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure, Failure::silent(Exit::Done));
        let failure = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.exit, Exit::Failed);
    }
}
