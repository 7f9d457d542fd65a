//! One column being filled.

use crate::words::{NULL, Texts, Words};
use sluice_domain::schema::{Cell, ColumnKind};

/// A column being filled. Rows that were not named are null, and cost nothing until a value follows them.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) values: Values,
    /// Rows that are filled.
    rows: usize,
    /// For each row whether it has a value; empty while all have one, and not kept by [`Values::Words`].
    present: Vec<bool>,
}

/// What a lane holds; rows without a value hold a zero or an empty text.
#[derive(Debug)]
pub(crate) enum Values {
    /// Text that repeats.
    Words(Words),
    /// Text that does not.
    Texts(Texts),
    /// Integers, timestamps, days, and decimals of at most 18 digits.
    Whole(Vec<i64>),
    /// Longer decimals.
    Huge(Vec<i128>),
    Number(Vec<f64>),
    Boolean(Vec<bool>),
    List(Box<Lists>),
}

/// Lists: where each ends among the elements.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) ends: Vec<u32>,
    pub(crate) elements: Lane,
}

/// A value of another kind than its column, which reading by the same schema cannot give, or too much text.
#[derive(Debug)]
pub(crate) struct Unset;

impl Lane {
    /// A lane for text; `repeats` says whether its values are expected to.
    pub(crate) fn text(repeats: bool) -> Self {
        let values = if repeats { Values::Words(Words::new()) } else { Values::Texts(Texts::default()) };
        Self { values, rows: 0, present: Vec::new() }
    }

    /// A lane for a column's kind.
    pub(crate) fn new(kind: &ColumnKind, repeats: bool) -> Self {
        let values = match kind {
            ColumnKind::Text | ColumnKind::Json => return Self::text(repeats),
            ColumnKind::Integer | ColumnKind::Timestamp | ColumnKind::Date => Values::Whole(Vec::new()),
            ColumnKind::Decimal { precision: 0..=18, .. } => Values::Whole(Vec::new()),
            ColumnKind::Decimal { .. } => Values::Huge(Vec::new()),
            ColumnKind::Number => Values::Number(Vec::new()),
            ColumnKind::Boolean => Values::Boolean(Vec::new()),
            ColumnKind::List(element) => {
                Values::List(Box::new(Lists { ends: Vec::new(), elements: Self::new(element, true) }))
            }
        };
        Self { values, rows: 0, present: Vec::new() }
    }

    /// Rows that are filled: all after them are null.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether a row has a value.
    #[inline]
    pub(crate) fn has(&self, row: usize) -> bool {
        row < self.rows
            && match &self.values {
                Values::Words(words) => words.codes[row] != NULL,
                _ => self.present.is_empty() || self.present[row],
            }
    }

    /// The text of a row that has one.
    #[inline]
    pub(crate) fn text_of(&self, row: usize) -> &[u8] {
        match &self.values {
            _ if !self.has(row) => &[],
            Values::Words(words) => words.texts.get(words.codes[row] as usize),
            Values::Texts(texts) => texts.get(row),
            _ => &[],
        }
    }

    /// Whether every one of these rows has a value, as far as that is known without looking at each.
    pub(crate) fn is_dense(&self, rows: &[u32]) -> bool {
        let all = self.present.is_empty() && !matches!(self.values, Values::Words(_));
        all && rows.iter().all(|row| (*row as usize) < self.rows)
    }

    /// Makes all rows before `row` that were not set null, and `row` the next to be set.
    #[inline]
    fn begin(&mut self, row: usize) {
        if row > self.rows {
            self.skip_to(row);
        }
        if !self.present.is_empty() {
            self.present.push(true);
        }
        self.rows = row + 1;
    }

    #[cold]
    fn skip_to(&mut self, row: usize) {
        if !matches!(self.values, Values::Words(_)) {
            if self.present.is_empty() {
                self.present.resize(self.rows, true);
            }
            self.present.resize(row, false);
        }
        match &mut self.values {
            Values::Words(words) => words.codes.resize(row, NULL),
            Values::Texts(texts) => (texts.len()..row).for_each(|_| _ = texts.push(&[])),
            Values::Whole(v) => v.resize(row, 0),
            Values::Huge(v) => v.resize(row, 0),
            Values::Number(v) => v.resize(row, 0.0),
            Values::Boolean(v) => v.resize(row, false),
            Values::List(lists) => {
                let end = lists.end();
                lists.ends.resize(row, end);
            }
        }
        self.rows = row;
    }

    /// Takes the last row's value out.
    pub(crate) fn pop(&mut self) {
        self.rows = self.rows.saturating_sub(1);
        self.present.truncate(self.rows);
        match &mut self.values {
            Values::Words(words) => words.codes.truncate(self.rows),
            Values::Texts(texts) => texts.truncate(self.rows),
            Values::Whole(v) => v.truncate(self.rows),
            Values::Huge(v) => v.truncate(self.rows),
            Values::Number(v) => v.truncate(self.rows),
            Values::Boolean(v) => v.truncate(self.rows),
            Values::List(lists) => {
                lists.ends.truncate(self.rows);
                lists.drop_open();
            }
        }
    }

    /// Sets the text of a row, which comes after all rows set so far, where the lane has it already or `takes` it.
    #[inline]
    pub(crate) fn set_text(&mut self, row: usize, text: &str, takes: impl FnOnce() -> bool) -> Result<(), Unset> {
        if let Values::Words(words) = &mut self.values {
            if row > self.rows {
                words.codes.resize(row, NULL);
            }
            // The rows between are there now, whether or not the text is taken.
            self.rows = row;
            if !words.push(text.as_bytes(), takes) {
                return Err(Unset);
            }
            self.rows = row + 1;
            if words.is_full() {
                self.spread();
            }
            return Ok(());
        }
        if !takes() {
            return Err(Unset);
        }
        self.begin(row);
        let Values::Texts(texts) = &mut self.values else { return Err(Unset) };
        if texts.push(text.as_bytes()) { Ok(()) } else { Err(Unset) }
    }

    /// The text that was set last, where the lane knows it by a number.
    #[inline]
    pub(crate) fn last_word(&self) -> Option<&[u8]> {
        match &self.values {
            Values::Words(words) => words.last(),
            _ => None,
        }
    }

    /// Sets a row to [`Self::last_word`].
    #[inline]
    pub(crate) fn set_last_word(&mut self, row: usize) {
        if let Values::Words(words) = &mut self.values {
            if row > self.rows {
                words.codes.resize(row, NULL);
            }
            words.push_last();
            self.rows = row + 1;
        }
    }

    /// Words become texts: they hardly repeat.
    #[cold]
    fn spread(&mut self) {
        let Values::Words(words) = &self.values else { return };
        let mut texts = Texts::default();
        let mut whole = true;
        for code in &words.codes {
            whole &= texts.push(if *code == NULL { &[] } else { words.texts.get(*code as usize) });
        }
        // Else the text would be too long; as words it is not.
        if whole {
            if words.codes.contains(&NULL) {
                self.present = words.codes.iter().map(|code| *code != NULL).collect();
            }
            self.values = Values::Texts(texts);
        }
    }

    #[inline]
    pub(crate) fn set_whole(&mut self, row: usize, value: i64) -> Result<(), Unset> {
        self.begin(row);
        match &mut self.values {
            Values::Whole(values) => values.push(value),
            Values::Huge(values) => values.push(i128::from(value)),
            _ => return Err(Unset),
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn set_number(&mut self, row: usize, value: f64) -> Result<(), Unset> {
        self.begin(row);
        match &mut self.values {
            Values::Number(values) => values.push(value),
            _ => return Err(Unset),
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn set_boolean(&mut self, row: usize, value: bool) -> Result<(), Unset> {
        self.begin(row);
        match &mut self.values {
            Values::Boolean(values) => values.push(value),
            _ => return Err(Unset),
        }
        Ok(())
    }

    /// Sets a row to a list of the elements that `fill` sets, from the row of the elements that it is given; it answers how many. An error
    /// leaves the row out.
    #[inline]
    pub(crate) fn set_list<E: From<Unset>>(
        &mut self,
        row: usize,
        fill: impl FnOnce(&mut Self, usize) -> Result<usize, E>,
    ) -> Result<(), E> {
        let Values::List(lists) = &mut self.values else { return Err(Unset.into()) };
        let start = lists.end() as usize;
        let end = match fill(&mut lists.elements, start).map(|count| u32::try_from(start + count)) {
            Ok(Ok(end)) => end,
            result => {
                lists.drop_open();
                return Err(result.err().unwrap_or_else(|| Unset.into()));
            }
        };
        self.begin(row);
        if let Values::List(lists) = &mut self.values {
            lists.ends.push(end);
        }
        Ok(())
    }

    /// Sets the value of a row, which comes after all rows set so far.
    pub(crate) fn set(&mut self, row: usize, cell: &Cell<'_>) -> Result<(), Unset> {
        match cell {
            Cell::Null => Ok(()),
            Cell::Text(text) | Cell::Json(text) => self.set_text(row, text, || true),
            Cell::Integer(n) | Cell::Timestamp(n) => self.set_whole(row, *n),
            Cell::Date(day) => self.set_whole(row, i64::from(*day)),
            Cell::Decimal(n) => match &mut self.values {
                Values::Huge(_) => {
                    self.begin(row);
                    let Values::Huge(values) = &mut self.values else { return Err(Unset) };
                    values.push(*n);
                    Ok(())
                }
                _ => self.set_whole(row, i64::try_from(*n).map_err(|_| Unset)?),
            },
            Cell::Number(n) => self.set_number(row, *n),
            Cell::Boolean(b) => self.set_boolean(row, *b),
            Cell::List(cells) => self.set_list(row, |elements, start| {
                cells.iter().enumerate().try_for_each(|(i, cell)| elements.set(start + i, cell))?;
                Ok(cells.len())
            }),
        }
    }
}

impl Lists {
    /// The elements of a row's list.
    pub(crate) fn elements_of(&self, row: usize) -> std::ops::Range<u32> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        start..self.ends[row]
    }

    #[inline]
    fn end(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Takes elements out that belong to no list.
    fn drop_open(&mut self) {
        let end = self.end() as usize;
        while self.elements.rows > end {
            self.elements.pop();
        }
    }
}
