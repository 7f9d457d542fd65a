//! A Lambda binary as Lambda runs it: started against a runtime API that is played here, it takes events and answers.
//!
//! Source of the runtime API: AWS documentation, "Using the Lambda runtime API for custom runtimes".

use crate::binary;
use crate::request::Request;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The trace that every call belongs to.
pub const TRACE_ID: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
/// How long a call may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a function said: a reply, or the error that it reported.
pub type Said = Result<Value, Value>;

/// A running function and the runtime API that it asks for events.
pub struct Lambda {
    child: Child,
    folder: tempfile::TempDir,
    events: mpsc::Sender<String>,
    said: mpsc::Receiver<Said>,
}

impl Lambda {
    /// Starts the function's binary with nothing in its environment but what Lambda sets and what is given.
    pub fn start(verb: &str, environment: &[(String, String)]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let (events, waiting) = mpsc::channel::<String>();
        let (say, said) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), waiting, say) = (stream, waiting.clone(), say.clone()) else { return };
                std::thread::spawn(move || serve(stream, &waiting, &say));
            }
        });
        let program = binary().with_file_name(verb);
        let folder = tempfile::tempdir()?;
        let file = |name: &str| std::fs::File::create(folder.path().join(name));
        let child = Command::new(&program)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", verb)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .spawn()
            .with_context(|| format!("`{}`: build it with `cargo build --workspace --bins`", program.display()))?;
        Ok(Self { child, folder, events, said })
    }

    /// Hands over an event and waits for what the function says.
    pub fn call(&mut self, event: &str) -> anyhow::Result<Said> {
        self.events.send(event.to_owned())?;
        self.said.recv_timeout(PATIENCE).with_context(|| format!("the function said nothing:\n{}", self.log()))
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// What it printed so far: its metrics.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap_or_default()
    }

    /// Waits for a function that does not start; answers its exit code and what it logged.
    pub fn ended(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status.code(), self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the function goes on:\n{}", self.log())
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection of the runtime: `next` waits for an event, `response` and `error` hand back what became of it.
fn serve(stream: TcpStream, waiting: &Mutex<mpsc::Receiver<String>>, say: &mpsc::Sender<Said>) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut reader = BufReader::new(reading);
    let mut writer = stream;
    let mut number = 0;
    while let Some(request) = Request::read(&mut reader, &mut writer) {
        let reply = if request.path == "/2018-06-01/runtime/invocation/next" {
            // The sender is gone when the test is over.
            let Ok(event) = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
            number += 1;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let deadline = now + PATIENCE;
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nLambda-Runtime-Aws-Request-Id: request-{number}\r\n\
                 Lambda-Runtime-Deadline-Ms: {}\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:f\r\n\
                 Lambda-Runtime-Trace-Id: {TRACE_ID}\r\n\
                 content-length: {}\r\n\r\n{event}",
                deadline.as_millis(),
                event.len()
            )
        } else {
            let body = serde_json::from_slice(&request.body).unwrap_or_default();
            let said = match request.path.rsplit('/').next() {
                Some("response") => Ok(body),
                _ => Err(json!({"path": request.path, "error": body})),
            };
            if say.send(said).is_err() {
                return;
            }
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()
        };
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}
