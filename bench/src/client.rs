//! A client that costs little: blocking sockets, one thread per connection, keep-alive, HTTP written out.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where and how to send.
pub struct Load {
    /// `host:port`
    pub address: String,
    /// Write key.
    pub key: String,
    /// Connections, each with one request at a time.
    pub connections: usize,
}

struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Connection {
    fn open(load: &Load) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&load.address)?;
        stream.set_nodelay(true)?;
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/x-ndjson\r\ncontent-length: ",
            load.address, load.key
        );
        Ok(Self { stream: BufReader::new(stream), head })
    }

    /// Sends a body; answers the status and, for 429 and 503, how long to wait.
    fn post(&mut self, body: &[u8]) -> anyhow::Result<(u16, Duration)> {
        let mut request = Vec::with_capacity(self.head.len() + 16 + body.len());
        write!(request, "{}{}\r\n\r\n", self.head, body.len())?;
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let (mut status, mut length, mut wait) = (0, 0usize, Duration::from_millis(200));
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the server closed the connection");
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if let Some(rest) = text.strip_prefix("http/1.1 ") {
                status = rest.get(..3).and_then(|s| s.parse().ok()).context("no status")?;
            } else if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            } else if let Some(value) = text.strip_prefix("retry-after:") {
                wait = Duration::from_secs(value.trim().parse()?);
            }
        }
        std::io::copy(&mut self.stream.by_ref().take(length as u64), &mut std::io::sink())?;
        Ok((status, wait))
    }
}

impl Load {
    /// Sends all bodies as fast as they are taken; waits where the server asks for it.
    pub fn send_all(&self, bodies: &[Vec<u8>]) -> anyhow::Result<()> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..self.connections)
                .map(|_| {
                    scope.spawn(|| -> anyhow::Result<()> {
                        let mut connection = Connection::open(self)?;
                        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                            loop {
                                match connection.post(body)? {
                                    (202, _) => break,
                                    (429 | 503, wait) => std::thread::sleep(wait),
                                    (status, _) => bail!("answered {status}"),
                                }
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            for sender in senders {
                sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
            }
            Ok(())
        })
    }

    /// Sends `per_s` requests a second, due at fixed moments so that a slow answer does not slow the clock; answers p50 and p99 counted
    /// from when each was due.
    pub fn at_rate(
        &self,
        per_s: u32,
        during: Duration,
        body: impl Fn(u64) -> Vec<u8> + Sync,
    ) -> anyhow::Result<(Duration, Duration)> {
        let total = (during.as_secs_f64() * f64::from(per_s)) as usize;
        let started = Instant::now();
        let next = AtomicUsize::new(0);
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..self.connections)
                .map(|_| {
                    scope.spawn(|| -> anyhow::Result<Vec<Duration>> {
                        let mut connection = Connection::open(self)?;
                        let mut times = Vec::new();
                        loop {
                            let i = next.fetch_add(1, Ordering::Relaxed);
                            if i >= total {
                                return Ok(times);
                            }
                            let due = started + Duration::from_secs_f64(i as f64 / f64::from(per_s));
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                            let (status, _) = connection.post(&body(i as u64))?;
                            if status != 202 {
                                bail!("answered {status}");
                            }
                            times.push(due.elapsed());
                        }
                    })
                })
                .collect();
            let mut all = Vec::new();
            for sender in senders {
                all.extend(sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??);
            }
            anyhow::Ok(all)
        })?;
        times.sort();
        let at = |part: usize| times.get(times.len() * part / 100).copied().context("nothing was sent");
        Ok((at(50)?, at(99)?))
    }
}
