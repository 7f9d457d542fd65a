//! The command line: one file per command, and what they share.

mod collection;
mod compact;
mod completion;
mod connection;
mod cost;
mod demo;
pub mod exit;
mod feed;
mod hits;
mod keys;
mod lake;
mod ledger;
mod quarantine;
mod queues;
mod report;
mod rules;
mod schema;
mod search;
mod send;
mod sql;
mod status;
mod tables;
mod terminal;
pub mod up;
mod upload;
mod users;
mod watch;

use clap::{Parser, Subcommand};
use exit::{EXIT_CODES, Exit, Failure};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use terminal::Out;

/// Data folder where none is named.
pub const DEFAULT_DATA: &str = ".sluice";

/// Send events; find them in Parquet, search, SQL and as alerts within seconds.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 100, after_help = EXIT_CODES, after_long_help = format!("\
Examples:
  sluice up                                   run the platform on this machine
  sluice demo                                 send a generated day of events
  sluice send access.log                      send a web server's log
  sluice search 'data.status:404'             look for events
  sluice sql 'SELECT count(*) FROM event'     ask the lake
  sluice watch                                see events as they arrive

{EXIT_CODES}"))]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Which server")]
pub struct Global {
    /// Data folder; a server that runs on it is found through it
    #[arg(long, global = true, env = "SLUICE_DATA", default_value = DEFAULT_DATA, value_name = "DIR")]
    pub data: PathBuf,
    /// Server's address, for example https://events.example.com
    #[arg(long, global = true, env = "SLUICE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Key; the variable is safer, since other users can see a command's arguments
    #[arg(long, global = true, env = "SLUICE_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Send(send::Send),
    #[command(subcommand)]
    Feed(feed::Feed),
    Search(search::Search),
    Sql(sql::Sql),
    Report(report::Report),
    Watch(watch::Watch),
    Status(status::Status),
    Ledger(ledger::Ledger),
    Tables(tables::Tables),
    Compact(compact::Compact),
    #[command(subcommand)]
    Lake(lake::Lake),
    Queues(queues::Queues),
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    #[command(subcommand)]
    Rules(rules::Rules),
    #[command(subcommand)]
    Keys(keys::Keys),
    #[command(subcommand)]
    Users(users::Users),
    #[command(subcommand)]
    Schema(schema::Schema),
    Demo(demo::Demo),
    Cost(cost::Cost),
    Completion(completion::Completion),
}

/// Reads the arguments, does what they say and gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 });
        }
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = &failure.message {
                terminal::complain(message);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(Cli { global, command }: Cli) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(&global, args),
        Command::Completion(args) => args.run(&mut Out::stdout()),
        Command::Schema(args) => args.run(&mut Out::stdout()),
        Command::Lake(args) => args.run(&global, &mut Out::stdout()),
        Command::Cost(args) if args.knows_the_traffic() => args.tell(&mut Out::stdout()),
        command => {
            let client = connection::connect(&global)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot start threads: {e}")))?;
            let mut out = Out::stdout();
            let done = runtime.block_on(async {
                match command {
                    Command::Send(args) => args.run(&client, &mut out).await,
                    Command::Feed(args) => args.run(&client, &mut out).await,
                    Command::Search(args) => args.run(&client, &mut out).await,
                    Command::Sql(args) => args.run(&client, &mut out).await,
                    Command::Report(args) => args.run(&client, &mut out).await,
                    Command::Watch(args) => args.run(&client, &mut out).await,
                    Command::Status(args) => args.run(&client, &mut out).await,
                    Command::Ledger(args) => args.run(&client, &mut out).await,
                    Command::Tables(args) => args.run(&client, &mut out).await,
                    Command::Compact(args) => args.run(&client, &mut out).await,
                    Command::Queues(args) => args.run(&client, &mut out).await,
                    Command::Quarantine(args) => args.run(&client, &mut out).await,
                    Command::Rules(args) => args.run(&client, &mut out).await,
                    Command::Keys(args) => args.run(&client, &mut out).await,
                    Command::Users(args) => args.run(&client, &mut out).await,
                    Command::Demo(args) => args.run(&client, &global, &mut out).await,
                    Command::Cost(args) => args.run(&client, &mut out).await,
                    Command::Up(_) | Command::Completion(_) | Command::Schema(_) | Command::Lake(_) => Ok(()),
                }
            });
            // A thread that still waits for standard input must not hold the command back.
            runtime.shutdown_background();
            let flushed = out.flush();
            let _ = std::io::stderr().flush();
            done.and(flushed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_examples() {
        fn visit(command: &clap::Command, path: &str, seen: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "`{path}` says nothing about itself");
                if sub.has_subcommands() {
                    visit(sub, &path, seen);
                } else {
                    let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(examples.contains(&format!("  sluice{path}")), "`{path}` has no example");
                }
                seen.push(path.trim_start().to_owned());
            }
        }
        let mut seen = Vec::new();
        visit(&Cli::command(), "", &mut seen);
        assert_eq!(
            seen,
            [
                "up",
                "send",
                "feed replay",
                "feed",
                "search",
                "sql",
                "report",
                "watch",
                "status",
                "ledger",
                "tables",
                "compact",
                "lake relocate",
                "lake",
                "queues list",
                "queues peek",
                "queues redrive",
                "queues",
                "quarantine list",
                "quarantine show",
                "quarantine count",
                "quarantine repair",
                "quarantine replay",
                "quarantine",
                "rules add fluctuation",
                "rules add",
                "rules list",
                "rules remove",
                "rules",
                "keys add",
                "keys list",
                "keys revoke",
                "keys",
                "users erase",
                "users erasures",
                "users",
                "schema infer",
                "schema",
                "demo",
                "cost",
                "completion"
            ]
        );
    }

    #[test]
    fn the_help_lists_commands_and_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        for word in ["up", "send", "feed", "--data <DIR>", "SLUICE_URL", "  3    no server answers"] {
            assert!(help.contains(word), "no `{word}` in\n{help}");
        }
        assert!(!help.contains("SLUICE_KEY="), "the key must not be shown:\n{help}");
    }

    #[test]
    fn the_help_of_up_shows_no_option_that_it_does_not_use() {
        let mut command = Cli::command();
        command.build();
        let help = command.find_subcommand_mut("up").unwrap().render_long_help().to_string();
        assert!(help.contains("--data") && !help.contains("--url") && !help.contains("--key"), "{help}");
        assert!(parse("sluice up --url http://a --key k").is_ok(), "a shell that sets them for all commands goes on");
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        let cli = parse("sluice status --data d --url http://a --key k").unwrap();
        assert_eq!(cli.global.data, PathBuf::from("d"));
        let cli = parse("sluice --data d status").unwrap();
        assert_eq!(cli.global.data, PathBuf::from("d"));
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        for line in
            ["sluice", "sluice nonsense", "sluice send", "sluice sql", "sluice feed replay f.csv", "sluice keys add"]
        {
            let args = line.split_whitespace().map(OsString::from);
            assert_eq!(run(args), ExitCode::from(2), "{line}");
        }
        assert_eq!(run(["sluice", "--help"].map(OsString::from)), ExitCode::SUCCESS);
    }

    #[test]
    fn a_folder_without_a_server_is_exit_code_3() {
        let folder = tempfile::tempdir().unwrap();
        let args = ["sluice", "status", "--data", folder.path().to_str().unwrap()].map(OsString::from);
        assert_eq!(run(args), ExitCode::from(3));
    }
}
