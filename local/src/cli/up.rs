//! `sluice up`: arguments only; the runtime does the rest.

/// Run the whole platform on this machine.
///
/// Prints the address, where the keys are and what to try next. SIGINT and SIGTERM stop it cleanly: what is in flight is finished first.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  sluice up
  sluice up --data /srv/sluice --listen 0.0.0.0:7070")]
pub struct Up {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDR")]
    pub listen: std::net::SocketAddr,
}
