//! The forms in which events come: from a request to the texts of its events.

use super::legacy::Legacy;
use crate::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use sluice_domain::json::{self, JsonErrorKind};
use std::borrow::Cow;
use std::io::Read;

/// Window of a zstd frame that is unpacked at most (2^23 = 8 MiB, what every decoder must support by RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_LOG: u32 = 23;

/// A request that is refused as a whole, or one event of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) pointer: String,
    pub(super) reason: String,
}

pub(super) fn refusal(status: u16, code: &'static str, reason: impl Into<String>) -> Refusal {
    Refusal { status, code, pointer: String::new(), reason: reason.into() }
}

/// How the events stand in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// One event.
    Structured,
    /// An array of events.
    Batch,
    /// One event or an array.
    Plain,
    /// One event per line.
    Lines,
    /// The body is the data of one event whose attributes are headers.
    Binary(Content),
    /// What a page of the first Square-Blitz server sends.
    Legacy(Legacy),
}

/// What the body of a binary-mode event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Json,
    Text,
    Bytes,
}

/// The form of a request, by its path and headers. Pages of the first Square-Blitz server say what they like of their content.
pub(super) fn form(request: &Request) -> Result<Form, Refusal> {
    if let Some(legacy) = Legacy::of(&request.path) {
        return Ok(Form::Legacy(legacy));
    }
    let header = request.header("content-type").unwrap_or_default();
    let mut parts = header.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media.is_empty() || media == "application/json" || media.ends_with("+json");
    if !media.starts_with("application/cloudevents") && request.headers.keys().any(|name| name.starts_with("ce-")) {
        let content = match media.as_str() {
            _ if is_json => Content::Json,
            text if text.starts_with("text/") => Content::Text,
            _ => Content::Bytes,
        };
        return Ok(Form::Binary(content));
    }
    let charset = parts.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    if charset.is_some_and(|c| !["utf-8", "utf8", "us-ascii"].iter().any(|known| c.eq_ignore_ascii_case(known))) {
        return Err(refusal(415, "unsupported_type", "the body must be UTF-8"));
    }
    match media.as_str() {
        "application/cloudevents+json" => Ok(Form::Structured),
        "application/cloudevents-batch+json" => Ok(Form::Batch),
        "" | "application/json" | "text/plain" => Ok(Form::Plain),
        "application/x-ndjson" | "application/ndjson" => Ok(Form::Lines),
        _ => Err(refusal(
            415,
            "unsupported_type",
            "`content-type` must be application/json, application/x-ndjson, text/plain, application/cloudevents+json, application/cloudevents-batch+json, or any with `ce-` headers",
        )),
    }
}

/// The body without its `content-encoding`.
pub(super) fn open(
    request: &Request,
    max_bytes: usize,
    max_decompressed_bytes: usize,
) -> Result<Cow<'_, [u8]>, Refusal> {
    let body = request.body.as_ref();
    if body.len() > max_bytes {
        let reason = format!("the body has {} bytes, allowed are {max_bytes}", body.len());
        return Err(refusal(413, "too_large", reason));
    }
    let encoding = request.header("content-encoding").unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(Cow::Borrowed(body)),
        "gzip" | "x-gzip" => inflate(flate2::read::MultiGzDecoder::new(body), max_decompressed_bytes),
        "zstd" => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            match decoder {
                Ok(decoder) => inflate(decoder, max_decompressed_bytes),
                Err(_) => Err(malformed_encoding()),
            }
        }
        _ => Err(refusal(415, "unsupported_encoding", "`content-encoding` must be gzip, zstd or identity")),
    }
}

fn malformed_encoding() -> Refusal {
    refusal(400, "malformed_encoding", "the body does not unpack as its `content-encoding` says")
}

fn inflate<'b>(from: impl Read, max_bytes: usize) -> Result<Cow<'b, [u8]>, Refusal> {
    let mut out = Vec::new();
    // One byte more than allowed tells a body that is too large, and no more of a bomb is ever unpacked.
    from.take(max_bytes as u64 + 1).read_to_end(&mut out).map_err(|_| malformed_encoding())?;
    if out.len() > max_bytes {
        return Err(refusal(413, "too_large", format!("the body unpacks to more than {max_bytes} bytes")));
    }
    Ok(Cow::Owned(out))
}

/// The texts of the events of a body, each to be parsed by itself.
pub(super) fn split<'b>(form: &Form, body: &'b [u8], max_events: usize) -> Result<Vec<&'b [u8]>, Refusal> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if !matches!(form, Form::Binary(_)) && body.trim_ascii().is_empty() {
        return Err(refusal(400, "no_events", "the body is empty"));
    }
    let too_many = || refusal(413, "too_many_events", format!("a request takes at most {max_events} events"));
    let events = match form {
        Form::Lines => {
            let mut events = Vec::new();
            let mut from = 0;
            for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
                let line = body[from..end].trim_ascii();
                from = end + 1;
                if line.is_empty() {
                    continue;
                }
                if events.len() == max_events {
                    return Err(too_many());
                }
                events.push(line);
            }
            events
        }
        Form::Plain | Form::Batch if body.trim_ascii_start().starts_with(b"[") => {
            json::split_array(body, max_events).unwrap_or_default()
        }
        Form::Batch => {
            return Err(refusal(400, "malformed_json", "a batch is a JSON array"));
        }
        Form::Plain | Form::Structured | Form::Binary(_) | Form::Legacy(_) => vec![body],
    };
    match events.len() {
        0 => Err(refusal(400, "no_events", "the list is empty")),
        n if n > max_events => Err(too_many()),
        _ => Ok(events),
    }
}

/// The text of a binary-mode event: its `ce-` headers, percent-decoded, as attributes, and the body as data.
pub(super) fn binary(request: &Request, content: Content, body: &[u8]) -> Result<String, Refusal> {
    let fail = |code, pointer: String, reason: String| Refusal { status: 400, code, pointer, reason };
    let mut out = String::with_capacity(body.len() + 512);
    out.push('{');
    for (name, value) in &request.headers {
        // What the content type says is `datacontenttype`; CloudEvents 1.0 HTTP binding, 3.1.1.
        let Some(name) = name.strip_prefix("ce-").filter(|n| *n != "datacontenttype") else { continue };
        let mut pointer = String::new();
        json::push_pointer(&mut pointer, name);
        if matches!(name, "data" | "data_base64") {
            return Err(fail("envelope", pointer, "in binary mode the body is the data".into()));
        }
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| fail("invalid_utf8", pointer, "the header is not UTF-8 after percent-decoding".into()))?;
        json::write_string(&mut out, name);
        out.push(':');
        json::write_string(&mut out, &value);
        out.push(',');
    }
    if let Some(media) = request.header("content-type") {
        out.push_str("\"datacontenttype\":");
        json::write_string(&mut out, media);
        out.push(',');
    }
    if body.is_empty() {
        if out.ends_with(',') {
            out.pop();
        }
    } else {
        match content {
            Content::Json => {
                let node = json::parse(body).map_err(|e| {
                    fail(
                        e.kind.code(),
                        format!("/data{}", e.pointer),
                        format!("{} at byte {} of the body", e.kind, e.offset),
                    )
                })?;
                out.push_str("\"data\":");
                out.push_str(node.raw);
            }
            Content::Text => {
                let text = std::str::from_utf8(body).map_err(|e| {
                    let reason = format!("{} at byte {} of the body", JsonErrorKind::InvalidUtf8, e.valid_up_to());
                    fail("invalid_utf8", "/data".into(), reason)
                })?;
                out.push_str("\"data\":");
                json::write_string(&mut out, text);
            }
            Content::Bytes => {
                out.push_str("\"data_base64\":\"");
                STANDARD.encode_string(body, &mut out);
                out.push('"');
            }
        }
    }
    out.push('}');
    Ok(out)
}
