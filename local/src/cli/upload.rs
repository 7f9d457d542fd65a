//! Sends a stream of events of any length: packs them into requests, keeps several in flight, and counts what became of each.
//!
//! Memory is bounded by what is in flight, never by the length of the input.

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::{Out, Style, clean, clip, counted, duration, grouped};
use crate::client::{CallError, Client, EventBody, EventReply};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Reasons that are kept and shown.
const SHOWN_REASONS: usize = 10;
/// A body goes out when it would grow beyond this, before compression. Far below what the server takes.
const BODY_BYTES: usize = 1 << 20;
/// Smaller bodies are not worth compressing.
const COMPRESS_BYTES: usize = 16 * 1024;
/// What to do after an early end, where events have a lasting identity.
pub const SEND_AGAIN: &str = "run the same command again to send the rest: what was accepted is stored once";
/// Groups of items that may wait between reading and packing.
pub const WAITING_GROUPS: usize = 8;

/// A piece of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Line in the input, from 1.
    pub line: u64,
    /// Offset in the input of the byte after it.
    pub end: u64,
    /// What it is.
    pub content: Content,
}

/// What a piece of the input turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An event's JSON text without line ends.
    Event(Vec<u8>),
    /// Not an event, for the reason given; its text without line ends goes to the server all the same, which rejects it and keeps it in
    /// quarantine.
    Bad(Vec<u8>, String),
    /// Not an event, and nothing that could be sent.
    Unsendable(String),
}

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most events in a request.
    pub batch_events: usize,
    /// Requests in flight.
    pub concurrency: usize,
    /// How long events wait for more of them; for ever where `None`, so that the same input makes the same requests.
    pub linger: Option<Duration>,
    /// What the input is; with place and content it makes the idempotency key of each request.
    pub identity: String,
    /// What to do when sending ends early.
    pub advice: &'static str,
}

/// What became of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events taken.
    pub accepted: u64,
    /// Events not taken.
    pub rejected: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests made again.
    pub retries: u64,
    /// Bytes of input.
    pub bytes: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// The first reasons by line.
    pub reasons: BTreeMap<u64, Reason>,
}

/// Why an event was rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// JSON pointer, or empty.
    pub pointer: String,
    /// Stable code, or empty.
    pub code: String,
    /// A sentence.
    pub reason: String,
}

/// What is left to say when sending ended.
#[derive(Debug)]
pub struct Sending {
    /// The counts, also of what was sent before a failure.
    pub summary: Summary,
    /// Why it ended early.
    pub stopped: Option<Failure>,
    /// What to do then.
    pub advice: &'static str,
}

/// A request on its way.
struct Batch {
    lines: Vec<u64>,
    complaints: BTreeMap<usize, String>,
    body: Vec<u8>,
    end: u64,
    begin: u64,
}

impl Batch {
    fn new(begin: u64) -> Self {
        Self { lines: Vec::new(), complaints: BTreeMap::new(), body: Vec::new(), end: begin, begin }
    }

    fn push(&mut self, line: u64, text: &[u8], complaint: Option<String>) {
        if let Some(complaint) = complaint {
            self.complaints.insert(self.lines.len(), complaint);
        }
        self.lines.push(line);
        self.body.extend_from_slice(text);
        self.body.push(b'\n');
    }

    fn fits(&self, text: &[u8], options: &Options) -> bool {
        self.lines.is_empty() || (self.lines.len() < options.batch_events && self.body.len() + text.len() < BODY_BYTES)
    }

    /// Two halves of a request that the server finds too large.
    fn split(&self) -> (Self, Self) {
        let middle = self.lines.len() / 2;
        let (mut left, mut right) = (Self::new(self.begin), Self::new(self.begin));
        for (at, text) in self.body.split(|b| *b == b'\n').take(self.lines.len()).enumerate() {
            let half = if at < middle { &mut left } else { &mut right };
            half.push(self.lines[at], text, self.complaints.get(&at).cloned());
        }
        (left.end, right.end) = (self.end, self.end);
        (left, right)
    }
}

/// What became of one request.
#[derive(Default)]
struct Answer {
    accepted: u64,
    rejected: u64,
    reasons: Vec<(u64, Reason)>,
    requests: u64,
    retries: u64,
    events: u64,
    bytes: u64,
    /// Why the key may write none of these events.
    forbidden: Option<String>,
}

/// Sends what comes in until it ends, a request fails for good, or the user stops it.
pub async fn upload(
    client: &Client,
    mut input: mpsc::Receiver<Vec<Item>>,
    options: Options,
    progress: &Progress,
) -> Sending {
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut stopped = None;
    let mut in_flight: JoinSet<Result<Answer, CallError>> = JoinSet::new();
    let mut batch = Batch::new(0);
    let mut ready: VecDeque<Batch> = VecDeque::new();
    let mut ended = false;
    let mut oldest: Option<Instant> = None;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut interrupted = false;
    while stopped.is_none() {
        while in_flight.len() < options.concurrency {
            let Some(next) = ready.pop_front() else { break };
            in_flight.spawn(send(client.clone(), next, options.identity.clone()));
        }
        if ended && ready.is_empty() && in_flight.is_empty() {
            break;
        }
        let due = match (options.linger, oldest) {
            (Some(linger), Some(since)) => Some((since + linger).into()),
            _ => None,
        };
        tokio::select! {
            biased;
            _ = &mut interrupt, if !interrupted => {
                // What is in flight is finished; the rest of the input is left.
                interrupted = true;
                ended = true;
                ready.clear();
                batch = Batch::new(batch.end);
                oldest = None;
                input.close();
            }
            Some(done) = in_flight.join_next(), if !in_flight.is_empty() => match done {
                Ok(Ok(answer)) => {
                    progress.advance(&answer);
                    let forbidden = answer.forbidden.clone();
                    summary.add(answer);
                    // A key for other events: the rest would fare no better. Where some are taken, all get their chance.
                    if let (Some(reason), 0) = (forbidden, summary.accepted) {
                        stopped = Some(Failure::new(Exit::Refused, format!("the key may not write these events: {reason}")));
                    }
                }
                Ok(Err(error)) => stopped = Some(Failure::from(error)),
                Err(error) => stopped = Some(Failure::new(Exit::Failed, format!("a sender failed: {error}"))),
            },
            () = sleep_until(due), if due.is_some() && ready.is_empty() => {
                let begin = batch.end;
                ready.push_back(std::mem::replace(&mut batch, Batch::new(begin)));
                oldest = None;
            }
            group = input.recv(), if !ended && ready.is_empty() => match group {
                Some(items) => {
                    for Item { line, end, content } in items {
                        let (text, complaint) = match content {
                            Content::Event(text) => (text, None),
                            Content::Bad(text, complaint) => (text, Some(complaint)),
                            Content::Unsendable(reason) => {
                                summary.reject(line, Reason { reason, ..Reason::default() });
                                batch.end = end;
                                continue;
                            }
                        };
                        if !batch.fits(&text, &options) {
                            let begin = batch.end;
                            ready.push_back(std::mem::replace(&mut batch, Batch::new(begin)));
                            oldest = None;
                        }
                        batch.push(line, &text, complaint);
                        batch.end = end;
                        oldest.get_or_insert_with(Instant::now);
                    }
                }
                None => {
                    ended = true;
                    summary.bytes = batch.end;
                    if !batch.lines.is_empty() {
                        let begin = batch.end;
                        ready.push_back(std::mem::replace(&mut batch, Batch::new(begin)));
                    }
                }
            },
        }
    }
    in_flight.abort_all();
    summary.bytes = summary.bytes.max(batch.end);
    summary.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if interrupted && stopped.is_none() {
        stopped = Some(Failure::silent(Exit::Interrupted));
    }
    Sending { summary, stopped, advice: options.advice }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Sends one batch, in halves where it is too large for the server.
async fn send(client: Client, batch: Batch, identity: String) -> Result<Answer, CallError> {
    let mut answer = Answer { events: batch.lines.len() as u64, bytes: batch.end - batch.begin, ..Answer::default() };
    let mut left = vec![batch];
    while let Some(batch) = left.pop() {
        let sent = client.send_events(&body(&batch, &identity)?).await;
        answer.requests += 1;
        answer.retries += sent.retries;
        match sent.outcome {
            Ok(reply) if reply.accepted + reply.rejected == batch.lines.len() as u64 => answer.take(&batch, reply),
            Ok(EventReply { status: 413, .. }) | Err(CallError::TooLarge(_)) if batch.lines.len() > 1 => {
                let (first, second) = batch.split();
                left.push(second);
                left.push(first);
            }
            Ok(reply) if reply.accepted == 0 => {
                let why = reply.errors.into_iter().next();
                let (code, reason) = why.map_or_else(Default::default, |e| (e.code, e.reason));
                answer.reject_all(&batch, &code, &format!("the request was refused as a whole: {reason}"));
            }
            Ok(reply) => {
                let (told, sent) = (reply.accepted + reply.rejected, batch.lines.len() as u64);
                let first = batch.lines.first().copied().unwrap_or_default();
                answer.take(&batch, reply);
                answer.rejected += sent.saturating_sub(told);
                let reason = format!("the server told of {told} of the {sent} events from here on");
                answer.reasons.push((first, Reason { reason, ..Reason::default() }));
            }
            Err(CallError::TooLarge(reason)) => answer.reject_all(&batch, "too_large", &reason),
            // The server understood the request and wants none of it.
            Err(CallError::Failed(status @ (400 | 415 | 422), reason)) => {
                answer.reject_all(&batch, &status.to_string(), &reason);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn body(batch: &Batch, identity: &str) -> Result<EventBody, CallError> {
    let mut hash = Sha256::new();
    hash.update(identity.as_bytes());
    hash.update([0]);
    for number in [batch.begin, batch.end, batch.lines.first().copied().unwrap_or_default()] {
        hash.update(number.to_be_bytes());
    }
    hash.update(&batch.body);
    let idempotency_key = hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    });
    if batch.body.len() < COMPRESS_BYTES {
        return Ok(EventBody { bytes: Bytes::copy_from_slice(&batch.body), encoding: None, idempotency_key });
    }
    let packed = zstd::bulk::compress(&batch.body, 1)
        .map_err(|e| CallError::Strange(format!("cannot compress a request: {e}")))?;
    Ok(EventBody { bytes: packed.into(), encoding: Some("zstd"), idempotency_key })
}

impl Answer {
    fn take(&mut self, batch: &Batch, reply: EventReply) {
        if reply.status == 403 {
            self.forbidden = Some(reply.errors.first().map(|e| e.reason.clone()).unwrap_or_default());
        }
        self.accepted += reply.accepted;
        self.rejected += reply.rejected;
        for error in reply.errors {
            let line = batch.lines.get(error.index).copied().unwrap_or_default();
            let reason = match batch.complaints.get(&error.index) {
                Some(complaint) => Reason { reason: complaint.clone(), ..Reason::default() },
                None => Reason { pointer: error.pointer, code: error.code, reason: error.reason },
            };
            self.reasons.push((line, reason));
        }
    }

    fn reject_all(&mut self, batch: &Batch, code: &str, reason: &str) {
        self.rejected += batch.lines.len() as u64;
        self.reasons.extend(
            batch.lines.iter().take(SHOWN_REASONS).map(|line| {
                (*line, Reason { pointer: String::new(), code: code.to_owned(), reason: reason.to_owned() })
            }),
        );
    }
}

impl Summary {
    fn add(&mut self, answer: Answer) {
        self.accepted += answer.accepted;
        self.rejected += answer.rejected;
        self.requests += answer.requests;
        self.retries += answer.retries;
        for (line, reason) in answer.reasons {
            self.remember(line, reason);
        }
    }

    fn reject(&mut self, line: u64, reason: Reason) {
        self.rejected += 1;
        self.remember(line, reason);
    }

    /// Requests are answered in any order: the first reasons by line are kept.
    fn remember(&mut self, line: u64, reason: Reason) {
        self.reasons.entry(line).or_insert(reason);
        while self.reasons.len() > SHOWN_REASONS {
            self.reasons.pop_last();
        }
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        let reasons: Vec<_> = self
            .reasons
            .iter()
            .map(
                |(line, r)| serde_json::json!({"line": line, "pointer": r.pointer, "code": r.code, "reason": r.reason}),
            )
            .collect();
        serde_json::json!({
            "accepted": self.accepted, "rejected": self.rejected, "requests": self.requests, "retries": self.retries,
            "bytes": self.bytes, "elapsed_ms": self.elapsed_ms, "errors": reasons,
        })
    }

    /// For people.
    fn describe(&self, out: &mut Out) -> Result<(), Failure> {
        let total = self.accepted + self.rejected;
        let rate = total.saturating_mul(1000) / self.elapsed_ms.max(1);
        let retried = match self.retries {
            0 => String::new(),
            n => format!(", {} made again", counted(n, "request")),
        };
        out.line(format!(
            "{} in {} ({}/s{retried})",
            counted(total, "event"),
            duration(self.elapsed_ms),
            grouped(rate)
        ))?;
        let accepted = format!("{} accepted", grouped(self.accepted));
        out.line(format!("  {}", out.paint(if self.accepted > 0 { Style::Good } else { Style::Dim }, &accepted)))?;
        let rejected = format!("{} rejected", grouped(self.rejected));
        out.line(format!("  {}", out.paint(if self.rejected > 0 { Style::Bad } else { Style::Dim }, &rejected)))?;
        for (line, reason) in &self.reasons {
            let words: Vec<_> =
                [&reason.pointer, &reason.reason].into_iter().filter(|w| !w.is_empty()).map(|w| clean(w)).collect();
            let code = if reason.code.is_empty() { String::new() } else { format!(" [{}]", clean(&reason.code)) };
            out.line(format!("    line {}: {}{code}", grouped(*line), clip(&words.join(": "), 300)))?;
        }
        let more = self.rejected.saturating_sub(self.reasons.len() as u64);
        if more > 0 && !self.reasons.is_empty() {
            out.line(format!("    and {} more", grouped(more)))?;
        }
        Ok(())
    }
}

impl Sending {
    /// Tells what became of the input and ends with the exit code that says so.
    pub fn report(self, out: &mut Out, report: Report) -> Result<(), Failure> {
        match report {
            Report::Json => {
                let mut value = self.summary.to_json();
                value["complete"] = self.stopped.is_none().into();
                out.json(&value)?;
            }
            Report::Text => self.summary.describe(out)?,
        }
        out.flush()?;
        match self.stopped {
            Some(Failure { exit, message }) => {
                let why = message.unwrap_or_else(|| "stopped".into());
                Err(Failure::new(exit, format!("{why}\n  the input was not sent to its end; {}", self.advice)))
            }
            None if self.summary.rejected > 0 => Err(Failure::silent(Exit::Failed)),
            None => Ok(()),
        }
    }
}

/// How a summary is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Report {
    /// As an option `--json` says.
    pub fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// A bar on standard error with rate and time left; nothing where that is no terminal.
pub struct Progress {
    bar: ProgressBar,
    events: std::sync::atomic::AtomicU64,
    started: Instant,
}

impl Progress {
    /// A bar for an input of this many bytes, or without an end where that is unknown.
    pub fn new(total_bytes: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::stderr_with_hz(8));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = match total_bytes {
            Some(_) => "{bar:24} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {msg}  {eta} left",
            None => "{spinner} {binary_bytes}  {msg}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, events: 0.into(), started: Instant::now() }
    }

    fn advance(&self, answer: &Answer) {
        use std::sync::atomic::Ordering::Relaxed;
        let events = self.events.fetch_add(answer.events, Relaxed) + answer.events;
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.bar.inc(answer.bytes);
        self.bar.set_message(format!("{} events, {}/s", grouped(events), grouped(events.saturating_mul(1000) / ms)));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;
    use serde_json::json;

    fn options() -> Options {
        Options { batch_events: 2, concurrency: 2, linger: None, identity: "file".into(), advice: "" }
    }

    fn event(line: u64) -> Item {
        Item { line, end: line * 10, content: Content::Event(format!("{{\"n\":{line}}}").into_bytes()) }
    }

    async fn run(fake: &Fake, items: Vec<Item>, options: Options) -> Sending {
        let (to, input) = mpsc::channel(WAITING_GROUPS);
        to.send(items).await.unwrap();
        drop(to);
        upload(&fake.client(), input, options, &Progress::new(None)).await
    }

    fn accept_all(got: &crate::client::tests::Got) -> String {
        json!({"accepted": got.lines().len(), "rejected": 0, "errors": []}).to_string()
    }

    #[tokio::test]
    async fn events_go_out_in_batches_and_are_counted() {
        let fake = Fake::start(|_, got| (202, vec![], accept_all(got))).await;
        let sending = run(&fake, (1..=5).map(event).collect(), options()).await;
        assert!(sending.stopped.is_none());
        assert_eq!((sending.summary.accepted, sending.summary.requests, sending.summary.bytes), (5, 3, 50));
        let mut sizes: Vec<usize> = fake.got().iter().map(|g| g.lines().len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2, 2]);
    }

    #[tokio::test]
    async fn the_same_input_makes_the_same_keys_and_other_places_make_others() {
        let fake = Fake::start(|_, got| (202, vec![], accept_all(got))).await;
        let same = || Item { line: 1, end: 1, content: Content::Event(b"{}".to_vec()) };
        let items = || vec![same(), same(), Item { line: 2, end: 2, ..same() }];
        let one = Options { batch_events: 1, ..options() };
        run(&fake, items(), one.clone()).await;
        let keys = |fake: &Fake| -> std::collections::BTreeSet<String> {
            fake.got().iter().map(|g| g.headers["idempotency-key"].to_str().unwrap().to_owned()).collect()
        };
        let first = keys(&fake);
        assert_eq!(first.len(), 3, "equal events at different places are different");
        run(&fake, items(), one.clone()).await;
        assert_eq!(keys(&fake), first);
        run(&fake, items(), Options { identity: "other".into(), ..one }).await;
        assert_eq!(keys(&fake).len(), 6);
    }

    #[tokio::test]
    async fn rejected_events_are_told_by_line_and_what_was_no_event_by_its_own_reason() {
        let fake = Fake::start(|_, _| {
            let errors = json!([
                {"index": 0, "pointer": "/time", "code": "time", "reason": "bad"},
                {"index": 1, "pointer": "", "code": "malformed_json", "reason": "unexpected `x`"}]);
            (400, vec![], json!({"accepted": 0, "rejected": 2, "errors": errors}).to_string())
        })
        .await;
        let bad = Item { line: 9, end: 90, content: Content::Bad(b"xx".to_vec(), "no log line".into()) };
        let none = Item { line: 10, end: 99, content: Content::Unsendable("too long".into()) };
        let sending = run(&fake, vec![event(7), bad, none], options()).await;
        let reasons: Vec<(u64, &str)> =
            sending.summary.reasons.iter().map(|(line, r)| (*line, r.reason.as_str())).collect();
        assert_eq!(reasons, [(7, "bad"), (9, "no log line"), (10, "too long")]);
        assert_eq!(sending.summary.rejected, 3);
        assert_eq!(fake.got()[0].lines(), ["{\"n\":7}", "xx"]);
        let failure = sending.report(&mut Out::captured().0, Report::Json).unwrap_err();
        assert_eq!(failure, Failure::silent(Exit::Failed));
    }

    #[tokio::test]
    async fn only_the_first_reasons_are_kept() {
        let fake = Fake::start(|_, _| {
            let error = json!({"index": 0, "pointer": "", "code": "c", "reason": "r"});
            (400, vec![], json!({"accepted": 0, "rejected": 1, "errors": [error]}).to_string())
        })
        .await;
        let sending =
            run(&fake, (1..=25).map(event).collect(), Options { batch_events: 1, concurrency: 8, ..options() }).await;
        assert_eq!(sending.summary.rejected, 25);
        assert_eq!(sending.summary.reasons.keys().copied().collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_sent_in_halves() {
        let fake = Fake::start(|_, got| match got.lines().len() {
            1 if got.lines()[0].contains('3') => {
                (413, vec![], r#"{"error":{"code":"size","message":"one event"}}"#.into())
            }
            1 => (202, vec![], accept_all(got)),
            _ => (413, vec![], String::new()),
        })
        .await;
        let sending = run(&fake, (1..=4).map(event).collect(), Options { batch_events: 4, ..options() }).await;
        assert!(sending.stopped.is_none());
        assert_eq!((sending.summary.accepted, sending.summary.rejected), (3, 1));
        assert_eq!(sending.summary.reasons[&3].code, "too_large");
    }

    #[tokio::test]
    async fn a_refused_key_stops_at_once_with_its_exit_code() {
        let fake = Fake::start(|_, _| (401, vec![], String::new())).await;
        let sending = run(&fake, (1..=500).map(event).collect(), options()).await;
        assert_eq!(sending.stopped.as_ref().unwrap().exit, Exit::Refused);
        assert!(fake.got().len() <= 3, "{} requests", fake.got().len());
        assert_eq!(sending.report(&mut Out::captured().0, Report::Json).unwrap_err().exit, Exit::Refused);
    }

    #[tokio::test]
    async fn a_key_for_other_events_stops_at_once_but_not_where_some_are_taken() {
        let forbidden = |got: &crate::client::tests::Got| {
            let error = json!({"index": 0, "pointer": "/source", "code": "forbidden_source", "reason": "not yours"});
            let rejected = got.lines().len();
            (403, vec![], json!({"accepted": 0, "rejected": rejected, "errors": vec![error; 1]}).to_string())
        };
        let fake = Fake::start(move |_, got| forbidden(got)).await;
        let sending = run(&fake, (1..=500).map(event).collect(), Options { concurrency: 1, ..options() }).await;
        assert_eq!(sending.stopped.unwrap().exit, Exit::Refused);
        assert_eq!((fake.got().len(), sending.summary.rejected), (1, 2));
        let fake = Fake::start(move |number, got| match number {
            0 => (202, vec![], accept_all(got)),
            _ => forbidden(got),
        })
        .await;
        let sending = run(&fake, (1..=6).map(event).collect(), Options { concurrency: 1, ..options() }).await;
        assert!(sending.stopped.is_none());
        assert_eq!((sending.summary.accepted, sending.summary.rejected), (2, 4));
    }

    #[tokio::test]
    async fn no_event_is_forgotten_when_a_request_is_refused_as_a_whole() {
        for (status, accepted, rejected) in [(400, 0, 4), (413, 2, 2)] {
            let fake = Fake::start(move |_, got| {
                let error = json!({"index": 0, "pointer": "", "code": "whole", "reason": "the body"});
                match (status, got.lines().len()) {
                    (413, 1) if got.lines()[0].contains('1') || got.lines()[0].contains('2') => {
                        (202, vec![], accept_all(got))
                    }
                    _ => (status, vec![], json!({"accepted": 0, "rejected": 1, "errors": [error]}).to_string()),
                }
            })
            .await;
            let four = Options { batch_events: 4, ..options() };
            let sending = run(&fake, (1..=4).map(event).collect(), four).await;
            assert_eq!((sending.summary.accepted, sending.summary.rejected), (accepted, rejected), "{status}");
        }
        let fake = Fake::start(|_, _| (202, vec![], json!({"accepted": 1, "rejected": 0}).to_string())).await;
        let sending = run(&fake, (1..=2).map(event).collect(), options()).await;
        assert_eq!((sending.summary.accepted, sending.summary.rejected), (1, 1));
    }

    #[tokio::test]
    async fn a_busy_server_slows_sending_and_loses_nothing() {
        let fake = Fake::start(|number, got| match number % 2 {
            0 => (429, vec![("retry-after", "0".into())], String::new()),
            _ => (202, vec![], accept_all(got)),
        })
        .await;
        let sending = run(&fake, (1..=20).map(event).collect(), options()).await;
        assert!(sending.stopped.is_none());
        assert_eq!(sending.summary.accepted, 20);
        assert!(sending.summary.retries > 0);
    }

    #[tokio::test]
    async fn a_stream_that_pauses_is_sent_as_far_as_it_came() {
        let fake = Fake::start(|_, got| (202, vec![], accept_all(got))).await;
        let (to, input) = mpsc::channel(WAITING_GROUPS);
        let client = fake.client();
        let options = Options { batch_events: 100, linger: Some(Duration::from_millis(5)), ..options() };
        let sending = tokio::spawn(async move { upload(&client, input, options, &Progress::new(None)).await });
        to.send(vec![event(1)]).await.unwrap();
        while fake.got().is_empty() {
            tokio::task::yield_now().await;
        }
        to.send(vec![event(2)]).await.unwrap();
        drop(to);
        assert_eq!(sending.await.unwrap().summary.accepted, 2);
        assert_eq!(fake.got().len(), 2);
    }

    #[tokio::test]
    async fn large_requests_are_compressed() {
        let fake = Fake::start(|_, got| (202, vec![], accept_all(got))).await;
        let long = Item { line: 1, end: 1, content: Content::Event(vec![b' '; COMPRESS_BYTES]) };
        run(&fake, vec![long], options()).await;
        assert_eq!(fake.got()[0].headers["content-encoding"], "zstd");
        assert_eq!(fake.got()[0].lines()[0].len(), COMPRESS_BYTES);
    }
}
