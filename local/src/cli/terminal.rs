//! What commands write: plain lines, numbers for people, tables; colours only on a terminal.

use crate::cli::exit::Failure;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

/// Standard output, buffered.
pub struct Out {
    writer: Box<dyn Write>,
    colour: bool,
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Headings, counts that matter.
    Bold,
    /// What is only there to be looked up.
    Dim,
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
}

impl Out {
    /// The process's standard output.
    pub fn stdout() -> Self {
        Self { writer: Box::new(io::BufWriter::new(io::stdout())), colour: wants_colour(io::stdout().is_terminal()) }
    }

    /// An output without colours that is kept for a test to look at.
    #[cfg(test)]
    pub fn captured() -> (Self, Captured) {
        let captured = Captured::default();
        (Self { writer: Box::new(captured.clone()), colour: false }, captured)
    }

    /// Writes a line.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.writer.write_all(text.as_ref().as_bytes())?;
        Ok(self.writer.write_all(b"\n")?)
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.write_all(bytes)?)
    }

    /// Writes a value as indented JSON.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        self.line(serde_json::to_string_pretty(value).unwrap_or_default())
    }

    /// Hands everything to the reader; to be called before the command ends.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.flush()?)
    }

    /// The text in a style, where the output is a terminal.
    pub fn paint<'t>(&self, style: Style, text: &'t str) -> Cow<'t, str> {
        paint(self.colour, style, text)
    }
}

/// What a command wrote.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub struct Captured(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn paint(colour: bool, style: Style, text: &str) -> Cow<'_, str> {
    if !colour {
        return Cow::Borrowed(text);
    }
    let code = match style {
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Good => "32",
        Style::Bad => "31",
    };
    Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
}

/// <https://no-color.org>: set and not empty means no colours.
fn wants_colour(terminal: bool) -> bool {
    terminal
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Says something to the person at the terminal; a standard error that is closed does not matter.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Says what went wrong.
pub fn complain(text: &str) {
    let colour = wants_colour(io::stderr().is_terminal());
    note(format!("{} {text}", paint(colour, Style::Bad, "error:")));
}

/// A table for people: no frame, headings above, numbers to the right.
pub fn table(headings: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|h| Cell::new(h.to_uppercase())));
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(clean(cell))));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding(if at == 0 { (0, 1) } else { (1, 1) });
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Text from outside without what could steer a terminal: control characters (escape sequences begin with one) become `\u{…}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// At most `columns` characters, the last one `…` where something is missing.
pub fn clip(text: &str, columns: usize) -> Cow<'_, str> {
    if text.chars().nth(columns).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out: String = text.chars().take(columns.saturating_sub(1)).collect();
    out.push('…');
    Cow::Owned(out)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun: `1 event`, `2 events`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Bytes in the unit that fits: `512 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time for people: `350 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let mut out = String::new();
    let _ = match seconds {
        _ if ms < 1000 => write!(out, "{ms} ms"),
        0..60 => write!(out, "{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => write!(out, "{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => write!(out, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => write!(out, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(counted(0, "event"), "0 events");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1024 * 1024), "1.0 MiB");
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(1250), "1.2 s");
        assert_eq!(duration(200_000), "3 min 20 s");
        assert_eq!(duration(90_000_000), "1 d 1 h");
    }

    #[test]
    fn events_cannot_steer_the_terminal() {
        assert_eq!(clean("\u{1b}[2Jgone\u{9b}1m\n"), "\\u{1b}[2Jgone\\u{9b}1m\\n");
        assert_eq!(clean("삼성전자"), "삼성전자");
    }

    #[test]
    fn colours_are_left_out_where_nobody_sees_them() {
        assert_eq!(paint(false, Style::Good, "yes"), "yes");
        assert_eq!(paint(true, Style::Good, "yes"), "\u{1b}[32myes\u{1b}[0m");
        assert!(!wants_colour(false));
    }

    #[test]
    fn long_text_is_clipped_by_characters() {
        assert_eq!(clip("등락률알림", 3), "등락…");
        assert_eq!(clip("abc", 3), "abc");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let shown = table(&["name", "n"], &[1], [vec!["a".into(), "1".into()], vec!["bb".into(), "1,000".into()]]);
        assert_eq!(shown, "NAME      N\na         1\nbb    1,000");
    }
}
