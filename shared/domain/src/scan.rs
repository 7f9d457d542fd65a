//! One pass over the text of a message's events, for what knows beforehand how events are mostly written.
//!
//! Nothing here judges: where the text is not as it is mostly written (an escape, an unknown attribute, a mistake), it answers `None`, and
//! [`crate::json`] and [`Event::read`] are asked, which alone say what is wrong. What it does answer is what
//! they would have answered.

use crate::event::{Event, Shared};
use crate::json::{self, Node};
use crate::message::MAX_EVENT_DEPTH;
use crate::schema::{ENVELOPE, Schema, Violation};
use crate::time::Timestamp;

/// A place in a JSON text.
#[derive(Debug, Clone)]
pub struct Cursor<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    max_depth: usize,
    /// Names of the objects that are being gone over, outer ones first.
    names: Vec<&'t str>,
}

/// Unknown names of one object that are compared with each other; where there are more, the slow reader sorts them.
const MAX_NAMES: usize = 32;

/// A number of at most 18 digits without exponent: its digits without the point, and how many of them stand behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits {
    /// All digits as one number, with the sign.
    pub unscaled: i64,
    /// How many stand behind the point.
    pub scale: u8,
}

impl<'t> Cursor<'t> {
    /// The beginning of the text of a message's events.
    pub fn new(text: &'t str) -> Self {
        Self::within(text, MAX_EVENT_DEPTH)
    }

    /// The beginning of a text that may nest so deep.
    pub fn within(text: &'t str, max_depth: usize) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, max_depth, names: Vec::new() }
    }

    /// The text from one byte offset to another.
    pub fn text(&self, from: usize, to: usize) -> &'t str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Byte offset in the text.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes to a byte offset.
    pub fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The next byte.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Goes over white space.
    #[inline]
    pub fn skip_space(&mut self) {
        // Mostly there is none, which one comparison tells.
        while self.peek().is_some_and(|byte| byte <= b' ' && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Goes over one byte where it is this one.
    #[inline]
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Goes over a text where it comes next.
    #[inline]
    pub fn eat_text(&mut self, text: &[u8]) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| begins_with(rest, text));
        if found {
            self.at += text.len();
        }
        found
    }

    /// Goes over a string with this content, which is known to need no escape, and over its quotes.
    #[inline]
    pub fn eat_string(&mut self, content: &[u8]) -> bool {
        let found = self.bytes.get(self.at + 1..).is_some_and(|rest| {
            rest.len() > content.len() && rest[content.len()] == b'"' && begins_with(rest, content)
        });
        if found && self.peek() == Some(b'"') {
            self.at += content.len() + 2;
            return true;
        }
        false
    }

    /// A string without escapes.
    #[inline]
    pub fn string(&mut self) -> Option<&'t str> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut end = json::skip_plain(self.bytes, start);
        loop {
            match self.bytes.get(end)? {
                b'"' => break,
                b'\\' | 0x00..=0x1f => return None,
                // Fewer than eight bytes are left, or a byte above 0x7f.
                _ => end += 1,
            }
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// `true` or `false`.
    #[inline]
    pub fn boolean(&mut self) -> Option<bool> {
        let value = match self.peek()? {
            b't' if self.eat_text(b"true") => true,
            b'f' if self.eat_text(b"false") => false,
            _ => return None,
        };
        Some(value)
    }

    /// A number of at most 18 digits without exponent.
    #[inline]
    pub fn digits(&mut self) -> Option<Digits> {
        let negative = self.eat(b'-');
        let start = self.at;
        let mut unscaled = self.more_digits(0);
        let whole = self.at - start;
        if whole == 0 || (whole > 1 && self.bytes[start] == b'0') {
            return None;
        }
        let mut scale = 0;
        if self.eat(b'.') {
            let point = self.at;
            unscaled = self.more_digits(unscaled);
            scale = self.at - point;
            if scale == 0 {
                return None;
            }
        }
        let ends = matches!(self.peek(), Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
        // A negative zero is a number of its own only as a float.
        if whole + scale > 18 || !ends || (negative && unscaled == 0) {
            return None;
        }
        Some(Digits { unscaled: if negative { -unscaled } else { unscaled }, scale: u8::try_from(scale).ok()? })
    }

    #[inline]
    fn more_digits(&mut self, mut number: i64) -> i64 {
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            // Too many digits are noticed when all are read.
            number = number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        number
    }

    /// The value that comes next, read by [`json`]; `depth` is how many lists and objects of the message it stands in.
    pub fn node(&mut self, depth: usize) -> Option<Node<'t>> {
        let (node, end) = json::value_at(self.text, self.at, depth, self.max_depth).ok()?;
        self.at = end;
        Some(node)
    }

    /// The text of the value that comes next, whatever it is; `depth` as in [`Self::node`].
    pub fn raw(&mut self, depth: usize) -> Option<&'t str> {
        let start = self.at;
        if self.skip(depth).is_none() {
            self.at = start;
            self.node(depth)?;
        }
        self.text.get(start..self.at)
    }

    /// Goes over a value. Answers nothing where it is none, and also where names of an object have escapes or are very many.
    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b'{' | b'[' if depth == self.max_depth => None,
            b'{' => {
                let outer = self.names.len();
                let result = self.skip_members(depth, outer);
                self.names.truncate(outer);
                result
            }
            b'[' => self.skip_elements(depth),
            b't' => self.eat_text(b"true").then_some(()),
            b'f' => self.eat_text(b"false").then_some(()),
            b'n' => self.eat_text(b"null").then_some(()),
            _ => None,
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        let mut at = self.at + 1;
        loop {
            at = json::skip_plain(self.bytes, at);
            match self.bytes.get(at)? {
                b'"' => break,
                b'\\' => at = json::skip_escape(self.text, at)?,
                0x00..=0x1f => return None,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Some(())
    }

    /// The text of a number. What follows is not looked at.
    pub fn number(&mut self) -> Option<&'t str> {
        let start = self.at;
        self.at += json::scan_number(self.bytes.get(start..)?)?;
        self.text.get(start..self.at)
    }

    fn skip_elements(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.skip_space();
        if self.eat(b']') {
            return Some(());
        }
        loop {
            self.skip(depth + 1)?;
            self.skip_space();
            if self.eat(b']') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
            self.skip_space();
        }
    }

    fn skip_members(&mut self, depth: usize, outer: usize) -> Option<()> {
        self.at += 1;
        self.skip_space();
        if self.eat(b'}') {
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.remember(name, outer)?;
            self.skip_space();
            if !self.eat(b':') {
                return None;
            }
            self.skip_space();
            self.skip(depth + 1)?;
            if !self.next_member()? {
                return Some(());
            }
        }
    }

    /// Remembers a name of an object whose names begin at `outer`, unless it is there already.
    fn remember(&mut self, name: &'t str, outer: usize) -> Option<()> {
        let own = self.names.get(outer..)?;
        if own.len() == MAX_NAMES || own.contains(&name) {
            return None;
        }
        self.names.push(name);
        Some(())
    }

    /// Goes over what stands behind a member; answers whether another one follows.
    #[inline]
    pub(crate) fn next_member(&mut self) -> Option<bool> {
        self.skip_space();
        if self.eat(b',') {
            self.skip_space();
            return Some(true);
        }
        self.eat(b'}').then_some(false)
    }
}

/// Goes over `data` by the columns of a schema. It remembers which field came after which, since events of one type are alike.
#[derive(Debug)]
pub struct Fields<'s> {
    /// Whose columns.
    pub schema: &'s Schema,
    /// For each column, one more than its place, the one that came after it; at 0 the one that came first.
    follows: Vec<usize>,
    /// For each column the last object that had it.
    seen: Vec<u64>,
    object: u64,
}

/// A member of `data`, at whose value the cursor stands.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Place of its column; nothing where the schema does not name it.
    pub column: Option<usize>,
    /// Byte offset of its name, at the quote.
    pub start: usize,
    /// Length of the name.
    pub name_bytes: usize,
}

impl<'s> Fields<'s> {
    /// Before the first object.
    pub fn new(schema: &'s Schema) -> Self {
        let columns = schema.columns.len();
        Self { schema, follows: (0..=columns).collect(), seen: vec![0; columns], object: 0 }
    }

    /// Goes over the object that comes next; `visit` goes over the value of each member. Answers nothing where the object is not as it is
    /// mostly written, or where `visit` does.
    #[inline]
    pub fn walk<'t>(
        &mut self,
        cursor: &mut Cursor<'t>,
        visit: impl FnMut(&mut Cursor<'t>, Field) -> Option<()>,
    ) -> Option<()> {
        let outer = cursor.names.len();
        let result = self.walk_members(cursor, outer, visit);
        cursor.names.truncate(outer);
        result
    }

    #[inline]
    fn walk_members<'t>(
        &mut self,
        cursor: &mut Cursor<'t>,
        outer: usize,
        mut visit: impl FnMut(&mut Cursor<'t>, Field) -> Option<()>,
    ) -> Option<()> {
        if !cursor.eat(b'{') {
            return None;
        }
        self.object += 1;
        cursor.skip_space();
        if cursor.eat(b'}') {
            return Some(());
        }
        let mut last = 0;
        loop {
            let start = cursor.at();
            let guess = self.follows[last];
            let guessed = self.schema.columns.get(guess).filter(|column| cursor.eat_text(column.token()));
            let (column, name_bytes) = match guessed {
                Some(column) => (Some(guess), column.name.len()),
                None => {
                    let name = cursor.string()?;
                    let column = self.schema.column_index(name);
                    if column.is_none() {
                        cursor.remember(name, outer)?;
                    }
                    cursor.skip_space();
                    if !cursor.eat(b':') {
                        return None;
                    }
                    (column, name.len())
                }
            };
            if let Some(column) = column {
                if self.seen[column] == self.object {
                    return None;
                }
                self.seen[column] = self.object;
                self.follows[last] = column;
                last = column + 1;
            }
            cursor.skip_space();
            visit(cursor, Field { column, start, name_bytes })?;
            if !cursor.next_member()? {
                return Some(());
            }
        }
    }
}

/// Whether a text begins with another one: what a call of the general comparison costs is most of it for texts as short as names are.
#[inline]
pub fn begins_with(text: &[u8], beginning: &[u8]) -> bool {
    let length = beginning.len();
    let Some(text) = text.get(..length) else { return false };
    let (mut a, mut b) = (text, beginning);
    while let (Some(x), Some(y)) = (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        if u64::from_le_bytes(*x) != u64::from_le_bytes(*y) {
            return false;
        }
        (a, b) = (&a[8..], &b[8..]);
    }
    // The last eight bytes, some of them for the second time.
    match (text.last_chunk::<8>(), beginning.last_chunk::<8>()) {
        (Some(x), Some(y)) => u64::from_le_bytes(*x) == u64::from_le_bytes(*y),
        _ => match (
            text.first_chunk::<4>(),
            beginning.first_chunk::<4>(),
            text.last_chunk::<4>(),
            beginning.last_chunk(),
        ) {
            (Some(a), Some(b), Some(x), Some(y)) => a == b && x == y,
            _ => text.iter().zip(beginning).all(|(x, y)| x == y),
        },
    }
}

impl Digits {
    /// The same number with `scale` digits behind the point, where that needs no rounding and stays below 19 digits.
    #[inline]
    pub fn rescaled(self, scale: u8) -> Option<i64> {
        const POWERS: [i64; 19] = {
            let mut powers = [1; 19];
            let mut i = 1;
            while i < 19 {
                powers[i] = powers[i - 1] * 10;
                i += 1;
            }
            powers
        };
        let power = POWERS.get(usize::from(scale.checked_sub(self.scale)?))?;
        self.unscaled.checked_mul(*power)
    }

    /// The nearest float. Both numbers of the division are floats exactly, so that it rounds once
    /// (Clinger, How to Read Floating Point Numbers Accurately, 1990).
    #[inline]
    pub fn float(self) -> Option<f64> {
        const POWERS: [f64; 19] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
        let exact = self.unscaled.unsigned_abs() <= 1 << 53;
        #[allow(clippy::cast_precision_loss, reason = "it was compared")]
        exact.then(|| self.unscaled as f64 / POWERS[usize::from(self.scale)])
    }
}

/// The digits of a decimal number that stands in a string; leading zeros are allowed there.
#[inline]
pub fn digits_of(text: &str) -> Option<Digits> {
    let bytes = text.as_bytes();
    let (negative, bytes) = match bytes.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, bytes),
    };
    let (mut unscaled, mut scale, mut point) = (0i64, 0u8, false);
    if bytes.len() > 18 || !bytes.first()?.is_ascii_digit() || !bytes.last()?.is_ascii_digit() {
        return None;
    }
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                unscaled = unscaled * 10 + i64::from(byte - b'0');
                scale += u8::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    Some(Digits { unscaled: if negative { -unscaled } else { unscaled }, scale })
}

/// An event up to its `data`. Text attributes are found by their place in [`ENVELOPE`].
#[derive(Debug, Clone, PartialEq)]
pub struct Head<'t> {
    /// Text attributes.
    pub texts: [Option<&'t str>; ENVELOPE.len()],
    /// When it happened.
    pub time: Timestamp,
    /// When ingest received it.
    pub received: Timestamp,
    /// How many events stand between this one and the one from outside that caused it.
    pub hops: Option<i64>,
    /// Whether `data` follows; else the event is over.
    pub has_data: bool,
}

/// Places of attributes in [`ENVELOPE`].
pub mod place {
    #![allow(missing_docs, reason = "they are the attributes' names")]
    pub const ID: usize = 0;
    pub const SOURCE: usize = 1;
    pub const TYPE: usize = 2;
    pub const TIME: usize = 3;
    pub const RECEIVED: usize = 4;
    pub const CLIENT_IP: usize = 8;
    pub const USER_AGENT: usize = 9;
    pub(crate) const SUBJECT: usize = 5;
    pub const USER_ID: usize = 6;
    pub(crate) const SESSION_ID: usize = 7;
    pub(crate) const SPEC_VERSION: usize = 10;
    pub const HOPS: usize = 15;
    pub const EXTRA: usize = 16;
    /// `data` comes after the envelope.
    pub(crate) const DATA: usize = 17;
}

/// Attributes that may stand before `data`, as they are written, by their place.
pub(crate) const TOKENS: [&str; 18] = [
    "\"id\":",
    "\"source\":",
    "\"type\":",
    "\"time\":",
    "",
    "\"subject\":",
    "\"userid\":",
    "\"sessionid\":",
    "",
    "",
    "\"specversion\":",
    "\"datacontenttype\":",
    "\"dataschema\":",
    "\"tracestate\":",
    "\"traceparent\":",
    "\"hops\":",
    "",
    "\"data\":",
];

/// Remembers which attribute came after which, since events of one program are alike.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// By place, one more than it; at 0 what comes first.
    follows: [u8; TOKENS.len() + 1],
}

impl Default for Attributes {
    fn default() -> Self {
        Self { follows: std::array::from_fn(|i| u8::try_from(i.min(TOKENS.len() - 1)).unwrap_or_default()) }
    }
}

impl Attributes {
    /// Reads the event that begins at the cursor up to the value of `data`, or to its end where it has none.
    fn read<'t>(&mut self, head: &mut Head<'t>, cursor: &mut Cursor<'t>, shared: &'t Shared<'_>) -> Option<()> {
        if !cursor.eat(b'{') {
            return None;
        }
        head.texts = [None; ENVELOPE.len()];
        head.received = shared.received;
        head.hops = None;
        head.has_data = true;
        head.texts[place::CLIENT_IP] = shared.client_ip.as_deref();
        head.texts[place::USER_AGENT] = shared.user_agent.as_deref();
        let (mut last, mut timed) = (0, false);
        loop {
            cursor.skip_space();
            let attribute = self.next(cursor, last)?;
            last = attribute + 1;
            cursor.skip_space();
            match attribute {
                place::DATA => break,
                place::TIME if !timed => {
                    head.time = Timestamp::parse_rfc3339(cursor.string()?)?;
                    timed = true;
                }
                place::HOPS if head.hops.is_none() => {
                    let digits = cursor.digits()?;
                    head.hops = Some(digits.unscaled).filter(|_| digits.scale == 0);
                    head.hops?;
                }
                place::TIME | place::HOPS => return None,
                text if head.texts[text].is_none() => head.texts[text] = Some(cursor.string()?),
                _ => return None,
            }
            cursor.skip_space();
            if cursor.eat(b'}') {
                head.has_data = false;
                break;
            }
            if !cursor.eat(b',') {
                return None;
            }
        }
        let whole =
            [place::ID, place::SOURCE, place::TYPE].iter().all(|i| head.texts[*i].is_some_and(|t| !t.is_empty()));
        (timed && whole).then_some(())
    }

    /// Goes over the name of an attribute and its colon: its place. `last` is one more than the place of the one before it.
    #[inline]
    pub(crate) fn next(&mut self, cursor: &mut Cursor<'_>, last: usize) -> Option<usize> {
        let guess = usize::from(self.follows[last]);
        if !TOKENS[guess].is_empty() && cursor.eat_text(TOKENS[guess].as_bytes()) {
            return Some(guess);
        }
        let found = TOKENS.iter().position(|token| !token.is_empty() && cursor.eat_text(token.as_bytes()))?;
        self.follows[last] = u8::try_from(found).ok()?;
        Some(found)
    }
}

/// Goes over the events of a message's text, one after the other.
#[derive(Debug)]
pub struct Events<'t> {
    cursor: Cursor<'t>,
    heads: Attributes,
    /// The one that was read last: it is large to hand around.
    head: Head<'t>,
    shared: &'t Shared<'t>,
    /// Where the event begins.
    start: usize,
    has_begun: bool,
}

impl<'t> Events<'t> {
    /// Before the first event of a message's text; `shared` is what its header says of all of them.
    pub fn new(text: &'t str, shared: &'t Shared<'t>) -> Self {
        let head = Head {
            texts: [None; ENVELOPE.len()],
            time: shared.received,
            received: shared.received,
            hops: None,
            has_data: false,
        };
        let (cursor, heads) = (Cursor::new(text), Attributes::default());
        Self { cursor, heads, head, shared, start: 0, has_begun: false }
    }

    /// Goes to the next event; whoever was given one has read it to its end. Answers whether there is one, and nothing where the text is not
    /// a list of events.
    pub fn advance(&mut self) -> Option<bool> {
        self.cursor.skip_space();
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if is_first && !self.cursor.eat(b'[') {
            return None;
        }
        self.cursor.skip_space();
        if self.cursor.peek() == Some(b']') {
            self.cursor.eat(b']');
            self.cursor.skip_space();
            return self.cursor.peek().is_none().then_some(false);
        }
        if !is_first && !self.cursor.eat(b',') {
            return None;
        }
        self.cursor.skip_space();
        self.start = self.cursor.at();
        Some(true)
    }

    /// Reads the event up to its data: what stands before it, and the cursor, which is behind that.
    #[inline]
    pub fn head(&mut self) -> Option<(&Head<'t>, &mut Cursor<'t>)> {
        self.heads.read(&mut self.head, &mut self.cursor, self.shared)?;
        Some((&self.head, &mut self.cursor))
    }

    /// Byte offset at which the event begins.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Reads the whole event, from its beginning, the slow way: its text and the event, or what is wrong with it. Nothing where it is not
    /// JSON, and so neither is the message.
    pub fn event(&mut self) -> Option<(&'t str, Result<Event<'t>, Violation>)> {
        self.cursor.go_to(self.start);
        let node = self.cursor.node(1)?;
        Some((node.raw, Event::read(node, self.shared)))
    }
}
