//! Cuts an input into events: by lines, or by JSON values over any lines. Works on pieces of any size and keeps at most one event.

use crate::cli::upload::{Content, Item};
use std::ops::ControlFlow;

/// Longer events are not kept in memory: the server would take none of them.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// One event's text as it was cut out.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'t> {
    /// Its text, without line ends.
    pub text: &'t [u8],
    /// Offset of its first byte.
    pub begin: u64,
}

/// Makes of an event's text what is sent.
pub trait Shape {
    /// What is sent for it.
    fn shape(&self, cut: Cut<'_>) -> Content;
}

/// Cuts pieces of input.
pub trait Split: Send {
    /// Cuts what is complete by now.
    fn feed(&mut self, piece: &[u8], shape: &dyn Shape, items: &mut Vec<Item>);
    /// The input has ended.
    fn finish(&mut self, shape: &dyn Shape, items: &mut Vec<Item>);
}

/// Events that stand on a line each.
#[derive(Debug, Default)]
pub struct Lines {
    kept: Vec<u8>,
    overlong: bool,
    line: u64,
    offset: u64,
    line_begin: u64,
}

impl Split for Lines {
    fn feed(&mut self, piece: &[u8], shape: &dyn Shape, items: &mut Vec<Item>) {
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', piece) {
            let rest = &piece[from..at];
            self.offset += (at + 1 - from) as u64;
            if self.kept.is_empty() && !self.overlong {
                self.end_line(rest, shape, items);
            } else {
                self.keep(rest);
                let line = std::mem::take(&mut self.kept);
                self.end_line(&line, shape, items);
                self.kept = line;
                self.kept.clear();
            }
            from = at + 1;
        }
        self.offset += (piece.len() - from) as u64;
        self.keep(&piece[from..]);
    }

    fn finish(&mut self, shape: &dyn Shape, items: &mut Vec<Item>) {
        if !self.kept.is_empty() || self.overlong {
            let line = std::mem::take(&mut self.kept);
            self.end_line(&line, shape, items);
        }
    }
}

impl Lines {
    fn keep(&mut self, rest: &[u8]) {
        if self.overlong || self.kept.len() + rest.len() > MAX_EVENT_BYTES {
            self.overlong = true;
            self.kept.clear();
        } else {
            self.kept.extend_from_slice(rest);
        }
    }

    fn end_line(&mut self, text: &[u8], shape: &dyn Shape, items: &mut Vec<Item>) {
        self.line += 1;
        let begin = std::mem::replace(&mut self.line_begin, self.offset);
        if std::mem::take(&mut self.overlong) {
            items.push(Item { line: self.line, end: self.offset, content: overlong() });
            return;
        }
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.trim_ascii().is_empty() {
            let content = shape.shape(Cut { text, begin });
            items.push(Item { line: self.line, end: self.offset, content });
        }
    }
}

fn overlong() -> Content {
    Content::Unsendable(format!("longer than {} MiB", MAX_EVENT_BYTES >> 20))
}

/// JSON values one after the other, or in arrays.
#[derive(Debug)]
pub struct Values {
    value: Vec<u8>,
    overlong: bool,
    state: State,
    /// Brackets open inside of the value.
    depth: usize,
    /// Line on which the open array of events begins.
    array: Option<u64>,
    line: u64,
    offset: u64,
    value_line: u64,
    value_begin: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between values.
    Between,
    /// In an object or array.
    Nested,
    /// In a string in an object or array.
    Text,
    /// After a backslash in such a string.
    Escape,
    /// In a value that is neither: it goes on to the next separator.
    Bare,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            value: Vec::new(),
            overlong: false,
            state: State::Between,
            depth: 0,
            array: None,
            line: 1,
            offset: 0,
            value_line: 1,
            value_begin: 0,
        }
    }
}

impl Split for Values {
    fn feed(&mut self, piece: &[u8], shape: &dyn Shape, items: &mut Vec<Item>) {
        for &byte in piece {
            // A bare value ends before the byte that ends it, which is then looked at again.
            while self.step(byte, shape, items).is_continue() {}
            self.offset += 1;
            if byte == b'\n' {
                self.line += 1;
            }
        }
    }

    fn finish(&mut self, shape: &dyn Shape, items: &mut Vec<Item>) {
        if self.state != State::Between {
            self.end_value(shape, items);
        }
        if let Some(line) = self.array {
            let reason = "the input ends inside of the array that begins here: something may be missing".to_owned();
            items.push(Item { line, end: self.offset, content: Content::Unsendable(reason) });
        }
    }
}

impl Values {
    /// Looks at a byte; `Continue` where it must be looked at once more.
    fn step(&mut self, byte: u8, shape: &dyn Shape, items: &mut Vec<Item>) -> ControlFlow<()> {
        match (self.state, byte) {
            (State::Between, b' ' | b'\t' | b'\r' | b'\n' | b',') => {}
            (State::Between, b'[') if self.array.is_none() => self.array = Some(self.line),
            (State::Between, b']') if self.array.is_some() => self.array = None,
            (State::Between, b'{' | b'[') => {
                self.begin_value(State::Nested);
                self.depth = 1;
                self.keep(byte);
            }
            (State::Between, _) => {
                self.begin_value(State::Bare);
                self.keep(byte);
            }
            (State::Nested, _) => {
                self.keep(byte);
                match byte {
                    b'"' => self.state = State::Text,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            self.offset += 1;
                            self.end_value(shape, items);
                            self.offset -= 1;
                        }
                    }
                    _ => {}
                }
            }
            (State::Text, _) => {
                self.keep(byte);
                match byte {
                    b'"' => self.state = State::Nested,
                    b'\\' => self.state = State::Escape,
                    _ => {}
                }
            }
            (State::Escape, _) => {
                self.keep(byte);
                self.state = State::Text;
            }
            (State::Bare, b'\n' | b',' | b'{' | b'[' | b']') => {
                self.end_value(shape, items);
                return ControlFlow::Continue(());
            }
            (State::Bare, _) => self.keep(byte),
        }
        ControlFlow::Break(())
    }

    fn begin_value(&mut self, state: State) {
        self.state = state;
        self.value.clear();
        self.overlong = false;
        self.value_line = self.line;
        self.value_begin = self.offset;
    }

    fn keep(&mut self, byte: u8) {
        if self.value.len() == MAX_EVENT_BYTES {
            self.overlong = true;
        } else {
            // Each event goes out on one line. A line end in a string is an error, which a tab in its place leaves it.
            let inside = matches!(self.state, State::Text | State::Escape);
            self.value.push(match byte {
                b'\n' | b'\r' if inside => b'\t',
                b'\n' | b'\r' => b' ',
                other => other,
            });
        }
    }

    fn end_value(&mut self, shape: &dyn Shape, items: &mut Vec<Item>) {
        self.state = State::Between;
        let content = if self.overlong {
            overlong()
        } else {
            let text = self.value.trim_ascii();
            shape.shape(Cut { text, begin: self.value_begin })
        };
        items.push(Item { line: self.value_line, end: self.offset, content });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct AsIs;

    impl Shape for AsIs {
        fn shape(&self, cut: Cut<'_>) -> Content {
            Content::Event([cut.begin.to_string().as_bytes(), b"|", cut.text].concat())
        }
    }

    /// What is cut, as (line, `begin|text`, end), the same for pieces of every size.
    fn cut(make: impl Fn() -> Box<dyn Split>, input: &str) -> Vec<(u64, String, u64)> {
        let cut_by = |size: usize| {
            let (mut split, mut items) = (make(), Vec::new());
            for piece in input.as_bytes().chunks(size) {
                split.feed(piece, &AsIs, &mut items);
            }
            split.finish(&AsIs, &mut items);
            items
                .into_iter()
                .map(|item| match item.content {
                    Content::Event(text) => (item.line, String::from_utf8(text).unwrap(), item.end),
                    Content::Bad(_, reason) | Content::Unsendable(reason) => {
                        (item.line, format!("! {reason}"), item.end)
                    }
                })
                .collect::<Vec<_>>()
        };
        let whole = cut_by(1 << 20);
        for size in [1, 2, 3, 7] {
            assert_eq!(cut_by(size), whole, "in pieces of {size}");
        }
        whole
    }

    fn lines(input: &str) -> Vec<(u64, String, u64)> {
        cut(|| Box::new(Lines::default()), input)
    }

    fn values(input: &str) -> Vec<(u64, String)> {
        cut(|| Box::new(Values::default()), input).into_iter().map(|(line, text, _)| (line, text)).collect()
    }

    #[test]
    fn lines_are_cut_with_their_numbers_and_offsets() {
        assert_eq!(
            lines("{\"a\":1}\r\n\n  \n{}\nlast"),
            [(1, "0|{\"a\":1}".into(), 9), (4, "13|{}".into(), 16), (5, "16|last".into(), 20)]
        );
        assert_eq!(lines(""), []);
    }

    #[test]
    fn an_endless_line_does_not_fill_memory() {
        let mut split = Lines::default();
        let mut items = Vec::new();
        for _ in 0..=(MAX_EVENT_BYTES / (1 << 20)) {
            split.feed(&vec![b'x'; 1 << 20], &AsIs, &mut items);
            assert!(split.kept.len() <= MAX_EVENT_BYTES);
        }
        split.feed(b"\n{}\n", &AsIs, &mut items);
        assert_eq!(items.len(), 2);
        assert!(matches!(&items[0].content, Content::Unsendable(r) if r.contains("8 MiB")), "{:?}", items[0].content);
        assert_eq!((items[1].line, &items[1].content), (2, &Content::Event(b"9437185|{}".to_vec())));
    }

    #[test]
    fn an_endless_value_does_not_fill_memory() {
        let mut split = Values::default();
        let mut items = Vec::new();
        split.feed(b"[\"", &AsIs, &mut items);
        split.feed(b"[{\"a\":\"", &AsIs, &mut items);
        for _ in 0..9 {
            split.feed(&vec![b'x'; 1 << 20], &AsIs, &mut items);
        }
        split.finish(&AsIs, &mut items);
        assert!(split.value.len() <= MAX_EVENT_BYTES);
        assert!(items.iter().any(|i| matches!(&i.content, Content::Unsendable(r) if r.contains("8 MiB"))), "{items:?}");
    }

    #[test]
    fn values_are_cut_over_lines_and_out_of_arrays() {
        assert_eq!(
            values("{\n  \"a\": \"}\\\"]\"\n}\n{\"b\":[1,{}]} {}"),
            [(1, "0|{   \"a\": \"}\\\"]\" }".into()), (4, "18|{\"b\":[1,{}]}".into()), (4, "31|{}".into())]
        );
        assert_eq!(values("[\n{\"a\":1},\n{\"b\":2}\n]\n"), [(2, "2|{\"a\":1}".into()), (3, "11|{\"b\":2}".into())]);
        assert_eq!(values("[]"), []);
        assert_eq!(values("[{}]\n[{}]").len(), 2);
    }

    #[test]
    fn what_is_no_object_is_cut_too_so_that_it_is_rejected() {
        let texts = |input| values(input).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts("[1, \"a\", {}]"), ["1|1", "4|\"a\"", "9|{}"]);
        assert_eq!(texts("nonsense {}"), ["0|nonsense", "9|{}"]);
        assert_eq!(texts("[[{}]]"), ["1|[{}]"]);
        assert_eq!(texts("{\"a\":\"x\ny\"}"), ["0|{\"a\":\"x\ty\"}"]);
    }

    #[test]
    fn an_input_that_ends_too_early_is_not_taken_for_whole() {
        let cut = values("[\n{\"a\":1},\n{\"b\"");
        assert_eq!(cut[1], (3, "11|{\"b\"".into()));
        assert!(cut[2].1.contains("ends inside of the array"), "{cut:?}");
        assert_eq!(cut[2].0, 1);
    }
}
