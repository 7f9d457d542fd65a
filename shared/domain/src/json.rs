//! A strict JSON reader (RFC 8259) that borrows from its input: numbers stay text, raw spans stay known, duplicate keys are errors.
//!
//! `serde_json::Value` is not used on events because it rounds numbers through `f64`, keeps the last of two equal keys in silence and
//! copies every string.

use std::borrow::Cow;
use std::fmt;

/// Deepest nesting of arrays and objects that an event may have.
///
/// OpenSearch refuses documents deeper than 20 (`index.mapping.depth.limit`), and the envelope needs some of it.
pub const MAX_DEPTH: usize = 16;

/// A JSON value together with its own text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// The value's text as it stands in the input, without surrounding white space.
    pub raw: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// A JSON value; a number is its text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's text, for example `-1.50e3`.
    Number(&'a str),
    /// The unescaped text.
    String(Cow<'a, str>),
    /// Elements in order.
    Array(Vec<Node<'a>>),
    /// Members in order, keys unique.
    Object(Object<'a>),
}

/// Members of an object in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object<'a>(pub Vec<(Cow<'a, str>, Node<'a>)>);

impl<'a> Object<'a> {
    /// The member with this key.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }
}

impl<'a> Node<'a> {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match &self.value {
            Value::Object(o) => Some(o),
            _ => None,
        }
    }

    /// What it is, as a word for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
}

/// Why a text is not one JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset in the input.
    pub offset: usize,
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// JSON pointer (RFC 6901) to the value being read, empty at the root.
    pub pointer: String,
}

/// Kinds of JSON errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonErrorKind {
    /// The text ends too early.
    UnexpectedEnd,
    /// A character that cannot stand here.
    Unexpected(char),
    /// Not UTF-8.
    InvalidUtf8,
    /// Text after the value.
    TrailingText,
    /// A malformed number (`01`, `1.`, `NaN`, `+1`).
    InvalidNumber,
    /// A malformed escape or a lone surrogate.
    InvalidEscape,
    /// A raw control character in a string.
    ControlCharacter,
    /// The same key twice in one object.
    DuplicateKey(String),
    /// Deeper than the bound ([`MAX_DEPTH`] for what comes from outside).
    TooDeep,
}

impl JsonErrorKind {
    /// Stable code for replies and the quarantine.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DuplicateKey(_) => "duplicate_key",
            Self::TooDeep => "too_deep",
            Self::InvalidUtf8 => "invalid_utf8",
            _ => "malformed_json",
        }
    }
}

impl fmt::Display for JsonErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("the text ends too early"),
            Self::Unexpected(c) => write!(f, "unexpected `{}`", c.escape_debug()),
            Self::InvalidUtf8 => f.write_str("not UTF-8"),
            Self::TrailingText => f.write_str("text after the value"),
            Self::InvalidNumber => {
                f.write_str("malformed number (JSON has no NaN, Infinity, leading zeros or plus signs)")
            }
            Self::InvalidEscape => f.write_str("malformed escape or lone surrogate"),
            Self::ControlCharacter => f.write_str("raw control character in a string"),
            Self::DuplicateKey(k) => write!(f, "key `{}` stands twice in one object", clip(k)),
            Self::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)
    }
}

impl std::error::Error for JsonError {}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Parses one JSON value.
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, JsonError> {
    parse_str(text(bytes)?)
}

/// Bytes as the text that they must be.
pub fn text(bytes: &[u8]) -> Result<&str, JsonError> {
    simdutf8::compat::from_utf8(bytes).map_err(|e| JsonError {
        offset: e.valid_up_to(),
        kind: JsonErrorKind::InvalidUtf8,
        pointer: String::new(),
    })
}

/// Parses one JSON value from text.
pub fn parse_str(text: &str) -> Result<Node<'_>, JsonError> {
    parse_within(text, MAX_DEPTH)
}

/// Parses one JSON value from text with another bound than [`MAX_DEPTH`] on its nesting.
pub fn parse_within(text: &str, max_depth: usize) -> Result<Node<'_>, JsonError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, pointer: Vec::new(), max_depth };
    let result = reader.document();
    result.map_err(|kind| JsonError { offset: reader.at.min(text.len()), kind, pointer: reader.pointer_text() })
}

/// Parses the JSON value that begins at byte `at` of a text, `depth` levels deep in it, without looking at what follows. Answers the value
/// and where it ends; the pointer of an error begins at the value.
pub fn value_at(text: &str, at: usize, depth: usize, max_depth: usize) -> Result<(Node<'_>, usize), JsonError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at, pointer: Vec::new(), max_depth };
    let result = reader.value(depth);
    let error = |kind| JsonError { offset: reader.at.min(text.len()), kind, pointer: reader.pointer_text() };
    result.map_err(error).map(|node| (node, reader.at))
}

/// Appends `text` as a JSON string with quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let (bytes, mut start, mut at) = (text.as_bytes(), 0, 0);
    loop {
        at = skip_plain(bytes, at);
        let Some(b) = bytes.get(at) else { break };
        let escape: &str = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x00..=0x1f => "",
            _ => {
                at += 1;
                continue;
            }
        };
        out.push_str(&text[start..at]);
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(char::from_digit(u32::from(b >> 4), 16).unwrap_or('0'));
            out.push(char::from_digit(u32::from(b & 15), 16).unwrap_or('0'));
        } else {
            out.push_str(escape);
        }
        at += 1;
        start = at;
    }
    out.push_str(&text[start..]);
    out.push('"');
}

/// Appends one token to a JSON pointer, escaped as RFC 6901 says.
pub fn push_pointer(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

enum Token<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    pointer: Vec<Token<'a>>,
    max_depth: usize,
}

/// Objects with more members than this look for duplicates by sorting, not pairwise.
const PAIRWISE_KEYS: usize = 24;

impl<'a> Reader<'a> {
    fn pointer_text(&self) -> String {
        let mut out = String::new();
        for token in &self.pointer {
            match token {
                Token::Key(k) => push_pointer(&mut out, k),
                Token::Index(i) => push_pointer(&mut out, &i.to_string()),
            }
        }
        out
    }

    fn document(&mut self) -> Result<Node<'a>, JsonErrorKind> {
        self.skip_space();
        let node = self.value(0)?;
        self.skip_space();
        if self.at < self.bytes.len() { Err(JsonErrorKind::TrailingText) } else { Ok(node) }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> JsonErrorKind {
        match self.text.get(self.at..).and_then(|t| t.chars().next()) {
            Some(c) => JsonErrorKind::Unexpected(c),
            None => JsonErrorKind::UnexpectedEnd,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, JsonErrorKind> {
        let start = self.at;
        let value = match self.bytes.get(self.at) {
            None => return Err(JsonErrorKind::UnexpectedEnd),
            Some(b'"') => Value::String(self.string()?),
            Some(b'{') => Value::Object(self.object(depth)?),
            Some(b'[') => Value::Array(self.array(depth)?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'N' | b'I' | b'+') => return Err(JsonErrorKind::InvalidNumber),
            Some(_) => return Err(self.unexpected()),
        };
        Ok(Node { raw: &self.text[start..self.at], value })
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonErrorKind> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.unexpected())
        }
    }

    fn number(&mut self) -> Result<&'a str, JsonErrorKind> {
        let end = scan_number(&self.bytes[self.at..]).ok_or(JsonErrorKind::InvalidNumber)?;
        let text = &self.text[self.at..self.at + end];
        self.at += end;
        // `01` and `1x` stop in the middle of what was meant as one number.
        if let Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'-' | b'_') = self.bytes.get(self.at) {
            return Err(JsonErrorKind::InvalidNumber);
        }
        Ok(text)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonErrorKind> {
        self.at += 1;
        let start = self.at;
        loop {
            self.at = skip_plain(self.bytes, self.at);
            match self.bytes.get(self.at) {
                None => return Err(JsonErrorKind::UnexpectedEnd),
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped_string(start).map(Cow::Owned),
                Some(0x00..=0x1f) => return Err(JsonErrorKind::ControlCharacter),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escaped_string(&mut self, start: usize) -> Result<String, JsonErrorKind> {
        let mut out = String::from(&self.text[start..self.at]);
        let mut from = self.at;
        loop {
            self.at = skip_plain(self.bytes, self.at);
            match self.bytes.get(self.at) {
                None => return Err(JsonErrorKind::UnexpectedEnd),
                Some(b'"') => {
                    out.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    out.push(self.escape()?);
                    from = self.at;
                }
                Some(0x00..=0x1f) => return Err(JsonErrorKind::ControlCharacter),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonErrorKind> {
        let byte = *self.bytes.get(self.at).ok_or(JsonErrorKind::UnexpectedEnd)?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let code = match first {
                    0xd800..=0xdbff => {
                        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u".as_slice()) {
                            return Err(JsonErrorKind::InvalidEscape);
                        }
                        self.at += 2;
                        let second = self.hex4()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(JsonErrorKind::InvalidEscape);
                        }
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                char::from_u32(code).ok_or(JsonErrorKind::InvalidEscape)?
            }
            _ => return Err(JsonErrorKind::InvalidEscape),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonErrorKind> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(JsonErrorKind::UnexpectedEnd)?;
        let mut code = 0;
        for &d in digits {
            code = code * 16 + (d as char).to_digit(16).ok_or(JsonErrorKind::InvalidEscape)?;
        }
        self.at += 4;
        Ok(code)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node<'a>>, JsonErrorKind> {
        if depth == self.max_depth {
            return Err(JsonErrorKind::TooDeep);
        }
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            self.skip_space();
            self.pointer.push(Token::Index(items.len()));
            items.push(self.value(depth + 1)?);
            self.pointer.pop();
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Object<'a>, JsonErrorKind> {
        if depth == self.max_depth {
            return Err(JsonErrorKind::TooDeep);
        }
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Node<'a>)> = Vec::with_capacity(8);
        self.skip_space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Object(members));
        }
        loop {
            self.skip_space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.unexpected());
            }
            let key = self.string()?;
            if members.len() < PAIRWISE_KEYS && members.iter().any(|(k, _)| *k == key) {
                return Err(JsonErrorKind::DuplicateKey(key.into_owned()));
            }
            self.skip_space();
            if self.bytes.get(self.at) != Some(&b':') {
                return Err(self.unexpected());
            }
            self.at += 1;
            self.skip_space();
            self.pointer.push(Token::Key(key));
            let node = self.value(depth + 1)?;
            if let Some(Token::Key(key)) = self.pointer.pop() {
                members.push((key, node));
            }
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.unexpected()),
            }
        }
        if members.len() > PAIRWISE_KEYS {
            let mut keys: Vec<&str> = members.iter().map(|(k, _)| k.as_ref()).collect();
            keys.sort_unstable();
            if let Some(twice) = keys.windows(2).find(|w| w[0] == w[1]) {
                return Err(JsonErrorKind::DuplicateKey(twice[0].to_owned()));
            }
        }
        Ok(Object(members))
    }
}

/// Skips eight bytes at a time while none of them ends a string, escapes or is a control character
/// (<https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>).
pub(crate) fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = control | has_zero(word ^ (ONES * u64::from(b'"'))) | has_zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// Where the escape ends that begins at byte `at` of a text.
pub(crate) fn skip_escape(text: &str, at: usize) -> Option<usize> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: at + 1, pointer: Vec::new(), max_depth: 0 };
    reader.escape().ok().map(|_| reader.at)
}

/// Length of the JSON number at the start of `bytes`.
pub(crate) fn scan_number(bytes: &[u8]) -> Option<usize> {
    let digits = |mut at: usize| {
        let from = at;
        while matches!(bytes.get(at), Some(b'0'..=b'9')) {
            at += 1;
        }
        (at > from).then_some(at)
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at = match bytes.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits(at)?,
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Some(at)
}

/// Splits the text of a JSON array into the texts of its elements without judging the elements, so that one broken element does not
/// take its neighbours. Answers `None` when the first character is not `[`.
///
/// Where the brackets do not close, the rest is the last element, and parsing it will say what is wrong. Of an array with more than `most`
/// elements only the first `most` + 1 are answered: an array of commas alone must not become a list sixteen times its size.
pub fn split_array(text: &[u8], most: usize) -> Option<Vec<&[u8]>> {
    let start = text.iter().position(|b| !b.is_ascii_whitespace())?;
    if text[start] != b'[' {
        return None;
    }
    let mut parts = Vec::new();
    let (mut depth, mut from, mut at) = (0usize, start + 1, start + 1);
    let mut closed = false;
    while at < text.len() {
        match text[at] {
            b'"' => {
                at = skip_plain(text, at + 1);
                while at < text.len() && text[at] != b'"' {
                    at = skip_plain(text, at + 1 + usize::from(text[at] == b'\\'));
                }
            }
            b'{' | b'[' => depth += 1,
            b']' if depth == 0 => {
                closed = true;
                break;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text[from..at].trim_ascii());
                if parts.len() > most {
                    return Some(parts);
                }
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    let last = text[from.min(text.len())..at.min(text.len())].trim_ascii();
    if !last.is_empty() || !parts.is_empty() || !closed {
        parts.push(last);
    }
    if closed && !text[at + 1..].trim_ascii().is_empty() {
        // What follows the array belongs to nothing; it is reported as an element of its own.
        parts.push(text[at + 1..].trim_ascii());
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> JsonErrorKind {
        parse_str(text).unwrap_err().kind
    }

    #[test]
    fn values_keep_their_text_and_numbers_are_not_rounded() {
        let node = parse_str(r#" {"a": [1, -0.10e+5, "x\u00e9\ud83d\ude00\n"], "b": null} "#).unwrap();
        let object = node.as_object().unwrap();
        assert_eq!(object.get("a").unwrap().raw, r#"[1, -0.10e+5, "x\u00e9\ud83d\ude00\n"]"#);
        let Value::Array(items) = &object.get("a").unwrap().value else { panic!() };
        assert_eq!(items[1].value, Value::Number("-0.10e+5"));
        assert_eq!(items[2].as_str(), Some("xé😀\n"));
    }

    #[test]
    fn malformed_texts_are_refused_with_their_reason() {
        assert_eq!(kind(""), JsonErrorKind::UnexpectedEnd);
        assert_eq!(kind("{\"a\":NaN}"), JsonErrorKind::InvalidNumber);
        for number in ["01", "1.", "-", "+1", "1e", "0x1", "1_000", "--1", "Infinity"] {
            assert_eq!(kind(number), JsonErrorKind::InvalidNumber, "{number}");
        }
        assert_eq!(kind("[1,]"), JsonErrorKind::Unexpected(']'));
        assert_eq!(kind("{\"a\":1 \"b\":2}"), JsonErrorKind::Unexpected('"'));
        assert_eq!(kind("\"\\ud800\""), JsonErrorKind::InvalidEscape);
        assert_eq!(kind("\"a\nb\""), JsonErrorKind::ControlCharacter);
        assert_eq!(kind("1 2"), JsonErrorKind::TrailingText);
        assert_eq!(kind("{\"a\":1,\"a\":2}"), JsonErrorKind::DuplicateKey("a".into()));
        assert_eq!(parse(b"\"\xff\"").unwrap_err().kind, JsonErrorKind::InvalidUtf8);
    }

    #[test]
    fn duplicates_are_found_in_wide_objects_too() {
        let mut text = String::from("{");
        for i in 0..100 {
            text.push_str(&format!("\"k{i}\":{i},"));
        }
        assert!(parse_str(&format!("{text}\"z\":1}}")).is_ok());
        assert_eq!(kind(&format!("{text}\"k77\":1}}")), JsonErrorKind::DuplicateKey("k77".into()));
    }

    #[test]
    fn errors_point_at_the_value() {
        let error = parse_str(r#"{"data":{"a/b":[1,{"x":NaN}]}}"#).unwrap_err();
        assert_eq!(error.pointer, "/data/a~1b/1/x");
    }

    #[test]
    fn nesting_is_bounded() {
        let text = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse_str(&text(MAX_DEPTH)).is_ok());
        assert_eq!(kind(&text(MAX_DEPTH + 1)), JsonErrorKind::TooDeep);
    }

    #[test]
    fn an_array_splits_into_elements_even_where_one_is_broken() {
        let parts = split_array(br#" [{"a":"],["}, {"b":NaN} ,{"c":[1,2]}] "#, 3).unwrap();
        assert_eq!(parts, [br#"{"a":"],["}"#.as_slice(), br#"{"b":NaN}"#, br#"{"c":[1,2]}"#]);
        assert_eq!(split_array(b"[]", 9).unwrap().len(), 0);
        assert_eq!(split_array(b"[1", 9).unwrap(), [b"1"]);
        assert_eq!(split_array(b"[1] x", 9).unwrap(), [b"1".as_slice(), b"x"]);
        assert!(split_array(b"{}", 9).is_none());
        assert_eq!(split_array(b"[1,2,3]", 3).unwrap(), [b"1", b"2", b"3"]);
        assert_eq!(
            split_array(b"[1,2,3,4,5", 3).unwrap(),
            [b"1", b"2", b"3", b"4"],
            "one more than asked for, and no further"
        );
        assert!(split_array(&[b"[".as_slice(), &[b','; 1_000]].concat(), 3).unwrap().capacity() <= 8);
    }

    proptest! {
        #[test]
        fn what_serde_json_accepts_is_accepted_with_the_same_value(text in "[\\[\\]{}\",:0-9a-e.\\\\u+\\- ]{0,40}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match parse_str(&text) {
                Ok(node) => {
                    prop_assert_eq!(node.raw, text.trim_matches([' ', '\n', '\t', '\r']));
                    // serde_json refuses numbers beyond f64; we keep their text and let the schema decide.
                    if let Err(e) = theirs { prop_assert!(e.to_string().contains("out of range"), "{}", e); }
                }
                Err(e) => if let Ok(value) = theirs {
                    prop_assert!(matches!(e.kind, JsonErrorKind::DuplicateKey(_) | JsonErrorKind::TooDeep), "{} {:?}", e, value);
                },
            }
        }

        #[test]
        fn written_strings_read_back(text in any::<String>()) {
            let mut out = String::new();
            write_string(&mut out, &text);
            let node = parse_str(&out).unwrap();
            prop_assert_eq!(node.as_str(), Some(text.as_str()));
        }

        #[test]
        fn splitting_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = split_array(&bytes, 9);
            let _ = parse(&bytes);
        }

        #[test]
        fn a_well_formed_array_splits_as_it_parses(items in proptest::collection::vec("[a-z\\[\\]{},\"\\\\]{0,8}", 0..6)) {
            let text = serde_json::to_string(&items).unwrap();
            let parts = split_array(text.as_bytes(), usize::MAX).unwrap();
            let back: Vec<String> = parts.iter().map(|p| serde_json::from_slice(p).unwrap()).collect();
            prop_assert_eq!(back, items);
        }
    }
}
