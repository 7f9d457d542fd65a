//! `sluice feed`: prices as events.

mod replay;

use crate::cli::exit::Failure;
use crate::cli::terminal::Out;
use crate::client::Client;

/// Send prices of securities as `quote.trade` events
#[derive(Debug, clap::Subcommand)]
pub enum Feed {
    Replay(replay::Replay),
}

impl Feed {
    /// Runs the feed to its end.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Replay(replay) => replay.run(client, out).await,
        }
    }
}
