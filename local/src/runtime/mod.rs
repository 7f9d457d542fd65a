//! `sluice up`: every stage on one machine, wired from `template.yaml`.
//!
//! The runtime stands where AWS stands in the cloud. It reads the template, opens the embedded adapters behind the ports, and calls the
//! same entry functions with the same event JSON that Lambda would hand over. HTTP and the stages run on thread pools of their own, so that
//! encoding a large file does not make a request wait.

mod calls;
mod console;
mod folder;
mod gateway;
mod live;
mod triggers;
mod watch;

use crate::runtime::folder::DataFolder;
use crate::runtime::gateway::Gateway;
use crate::runtime::live::Live;
use crate::runtime::watch::ThisMachine;
use anyhow::{Context as _, bail};
use serde_json::json;
use sluice_domain::time::Timestamp;
use sluice_entry::functions::console_origin;
use sluice_entry::settings::Settings;
use sluice_entry::telemetry::{self, LogFormat};
use sluice_entry::{Function, reports, schemas};
use sluice_ports::ErrorKind;
use sluice_stages::access::{self, Keys};
use sluice_stages::api::members::link;
use sluice_template::{Topology, Trigger};
use sluice_wiring::{CATALOG_FILE, TEMPLATE, Wiring};
use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::{Receiver, channel};

/// Calls of one function at a time that a queue makes on one machine; more than the cores helps nobody.
const MAX_CONCURRENCY: u32 = 2;
/// How long a stop waits for what is in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Exit code where the user did not want to wait for that.
const STOPPED_AT_ONCE: i32 = 130;

/// What `sluice up` was asked for.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The data folder.
    pub data: PathBuf,
    /// Address and port, where it overrides the setting.
    pub listen: Option<String>,
    /// A template other than the bundled one.
    pub template: Option<PathBuf>,
}

/// The time of the machine's clock.
pub fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// Makes the tables of a data folder that was moved name the place where it is, while no server runs on it; see
/// [`sluice_wiring::relocate`].
pub fn relocate(data: &Path, done: impl FnMut(&str, &str, usize)) -> anyhow::Result<()> {
    // Opening a folder makes one.
    if !data.join(CATALOG_FILE).is_file() {
        bail!(
            "there is no lake in `{}`: it has no file `{CATALOG_FILE}`; name the data folder with `--data`",
            data.display()
        );
    }
    let folder = DataFolder::open(data)?;
    pool("stage")?.block_on(sluice_wiring::relocate(folder.path(), done))
}

/// Runs until SIGINT or SIGTERM.
pub fn up(options: &UpOptions) -> anyhow::Result<()> {
    let folder = DataFolder::open(&options.data)?;
    let settings = Settings::from_layers([
        options.listen.iter().map(|listen| ("listen".to_owned(), listen.clone())).collect::<BTreeMap<_, _>>(),
        Settings::environment(),
        folder.settings()?,
    ])?;
    let format = if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    telemetry::start(settings.text("log_level")?, format);
    let template = match &options.template {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read the template `{}`", path.display()))?
        }
        None => TEMPLATE.to_owned(),
    };
    let topology = Topology::parse(&template).context("the template cannot be used")?;
    let registry = Arc::new(schemas::registry(&folder.schemas()?)?);
    let reports = reports::load(&folder.reports()?)?;
    for refused in &reports.refused {
        tracing::error!(error = %refused, "a report of one's own cannot be used; the others can");
    }
    let http = pool("http")?;
    let stages = pool("stage")?;
    let listener = http.block_on(listen(settings.text("listen")?))?;
    let url = format!("http://{}", reachable(listener.local_addr()?));
    let mut wiring = stages.block_on(Wiring::open(folder.path(), &topology, registry, reports, &settings, now))?;
    let live = Live::default();
    live.follow(&mut wiring.functions);
    let machine = Arc::new(ThisMachine::new(folder.path().to_owned(), &mut wiring.functions));
    let admin_key = stages.block_on(admin_key(&folder, &wiring.keys))?;
    stages.block_on(wiring.keys.make_game_key(console_origin(&settings)?, now()))?;
    let first_link = stages.block_on(wiring.members.first_link(now()))?.map(|token| format!("{url}{}", link(&token)));
    let (stop_sender, stop) = channel(false);
    let mut tasks = start_triggers(&topology, &wiring, &settings, &stop)?;
    tasks.push(Box::pin(watch::run(wiring.watch(&topology, &settings, machine)?, stop.clone())));
    let running: Vec<_> = tasks.into_iter().map(|task| stages.spawn(task)).collect();
    let gateway = Gateway {
        functions: topology
            .functions
            .iter()
            .filter_map(|(id, f)| Some((id.clone(), (wiring.functions.get(&f.verb)?.clone(), f.timeout))))
            .collect::<HashMap<String, (Arc<dyn Function>, Duration)>>(),
        topology,
        max_body_bytes: settings.size("max_body_bytes")?,
        max_decompressed_bytes: settings.size("max_decompressed_bytes")?,
        memory: Gateway::memory_bound(settings.size("max_request_memory_bytes")?),
        keys: wiring.keys.clone(),
        sessions: wiring.sessions.clone(),
        live,
        connections: Gateway::connections_for(open_files()),
        trusted_proxies: settings.networks("trusted_proxies")?,
    };
    let mut signals = {
        let _within = http.enter();
        Signals::listen()?
    };
    let mut serving = http.spawn(gateway.serve(listener, stop));
    folder.write("server.json", format!("{}\n", json!({"url": url, "pid": std::process::id()})).as_bytes())?;
    print_welcome(&url, &admin_key, first_link.as_deref(), &folder)?;
    http.block_on(async {
        tokio::select! {
            () = signals.next() => Ok(()),
            ended = &mut serving => match ended {
                Ok(()) => bail!("the HTTP server stopped by itself"),
                Err(e) => Err(e).context("the HTTP server failed"),
            },
        }
    })?;
    say("stopping: finishing what is in flight; once more Ctrl-C stops at once");
    http.spawn(stop_at_once(signals));
    let _ = stop_sender.send(true);
    folder.remove("server.json");
    stages.block_on(async {
        let in_flight = async {
            let _ = serving.await;
            for task in running {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, in_flight).await.is_err() {
            say(&format!("not all was finished in {} s; it goes on at the next start", STOP_TIMEOUT.as_secs()));
        }
    });
    drop(wiring);
    stages.shutdown_timeout(Duration::from_secs(5));
    // Last, since it listens for a second Ctrl-C until here.
    http.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Ends the process when it is asked to stop once more.
async fn stop_at_once(mut signals: Signals) {
    signals.next().await;
    say("stopped at once: what was answered is kept, and what was in flight goes on at the next start");
    std::process::exit(STOPPED_AT_ONCE);
}

/// Says something to the person at the terminal, if there is one.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Raises the bound on open files as far as this process may, and answers it. macOS starts with 256, and takes no more than 10,240.
fn open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(10_240);
    let raised = current.is_some_and(|current| current < wanted)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    let allowed = if raised { wanted } else { current.unwrap_or(u64::MAX) };
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

fn pool(name: &str) -> anyhow::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("cannot start the `{name}` threads"))
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "address `{address}` is in use by another program: stop it, or choose another with `--listen 127.0.0.1:PORT`"
            )
        }
        Err(e) => Err(e).with_context(|| format!("cannot listen on `{address}`")),
    }
}

/// The address as a client on this machine writes it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The key that the command line finds in the data folder: admin, any source, no age limit.
async fn admin_key(folder: &DataFolder, keys: &Keys) -> anyhow::Result<String> {
    let spec = access::KeySpec { name: "command line on this machine".into(), ..access::KeySpec::admin() };
    let make = || Ok(access::new_secret(access::Scope::Admin)?);
    let secret = folder.admin_key(make)?;
    if keys.authenticate(&secret, now()).await?.is_some() {
        return Ok(secret);
    }
    match keys.create(spec.clone(), Some(secret.clone()), now()).await {
        Ok(_) => Ok(secret),
        // The key in the folder was revoked: whoever holds the folder gets a new one.
        Err(e) if e.kind == ErrorKind::Conflict => {
            folder.remove("admin.key");
            let secret = folder.admin_key(make)?;
            keys.create(spec, Some(secret.clone()), now()).await?;
            Ok(secret)
        }
        Err(e) => Err(e.into()),
    }
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn start_triggers(
    topology: &Topology,
    wiring: &Wiring,
    settings: &Settings,
    stop: &Receiver<bool>,
) -> anyhow::Result<Vec<Task>> {
    let longest_window = Duration::from_millis(settings.number("max_window_ms")?);
    let mut tasks: Vec<Task> = Vec::new();
    for function in topology.functions.values() {
        let Some(built) = wiring.functions.get(&function.verb) else { continue };
        for trigger in &function.triggers {
            match trigger {
                Trigger::Queue {
                    queue, batch_size, window, partial_failures, max_concurrency, enabled: true, ..
                } => {
                    for _ in 0..max_concurrency.unwrap_or(MAX_CONCURRENCY).min(MAX_CONCURRENCY) {
                        let trigger = triggers::QueueTrigger {
                            verb: function.verb.clone(),
                            function: built.clone(),
                            queue: wiring.state.queue(queue)?,
                            queue_name: queue.clone(),
                            batch_size: *batch_size as usize,
                            window: (*window).min(longest_window),
                            partial_failures: *partial_failures,
                            timeout: function.timeout,
                            visibility: topology.queues.get(queue).map_or(Duration::from_secs(60), |q| q.visibility),
                        };
                        tasks.push(Box::pin(trigger.run(stop.clone())));
                    }
                }
                Trigger::Schedule { every, input, enabled: true, .. } => {
                    let task = triggers::run_schedule(
                        function.verb.clone(),
                        built.clone(),
                        *every,
                        input.clone(),
                        function.timeout,
                        stop.clone(),
                    );
                    tasks.push(Box::pin(task));
                }
                _ => {}
            }
        }
    }
    Ok(tasks)
}

/// The link by which the first admin joins stands in a file too, as long as it opens.
fn print_welcome(url: &str, admin_key: &str, first_link: Option<&str>, folder: &DataFolder) -> anyhow::Result<()> {
    let data = folder.path().display();
    let version = env!("CARGO_PKG_VERSION");
    // A log is no place for a key; a terminal is.
    let is_terminal = std::io::stdout().is_terminal();
    let shown = if is_terminal { admin_key } else { "in the file admin.key" };
    let sign_in = match first_link {
        Some(link) => {
            folder.write_secret("first.link", link)?;
            let link = if is_terminal { link } else { "the link in the file first.link" };
            format!("\n  sign in    {link} (once, within 7 days)")
        }
        None => {
            folder.remove("first.link");
            String::new()
        }
    };
    let welcome = format!(
        "\
sluice {version} is up at {url}
  game       {url}/
  console    {url}/monitor{sign_in}
  data       {data}
  admin key  {shown}

Try next, in another terminal (with `--data {data}` where it is not ./.sluice):
  sluice demo                                   send a day of sample events
  sluice sql 'SELECT type, count(*) FROM web_event GROUP BY type'
  sluice search 'type:quote.trade' --size 3
  sluice status                                 what came in, what is stored, whether it adds up
  curl -H \"Authorization: Bearer $(cat {data}/admin.key)\" -H 'content-type: application/json' \\
       -d '{{\"source\":\"shop\",\"type\":\"order.paid\",\"data\":{{\"total\":42}}}}' {url}/v1/events

Ctrl-C stops it; nothing that was answered is lost.
"
    );
    // Whether someone reads it does not matter.
    let _ = std::io::stdout().write_all(welcome.as_bytes());
    Ok(())
}

/// The signals that ask the process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they do not end the process by themselves. To be called within a runtime.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
