//! Access logs of web servers: lines in the common and combined formats of Apache and nginx, as `http.access` events.
//!
//! Sources: Apache HTTP Server 2.4, `mod_log_config` (`%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`, escapes `\"`, `\\`,
//! `\n`, `\t`, `\xhh`); nginx, `ngx_http_log_module` (`log_format combined`, escapes `\xHH`).

use crate::identity::hex_id;
use crate::json::write_string;
use crate::time::Timestamp;
use std::borrow::Cow;
use std::fmt;

/// The event type of a line.
pub const EVENT_TYPE: &str = "http.access";

/// One line of an access log. What the log writes as `-` is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Address or host name of the client.
    pub client: &'a str,
    /// What the client's identd said; hardly ever there.
    pub ident: Option<&'a str>,
    /// Who was signed in.
    pub user: Option<Cow<'a, str>>,
    /// When the request came (Apache) or was answered (nginx).
    pub time: Timestamp,
    /// The request.
    pub request: Request<'a>,
    /// Status of the reply, 0–999.
    pub status: u16,
    /// Size of the reply in bytes, as the server counts it.
    pub bytes: Option<u64>,
    /// `Referer` of the request.
    pub referer: Option<Cow<'a, str>>,
    /// `User-Agent` of the request.
    pub agent: Option<Cow<'a, str>>,
    /// What follows the combined format, as it stands; empty where nothing does.
    pub rest: &'a str,
}

/// A request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// The connection was closed without one.
    Absent,
    /// `METHOD target PROTOCOL`, or `METHOD target` of HTTP 0.9.
    Parsed {
        /// For example `GET`.
        method: &'a str,
        /// For example `/a?b=c`.
        target: Cow<'a, str>,
        /// For example `HTTP/1.1`.
        protocol: Option<&'a str>,
    },
    /// Anything else, for example a TLS handshake on a plain port.
    Malformed(Cow<'a, str>),
}

/// Why a line is not of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Where in the line, in characters, the first is 1.
    pub column: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a line of an access log: expected {} at column {}", self.expected, self.column)
    }
}

impl std::error::Error for LineError {}

impl<'a> Line<'a> {
    /// Reads a line, with or without its line break.
    ///
    /// Escapes are decoded; a text whose escapes are not UTF-8 stays as the log has it. A quoted text ends at a quote before a space or
    /// the line's end, so that a quote that a server forgot to escape does not end it.
    pub fn parse(line: &'a str) -> Result<Self, LineError> {
        let mut cursor = Cursor { line: line.trim_end_matches(['\n', '\r']), at: 0 };
        let client = cursor.word("a client address")?;
        let ident = cursor.word("an identity or `-`")?;
        let user = cursor.until(" [", "a user or `-`, then a time in brackets")?;
        let time = cursor.time()?;
        cursor.skip(' ', "a space")?;
        let request = Request::read(cursor.quoted("a quoted request line")?);
        cursor.skip(' ', "a space")?;
        let status = cursor.number("a status of three digits", |digits| digits.len() == 3)?;
        cursor.skip(' ', "a space")?;
        let bytes = match cursor.rest().strip_prefix('-') {
            Some(_) => {
                cursor.at += 1;
                None
            }
            // Events hold 64-bit signed numbers.
            None => Some(cursor.number("a size in bytes or `-`", |digits| digits.parse::<i64>().is_ok())?),
        };
        let (mut referer, mut agent) = (None, None);
        if cursor.rest().starts_with(" \"") {
            cursor.at += 1;
            referer = Some(cursor.quoted("a quoted referer")?);
            cursor.skip(' ', "a space and the quoted user agent")?;
            agent = Some(cursor.quoted("a quoted user agent")?);
        }
        if !cursor.rest().is_empty() {
            cursor.skip(' ', "a space or the end of the line")?;
        }
        let present = |text: Option<&'a str>| text.filter(|t| !matches!(*t, "-" | "")).map(unescape);
        Ok(Self {
            client,
            ident: (ident != "-").then_some(ident),
            user: present(Some(user)),
            time,
            request,
            status: u16::try_from(status).unwrap_or_default(),
            bytes,
            referer: present(referer),
            agent: present(agent),
            rest: cursor.rest(),
        })
    }

    /// The line as the JSON text of a CloudEvent of type `http.access`.
    ///
    /// The id is made from `file` (what names the log, and stays the same when it is read again) and the byte offset at which the line
    /// begins there: equal lines are different requests, and the same line read twice is one event.
    pub fn to_event(&self, file: &str, byte_offset: u64, source: &str) -> String {
        let mut out = String::with_capacity(512);
        out.push_str("{\"specversion\":\"1.0\",\"id\":");
        write_string(&mut out, &hex_id(&[EVENT_TYPE.as_bytes(), file.as_bytes(), &byte_offset.to_le_bytes()]));
        out.push_str(",\"source\":");
        write_string(&mut out, source);
        out.push_str(",\"type\":\"http.access\",\"time\":\"");
        out.push_str(&self.time.to_micros_text());
        out.push('"');
        member(&mut out, "userid", self.user.as_deref());
        out.push_str(",\"data\":{\"status\":");
        out.push_str(&self.status.to_string());
        match &self.request {
            Request::Absent => {}
            Request::Parsed { method, target, protocol } => {
                let (path, query) = target.split_once('?').map_or((target.as_ref(), None), |(p, q)| (p, Some(q)));
                member(&mut out, "method", Some(method));
                member(&mut out, "path", Some(path));
                member(&mut out, "query", query);
                member(&mut out, "protocol", *protocol);
            }
            Request::Malformed(text) => member(&mut out, "request", Some(text)),
        }
        if let Some(bytes) = self.bytes {
            out.push_str(",\"bytes\":");
            out.push_str(&bytes.to_string());
        }
        member(&mut out, "referer", self.referer.as_deref());
        member(&mut out, "client_ip", Some(self.client));
        member(&mut out, "user_agent", self.agent.as_deref());
        member(&mut out, "ident", self.ident);
        member(&mut out, "rest", Some(self.rest).filter(|rest| !rest.is_empty()));
        out.push_str("}}");
        out
    }
}

/// One line as the JSON text of an event; see [`Line::to_event`].
pub fn to_event(line: &str, file: &str, byte_offset: u64, source: &str) -> Result<String, LineError> {
    Ok(Line::parse(line)?.to_event(file, byte_offset, source))
}

impl<'a> Request<'a> {
    fn read(text: &'a str) -> Self {
        if matches!(text, "-" | "") {
            return Self::Absent;
        }
        let parsed = text.split_once(' ').and_then(|(method, rest)| {
            let (target, protocol) = match rest.rsplit_once(' ') {
                Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, Some(protocol)),
                _ => (rest, None),
            };
            let is_method =
                !method.is_empty() && method.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            // Without a protocol only what looks like a path is one: many things on this port are no HTTP.
            let is_target = !target.is_empty() && (protocol.is_some() || target.starts_with('/'));
            (is_method && is_target).then_some((method, target, protocol))
        });
        match parsed {
            Some((method, target, protocol)) => Self::Parsed { method, target: unescape(target), protocol },
            None => Self::Malformed(unescape(text)),
        }
    }
}

fn member(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        write_string(out, value);
    }
}

struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, LineError> {
        Err(LineError { column: self.line[..self.at].chars().count() + 1, expected })
    }

    /// A word and the space after it.
    fn word(&mut self, expected: &'static str) -> Result<&'a str, LineError> {
        match self.rest().split_once(' ') {
            Some((word, _)) if !word.is_empty() => {
                self.at += word.len() + 1;
                Ok(word)
            }
            _ => self.expected(expected),
        }
    }

    /// The text before `end`, and `end`.
    fn until(&mut self, end: &str, expected: &'static str) -> Result<&'a str, LineError> {
        match self.rest().split_once(end) {
            Some((text, _)) => {
                self.at += text.len() + end.len();
                Ok(text)
            }
            None => self.expected(expected),
        }
    }

    fn skip(&mut self, c: char, expected: &'static str) -> Result<(), LineError> {
        if !self.rest().starts_with(c) {
            return self.expected(expected);
        }
        self.at += c.len_utf8();
        Ok(())
    }

    /// `17/May/2015:10:05:03 +0000]`, or the same in RFC 3339.
    fn time(&mut self) -> Result<Timestamp, LineError> {
        let read = |text: &str| log_time(text).or_else(|| Timestamp::parse_rfc3339(text));
        match self.rest().split_once(']').and_then(|(text, _)| Some((text.len(), read(text)?))) {
            Some((length, time)) => {
                self.at += length + 1;
                Ok(time)
            }
            None => self.expected("a time like `17/May/2015:10:05:03 +0000`"),
        }
    }

    /// The text between quotes, its escapes as they are.
    fn quoted(&mut self, expected: &'static str) -> Result<&'a str, LineError> {
        let Some(text) = self.rest().strip_prefix('"') else { return self.expected(expected) };
        let bytes = text.as_bytes();
        let mut end = 0;
        while end < bytes.len() {
            match bytes[end] {
                b'\\' => end += 2,
                b'"' if matches!(bytes.get(end + 1), None | Some(b' ')) => {
                    self.at += end + 2;
                    return Ok(&text[..end]);
                }
                _ => end += 1,
            }
        }
        self.at = self.line.len();
        self.expected("a closing quote")
    }

    fn number(&mut self, expected: &'static str, fits: impl Fn(&str) -> bool) -> Result<u64, LineError> {
        let digits = self.rest().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        match digits.parse() {
            Ok(number) if fits(digits) => {
                self.at += digits.len();
                Ok(number)
            }
            _ => self.expected(expected),
        }
    }
}

/// `17/May/2015:10:05:03 +0000`
fn log_time(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let b = text.as_bytes();
    if b.len() != 26 || !text.is_ascii() || b[2] != b'/' || b[6] != b'/' || b[11] != b':' || b[20] != b' ' {
        return None;
    }
    let month = MONTHS.iter().position(|m| *m == &text[3..6])? + 1;
    Timestamp::parse_rfc3339(&format!(
        "{}-{month:02}-{}T{}{}:{}",
        &text[7..11],
        &text[..2],
        &text[12..20],
        &text[21..24],
        &text[24..]
    ))
}

/// Decodes the escapes that servers write; see [`Line::parse`].
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (decoded, length) = match bytes.get(at) {
            Some(b'x') => {
                let digit = |i: usize| bytes.get(at + i).and_then(|b| (*b as char).to_digit(16));
                let code = digit(1).zip(digit(2)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                (code, 3)
            }
            Some(c @ (b'"' | b'\\')) => (Some(*c), 1),
            Some(b'n') => (Some(b'\n'), 1),
            Some(b'r') => (Some(b'\r'), 1),
            Some(b't') => (Some(b'\t'), 1),
            Some(b'b') => (Some(8), 1),
            Some(b'v') => (Some(11), 1),
            Some(b'f') => (Some(12), 1),
            _ => (None, 0),
        };
        match decoded {
            Some(decoded) => {
                out.push(decoded);
                at += length;
            }
            // Not an escape of theirs: it stands for itself.
            None => out.push(b'\\'),
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use proptest::prelude::*;

    const COMBINED: &str = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a/b.png?x=1&y=2 HTTP/1.1" 200 203023 "http://example.com/" "Mozilla/5.0 (X11)""#;

    fn with_request(request: &str) -> String {
        format!("::1 - - [17/May/2015:10:05:03 +0000] \"{request}\" 400 0 \"-\" \"-\"")
    }

    #[test]
    fn a_combined_line_is_read() {
        let line = Line::parse(COMBINED).unwrap();
        assert_eq!((line.client, line.ident, line.user.as_deref()), ("83.149.9.216", None, None));
        assert_eq!(line.time, Timestamp::parse_rfc3339("2015-05-17T10:05:03Z").unwrap());
        let expected = Request::Parsed { method: "GET", target: "/a/b.png?x=1&y=2".into(), protocol: Some("HTTP/1.1") };
        assert_eq!(line.request, expected);
        assert_eq!((line.status, line.bytes, line.rest), (200, Some(203_023), ""));
        assert_eq!(line.referer.as_deref(), Some("http://example.com/"));
        assert_eq!(line.agent.as_deref(), Some("Mozilla/5.0 (X11)"));
        assert_eq!(Line::parse(&format!("{COMBINED}\r\n")).unwrap(), line);
    }

    #[test]
    fn a_common_line_a_signed_in_user_and_another_zone_are_read() {
        let line =
            Line::parse(r#"2001:db8::1 id john smith [01/Jan/2026:00:30:00 +0900] "POST /x HTTP/2.0" 304 -"#).unwrap();
        assert_eq!((line.ident, line.user.as_deref()), (Some("id"), Some("john smith")));
        assert_eq!(line.time.to_string(), "2025-12-31T15:30:00.000Z");
        assert_eq!((line.bytes, line.referer, line.agent), (None, None, None));
    }

    #[test]
    fn what_follows_the_combined_format_is_kept() {
        let text = format!("{COMBINED} \"10.1.1.1\" 0.004");
        assert_eq!(Line::parse(&text).unwrap().rest, "\"10.1.1.1\" 0.004");
        assert!(to_event(&text, "f", 0, "s").unwrap().contains(r#""rest":"\"10.1.1.1\" 0.004""#));
    }

    #[test]
    fn escapes_are_decoded_and_what_is_not_utf_8_stays() {
        let agent = |text: &str| {
            let line = format!("h - - [17/May/2015:10:05:03 +0000] \"-\" 400 0 \"-\" \"{text}\"");
            Line::parse(&line).unwrap().agent.unwrap().into_owned()
        };
        assert_eq!(agent(r"\xEC\xA0\x9C\xeb\xaa\xa9 \x22q\x22"), "제목 \"q\"");
        assert_eq!(agent(r#"a \"quoted\" b\\c\td"#), "a \"quoted\" b\\c\td");
        assert_eq!(agent(r"\x16\x03\xFC"), r"\x16\x03\xFC");
        assert_eq!(agent(r"C:\Windows \xZZ \q"), r"C:\Windows \xZZ \q");
        assert_eq!(agent(r#"an "unescaped"quote"#), r#"an "unescaped"quote"#);
        assert_eq!(agent("한국어 그대로"), "한국어 그대로");
    }

    #[test]
    fn request_lines_of_all_sorts_are_kept() {
        let request = |text: &str| Line::parse(&with_request(text)).unwrap().request_owned();
        assert_eq!(request("-"), "absent");
        assert_eq!(request(""), "absent");
        assert_eq!(request("GET /"), "GET|/|-");
        assert_eq!(request("GET /with space HTTP/1.0"), "GET|/with space|HTTP/1.0");
        assert_eq!(request(r"GET /\xEA\xB0\x80 HTTP/1.1"), "GET|/가|HTTP/1.1");
        assert_eq!(request("OPTIONS * HTTP/1.1"), "OPTIONS|*|HTTP/1.1");
        assert_eq!(request("HELLO"), "malformed HELLO");
        assert_eq!(request("SSH-2.0 x"), "malformed SSH-2.0 x");
        assert_eq!(request(r"\x16\x03\x01"), "malformed \u{16}\u{3}\u{1}");
        assert_eq!(request(r"\x16\x03\x01\xFC"), r"malformed \x16\x03\x01\xFC");
    }

    impl Line<'_> {
        fn request_owned(&self) -> String {
            match &self.request {
                Request::Absent => "absent".into(),
                Request::Parsed { method, target, protocol } => {
                    format!("{method}|{target}|{}", protocol.unwrap_or("-"))
                }
                Request::Malformed(text) => format!("malformed {text}"),
            }
        }
    }

    #[test]
    fn a_line_that_is_none_says_where_and_why() {
        let error = |line: &str| Line::parse(line).unwrap_err().to_string();
        let told =
            |what: &str, column: usize| format!("not a line of an access log: expected {what} at column {column}");
        assert_eq!(error(""), told("a client address", 1));
        assert_eq!(error("1.1.1.1"), told("a client address", 1));
        assert_eq!(error("한글 - -"), told("a user or `-`, then a time in brackets", 6));
        let time = "a time like `17/May/2015:10:05:03 +0000`";
        assert_eq!(error("h - - [17/Mai/2015:10:05:03 +0000] \"-\" 200 1"), told(time, 8));
        assert_eq!(error("h - - [31/Feb/2015:10:05:03 +0000] \"-\" 200 1"), told(time, 8));
        assert_eq!(error("h - - [17/May/2015:10:05:03 +0000] GET"), told("a quoted request line", 36));
        assert_eq!(error("h - - [17/May/2015:10:05:03 +0000] \"GET"), told("a closing quote", 40));
        assert_eq!(error("h - - [17/May/2015:10:05:03 +0000] \"-\" 20 1"), told("a status of three digits", 40));
        assert_eq!(error("h - - [17/May/2015:10:05:03 +0000] \"-\" 200 x"), told("a size in bytes or `-`", 44));
        let large = "h - - [17/May/2015:10:05:03 +0000] \"-\" 200 9223372036854775808";
        assert_eq!(error(large), told("a size in bytes or `-`", 44));
        assert_eq!(
            error("h - - [17/May/2015:10:05:03 +0000] \"-\" 200 1x"),
            told("a space or the end of the line", 45)
        );
    }

    #[test]
    fn an_event_says_what_the_line_says() {
        let line = r#"10.0.0.1 - kim [17/May/2015:10:05:03 +0000] "GET /a?q=\x22 HTTP/1.1" 200 5 "-" "UA""#;
        let expected = concat!(
            r#"{"specversion":"1.0","id":"ID","source":"shop","type":"http.access","time":"2015-05-17T10:05:03.000000Z","userid":"kim","#,
            r#""data":{"status":200,"method":"GET","path":"/a","query":"q=\"","protocol":"HTTP/1.1","bytes":5,"client_ip":"10.0.0.1","user_agent":"UA"}}"#,
        );
        let event = to_event(line, "f", 7, "shop").unwrap();
        let id = json::parse_str(&event).unwrap().as_object().unwrap().get("id").unwrap().as_str().unwrap().to_owned();
        assert_eq!(event, expected.replace("ID", &id));
        assert_eq!(to_event(line, "f", 7, "shop").unwrap(), event, "the same line again is the same event");
        for (file, offset) in [("f", 8), ("g", 7)] {
            assert!(!to_event(line, file, offset, "shop").unwrap().contains(&id));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(line in "\\PC{0,120}") {
            let _ = Line::parse(&line);
        }

        #[test]
        fn any_text_in_a_line_makes_a_json_event(
            client in "[^ \n\r]{1,20}", user in "[^\\[\n\r]{1,10}", request in "[^\"\n\r]{0,40}", agent in "[^\"\n\r]{0,40}", offset: u64,
        ) {
            let line = format!("{client} - {user} [17/May/2015:10:05:03 +0000] \"{request}\" 200 1 \"\" \"{agent}\"");
            match to_event(&line, &client, offset, &user) {
                Ok(event) => { json::parse_str(&event).unwrap(); }
                Err(_) => prop_assert!(line.contains('\\'), "{}", line),
            }
        }

        #[test]
        fn cut_lines_do_not_panic(cut in 0usize..200) {
            let _ = Line::parse(COMBINED.get(..cut).unwrap_or(COMBINED));
        }

        #[test]
        fn what_a_server_escapes_comes_back(text in "\\PC{1,40}") {
            let escaped: String = text.bytes().map(|b| match b {
                b'"' | b'\\' | 0..=31 | 127.. => format!("\\x{b:02X}"),
                b => char::from(b).to_string(),
            }).collect();
            let line = format!("h - - [17/May/2015:10:05:03 +0000] \"-\" 200 1 \"-\" \"{escaped}\"");
            let expected = Some(text.as_str()).filter(|t| *t != "-");
            let read = Line::parse(&line).unwrap();
            prop_assert_eq!(read.agent.as_deref(), expected);
        }
    }
}
