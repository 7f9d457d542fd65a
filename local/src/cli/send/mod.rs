//! `sluice send`: sends a file or standard input.

mod fill;
pub mod format;
mod split;

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::Out;
use crate::cli::upload::{self, Content, Item, Options, Progress, Report, WAITING_GROUPS};
use crate::client::Client;
use fill::Fill;
use format::{Format, sniff};
use sha2::{Digest as _, Sha256};
use sluice_domain::access_log::to_event;
use split::{Cut, Lines, Shape, Split, Values};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Source of log lines where none is given.
const LOG_SOURCE: &str = "access-log";
/// How long events of standard input wait for more of them.
const LINGER_MS: u64 = 200;
/// A first line that is longer is judged by its beginning.
const FIRST_LINE_BYTES: usize = 64 * 1024;
/// Pieces in which the input is read.
const PIECE_BYTES: usize = 128 * 1024;

/// Send events from a file or from standard input.
///
/// Streams: the size of the input does not matter. Files that are compressed with gzip or zstd are read as they are. While the server is
/// busy or away, requests are made again; a file that is sent again is stored once. Standard input has no identity, so sending it twice
/// stores it twice, unless its events have an `id`.
///
/// Ends with exit code 1 if any event was rejected, after sending all others. Rejected events are kept in quarantine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice send events.ndjson
  sluice send access.log --source shop
  sluice send --format access-log /var/log/nginx/access.log.1.gz
  tail -F app.ndjson | sluice send - --source app --type app.log
  echo '{\"source\":\"shop\",\"type\":\"shop.order\",\"data\":{\"total\":12}}' | sluice send -")]
pub struct Send {
    /// File, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Form of the input
    #[arg(long, value_enum, default_value = "auto")]
    format: Format,
    /// Source of events that name none; of all lines of a log
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Type of events that name none
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Most events in one request
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch_size: u32,
    /// Requests in flight at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// Tell the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Send {
    /// Sends everything and tells what became of it.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        if self.is_stdin() {
            // Before waiting for input.
            client.check().await?;
        }
        let source = self.open()?;
        client.check().await?;
        let options = Options {
            batch_events: self.batch_size as usize,
            concurrency: self.concurrency as usize,
            linger: source.live.then_some(Duration::from_millis(LINGER_MS)),
            identity: source.identity.clone(),
            advice: if source.live { "what was accepted stays" } else { upload::SEND_AGAIN },
        };
        let progress = Progress::new(source.total_bytes);
        let (to, input) = mpsc::channel(WAITING_GROUPS);
        let shape = self.shape(&source);
        let format = source.format;
        let reader = std::thread::spawn(move || read(source.reader, format, &*shape, &to));
        let sending = upload::upload(client, input, options, &progress).await;
        progress.finish();
        // A reader of standard input may wait for ever; one of which everything was sent has ended.
        let read = if sending.stopped.is_none() { reader.join() } else { Ok(Ok(())) };
        let reported = sending.report(out, Report::from_flag(self.json));
        match read {
            Ok(Ok(())) => reported,
            Ok(Err(e)) => Err(Failure::new(Exit::Failed, format!("cannot read `{}` to its end: {e}", self.name()))),
            Err(_) => Err(Failure::new(Exit::Failed, "reading the input failed")),
        }
    }

    fn name(&self) -> String {
        if self.is_stdin() { "standard input".into() } else { self.file.display().to_string() }
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    fn open(&self) -> Result<Source, Failure> {
        let cannot = |e: io::Error| Failure::usage(format!("cannot read `{}`: {e}", self.name()));
        if self.is_stdin() {
            return self.source(Box::new(io::stdin()), None).map_err(cannot)?;
        }
        let file = File::open(&self.file).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("`{}` is a folder: name a file", self.name())));
        }
        let length = metadata.is_file().then_some(metadata.len());
        self.source(Box::new(file), length).map_err(cannot)?
    }

    /// Looks at the beginning of the input: is it compressed, which form has it, what identifies it.
    fn source(&self, mut raw: Input, length: Option<u64>) -> io::Result<Result<Source, Failure>> {
        let magic = peek(&mut raw, |seen| seen.len() >= 4, 4)?;
        let (compressed, mut reader): (bool, Input) = match magic.as_slice() {
            [0x1f, 0x8b, ..] => (true, Box::new(flate2::read::MultiGzDecoder::new(Cursor::new(magic).chain(raw)))),
            [0x28, 0xb5, 0x2f, 0xfd] => (true, Box::new(zstd::Decoder::new(Cursor::new(magic).chain(raw))?)),
            _ => (false, Box::new(Cursor::new(magic).chain(raw))),
        };
        let begin = peek(&mut reader, |seen| first_line(seen).is_some(), FIRST_LINE_BYTES)?;
        let line = first_line(&begin).unwrap_or(&begin).to_vec();
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        let format = match self.format {
            Format::Auto => sniff(line, (!self.is_stdin()).then_some(self.plain_name().as_path())),
            given => Some(given),
        };
        let format = match format {
            Some(format) => format,
            None if begin.trim_ascii().is_empty() => Format::Ndjson,
            None => {
                let sentence = "the form is neither JSON nor an access log: say what it is with `--format`";
                return Ok(Err(Failure::usage(format!("`{}`: {sentence}", self.name()))));
            }
        };
        if format == Format::AccessLog && self.event_type.is_some() {
            return Ok(Err(Failure::usage("`--type` does not go with an access log: its lines become `http.access`")));
        }
        let identity = match length {
            // By its first line a file is known when it has grown, was moved, or is compressed by now.
            Some(_) => hex(&Sha256::digest(line)),
            None => uuid::Uuid::now_v7().simple().to_string(),
        };
        Ok(Ok(Source {
            reader: Box::new(Cursor::new(begin).chain(reader)),
            format,
            total_bytes: length.filter(|_| !compressed),
            live: length.is_none(),
            identity,
        }))
    }

    /// The file's name without what says that it is compressed.
    fn plain_name(&self) -> PathBuf {
        match self.file.extension().and_then(|e| e.to_str()) {
            Some("gz" | "zst") => self.file.with_extension(""),
            _ => self.file.clone(),
        }
    }

    fn shape(&self, source: &Source) -> Box<dyn Shape + std::marker::Send> {
        match source.format {
            Format::AccessLog => Box::new(LogLines {
                file_id: source.identity.clone(),
                source: self.source.clone().unwrap_or_else(|| LOG_SOURCE.into()),
            }),
            _ => Box::new(Fill { source: self.source.clone(), event_type: self.event_type.clone() }),
        }
    }
}

type Input = Box<dyn Read + std::marker::Send>;

struct Source {
    reader: Input,
    format: Format,
    total_bytes: Option<u64>,
    /// A stream that may pause.
    live: bool,
    identity: String,
}

impl Shape for Fill {
    fn shape(&self, cut: Cut<'_>) -> Content {
        Content::Event(self.apply(cut.text).into_owned())
    }
}

struct LogLines {
    file_id: String,
    source: String,
}

impl Shape for LogLines {
    fn shape(&self, cut: Cut<'_>) -> Content {
        // Two logs may begin with the same line: the line itself tells their events apart where they differ.
        let file = format!("{}-{}", self.file_id, hex(&Sha256::digest(cut.text)));
        let event = std::str::from_utf8(cut.text)
            .map_err(|_| "not UTF-8".to_owned())
            .and_then(|line| to_event(line, &file, cut.begin, &self.source).map_err(|e| e.to_string()));
        match event {
            Ok(event) => Content::Event(event.into_bytes()),
            Err(reason) => Content::Bad(cut.text.to_vec(), reason),
        }
    }
}

/// Reads the input to its end and hands on what it is cut into, group by group; ends early where nobody takes it any more.
fn read(mut input: Input, format: Format, shape: &dyn Shape, to: &mpsc::Sender<Vec<Item>>) -> io::Result<()> {
    let mut split: Box<dyn Split> = match format {
        Format::Json | Format::Cloudevents => Box::new(Values::default()),
        _ => Box::new(Lines::default()),
    };
    let mut piece = vec![0; PIECE_BYTES];
    let mut at_start = true;
    loop {
        let length = match input.read(&mut piece) {
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut items = Vec::new();
        let mut fresh = &piece[..length];
        if std::mem::take(&mut at_start) {
            fresh = fresh.strip_prefix(b"\xef\xbb\xbf").unwrap_or(fresh);
        }
        if length > 0 {
            split.feed(fresh, shape, &mut items)
        } else {
            split.finish(shape, &mut items)
        }
        if !items.is_empty() && to.blocking_send(items).is_err() {
            return Ok(());
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// Reads until `enough` or the end or `most` bytes.
fn peek(input: &mut Input, enough: impl Fn(&[u8]) -> bool, most: usize) -> io::Result<Vec<u8>> {
    let mut seen = vec![0; most];
    let mut length = 0;
    while length < most && !enough(&seen[..length]) {
        match input.read(&mut seen[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    seen.truncate(length);
    Ok(seen)
}

/// The first line that is not blank, where its end has been seen.
fn first_line(seen: &[u8]) -> Option<&[u8]> {
    let from = seen.iter().position(|b| !b.is_ascii_whitespace())?;
    let rest = &seen[from..];
    Some(&rest[..memchr::memchr(b'\n', rest)?])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;
    use clap::Parser as _;
    use serde_json::{Value, json};
    use std::io::Write as _;

    const LOG: &str = concat!(
        "83.149.9.216 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 203023 \"-\" \"Mozilla/5.0\"\n",
        "83.149.9.216 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 203023 \"-\" \"Mozilla/5.0\"\n",
    );

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        send: Send,
    }

    fn parse(args: &[&str]) -> Send {
        Line::try_parse_from(["send"].iter().chain(args)).unwrap().send
    }

    /// A server that takes JSON objects and rejects all else.
    async fn server() -> Fake {
        Fake::start(|_, got| {
            let lines = got.lines();
            let bad: Vec<usize> = (0..lines.len())
                .filter(|at| !serde_json::from_str::<Value>(&lines[*at]).is_ok_and(|v| v.is_object()))
                .collect();
            let errors: Vec<Value> = bad
                .iter()
                .map(|at| json!({"index": at, "pointer": "", "code": "malformed_json", "reason": "not JSON"}))
                .collect();
            let accepted = lines.len() - bad.len();
            let status = if accepted > 0 { 202 } else { 400 };
            (status, vec![], json!({"accepted": accepted, "rejected": bad.len(), "errors": errors}).to_string())
        })
        .await
    }

    async fn send(name: &str, content: &[u8], args: &[&str]) -> (Fake, Result<(), Failure>, Value) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let fake = server().await;
        let (mut out, written) = Out::captured();
        let args: Vec<&str> = args.iter().copied().chain([path.to_str().unwrap(), "--json"]).collect();
        let done = parse(&args).run(&fake.client(), &mut out).await;
        (fake, done, serde_json::from_str(&written.text()).unwrap_or_default())
    }

    fn sent(fake: &Fake) -> Vec<String> {
        fake.got().iter().filter(|g| g.path == "/v1/events").flat_map(crate::client::tests::Got::lines).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lines_of_a_log_become_events_and_the_others_are_rejected_by_number() {
        let text = format!("{LOG}what is this\n");
        let (fake, done, summary) = send("access.log", text.as_bytes(), &["--source", "shop"]).await;
        assert_eq!(done, Err(Failure::silent(Exit::Failed)));
        assert_eq!((&summary["accepted"], &summary["rejected"]), (&json!(2), &json!(1)));
        assert_eq!(summary["errors"][0]["line"], 3);
        assert!(summary["errors"][0]["reason"].as_str().unwrap().contains("not a line of an access log"), "{summary}");
        let lines = sent(&fake);
        assert_eq!(lines[2], "what is this", "the server gets it, to keep it in quarantine");
        let events: Vec<Value> = lines[..2].iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((&events[0]["source"], &events[0]["type"]), (&json!("shop"), &json!("http.access")));
        assert_ne!(events[0]["id"], events[1]["id"], "equal lines are different requests");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_log_that_has_grown_moved_or_is_compressed_by_now_is_the_same_log() {
        let (plain, _, _) = send("access.log", LOG.as_bytes(), &[]).await;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(format!("{LOG}{LOG}").as_bytes()).unwrap();
        let (gzip, done, _) = send("access.log.1.gz", &packed.finish().unwrap(), &[]).await;
        done.unwrap();
        assert_eq!(sent(&gzip)[..2], sent(&plain));
        assert_eq!(sent(&gzip).len(), 4);
        let zstd = zstd::encode_all(LOG.as_bytes(), 1).unwrap();
        let (zstd, done, _) = send("access.log.zst", &zstd, &[]).await;
        done.unwrap();
        assert_eq!(sent(&zstd), sent(&plain));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pretty_array_is_sent_as_lines_with_what_its_events_lack() {
        let text = "\u{feff}[\n  {\n    \"n\": 1\n  },\n  {\"source\": \"own\"}\n]\n";
        let (fake, done, summary) = send("events.json", text.as_bytes(), &["--source", "s", "--type", "a.b"]).await;
        done.unwrap();
        assert_eq!(summary["accepted"], 2);
        assert_eq!(
            sent(&fake),
            ["{\"source\":\"s\",\"type\":\"a.b\",     \"n\": 1   }", "{\"type\":\"a.b\",\"source\": \"own\"}"]
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sending_a_file_again_makes_the_same_requests() {
        let text: String = (0..1_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let keys = |fake: &Fake| -> std::collections::BTreeSet<String> {
            let sent = fake.got();
            let keys = sent.iter().filter_map(|g| g.headers.get("idempotency-key"));
            keys.map(|k| k.to_str().unwrap().to_owned()).collect()
        };
        let (first, _, _) = send("a.ndjson", text.as_bytes(), &["--batch-size", "100"]).await;
        let (second, _, _) = send("b.ndjson", text.as_bytes(), &["--batch-size", "100"]).await;
        assert_eq!(keys(&first).len(), 10);
        assert_eq!(keys(&first), keys(&second));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_empty_file_is_no_failure_and_a_damaged_one_is() {
        let (_, done, summary) = send("empty", b"", &[]).await;
        done.unwrap();
        assert_eq!(summary["accepted"], 0);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(LOG.repeat(1_000).as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let (_, done, _) = send("access.log.gz", &packed[..packed.len() - 20], &[]).await;
        let failure = done.unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.to_string().contains("to its end"), "{failure}");
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_wrong_usage_before_anything_is_sent() {
        let (fake, done, _) = send("prices.csv", b"date,open\n", &[]).await;
        let failure = done.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("--format"), "{failure}");
        let (_, done, _) = send("access.log", LOG.as_bytes(), &["--type", "a.b"]).await;
        assert_eq!(done.unwrap_err().exit, Exit::Usage);
        for path in ["/nowhere/at/all", "/"] {
            let failure = parse(&[path]).run(&fake.client(), &mut Out::captured().0).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
        }
        assert!(fake.got().is_empty());
    }
}
