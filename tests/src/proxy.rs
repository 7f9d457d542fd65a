//! A way to a service on which things go wrong as a test says.

use crate::request::Request;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It passes.
    None,
    /// The service answers this instead, and does nothing.
    Answer(u16, String),
    /// The connection breaks before the request arrives.
    Lost,
    /// The request takes effect, and the connection breaks before the reply.
    ReplyLost,
    /// The request takes effect, and the reply comes after this long.
    Slow(Duration),
    /// Another request passes, and the reply is changed: what a service does that takes a part of a batch.
    Part(fn(&mut Request), fn(String) -> String),
}

type Script = Box<dyn FnMut(&Call) -> Fault + Send>;

/// A request as a script sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation, for example `SendMessageBatch`; for S3 the method.
    pub operation: String,
    /// The path.
    pub path: String,
}

impl Call {
    fn of(request: &Request) -> Self {
        let body = String::from_utf8_lossy(&request.body);
        let target = request.header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
        let operation = target.or(action).unwrap_or(&request.method).to_owned();
        Self { operation, path: request.path.clone() }
    }
}

/// A proxy before a service.
pub struct Proxy {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    script: Arc<Mutex<Script>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Proxy {
    /// A proxy before the service at this URL.
    pub fn start(to: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let to = to.trim_start_matches("http://").to_owned();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self { url, script: script.clone(), calls: calls.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), to, script, calls) = (stream, to.clone(), script.clone(), calls.clone()) else {
                    return;
                };
                std::thread::spawn(move || serve(stream, &to, &script, &calls));
            }
        });
        Ok(proxy)
    }

    /// From now on, what becomes of each request.
    pub fn script(&self, script: impl FnMut(&Call) -> Fault + Send + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    /// The next `times` calls of an operation have this fault; all else passes.
    pub fn fail(&self, operation: &'static str, times: usize, fault: Fault) {
        let mut left = times;
        self.script(move |call| {
            if call.operation != operation || left == 0 {
                return Fault::None;
            }
            left -= 1;
            fault.clone()
        });
    }

    /// How often an operation was called.
    pub fn count(&self, operation: &str) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| call.operation == operation).count()
    }
}

/// Serves one request; each reply says that the connection ends with it.
fn serve(stream: TcpStream, to: &str, script: &Mutex<Script>, calls: &Mutex<Vec<Call>>) {
    let Ok(reading) = stream.try_clone() else { return };
    let (mut reader, mut writer) = (BufReader::new(reading), stream);
    let Some(mut request) = Request::read(&mut reader, &mut writer) else { return };
    let call = Call::of(&request);
    let fault = script.lock().unwrap_or_else(PoisonError::into_inner)(&call);
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    let reply = match fault {
        Fault::Lost => None,
        Fault::Answer(status, body) => Some(answer(status, &body)),
        Fault::None => forward(to, &request),
        Fault::ReplyLost => {
            let _ = forward(to, &request);
            None
        }
        Fault::Slow(by) => {
            let reply = forward(to, &request);
            std::thread::sleep(by);
            reply
        }
        Fault::Part(change, changed) => {
            change(&mut request);
            forward(to, &request).map(|reply| with_body(&reply, changed))
        }
    };
    let _ = writer.write_all(&reply.unwrap_or_default());
    let _ = writer.shutdown(Shutdown::Both);
}

fn forward(to: &str, request: &Request) -> Option<Vec<u8>> {
    let mut service = TcpStream::connect(to).ok()?;
    service.write_all(&request.to_bytes()).ok()?;
    let mut reply = Vec::new();
    service.read_to_end(&mut reply).ok()?;
    Some(closing(&reply))
}

/// The reply with a header that says that the connection ends.
fn closing(reply: &[u8]) -> Vec<u8> {
    let Some(end) = reply.windows(2).position(|w| w == b"\r\n") else { return reply.to_vec() };
    [&reply[..end], b"\r\nconnection: close", &reply[end..]].concat()
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let kind = if body.starts_with('<') { "text/xml" } else { "application/x-amz-json-1.0" };
    format!(
        "HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn with_body(reply: &[u8], changed: fn(String) -> String) -> Vec<u8> {
    let Some(split) = reply.windows(4).position(|w| w == b"\r\n\r\n") else { return reply.to_vec() };
    let body = changed(String::from_utf8_lossy(&reply[split + 4..]).into_owned());
    let head = String::from_utf8_lossy(&reply[..split]);
    let kept: Vec<&str> = head.lines().filter(|l| !l.to_ascii_lowercase().starts_with("content-length")).collect();
    format!("{}\r\ncontent-length: {}\r\n\r\n{body}", kept.join("\r\n"), body.len()).into_bytes()
}
