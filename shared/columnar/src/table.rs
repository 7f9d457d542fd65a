//! Events on their way into the columns of a table: straight from their text where it is as texts mostly are, else by way of
//! [`Event`], which is the slow, obvious reader.

use crate::file::{self, ROW_GROUP_ROWS};
use crate::lane::{Lane, Unset};
use crate::plan::Plan;
use crate::reference::RowReader;
use sluice_domain::event::{Event, write_members};
use sluice_domain::lake::{EncodeError, EncodedFile, Misfit, TableBuilder};
use sluice_domain::scan::{Cursor, Head, digits_of, place};
use sluice_domain::schema::{Column, ColumnKind, ENVELOPE};
use sluice_domain::time::Timestamp;
use std::sync::Arc;

/// Lists and objects around a field of `data`: the message's list, the event, the data.
const FIELD_DEPTH: usize = 3;
/// Lists and objects around `data` and `extra`.
const MEMBER_DEPTH: usize = 2;

/// The rows of one partition of one table.
pub(crate) struct Table {
    plan: Arc<Plan>,
    lanes: Vec<Lane>,
    rows: usize,
    /// For each data column, one more than its place, the one that came after it; at 0 the one that came first.
    follows: Vec<usize>,
    /// The column `extra` of a row.
    extra: String,
    /// Columns of the row that are null by name.
    nulls: Vec<usize>,
}

/// Why the text of an event was not read: it is not as texts mostly are.
struct Unusual;

impl From<Unset> for Unusual {
    fn from(_: Unset) -> Self {
        Self
    }
}

impl Table {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let lanes = plan.lanes();
        let follows = (0..=plan.schema.columns.len()).collect();
        Self { plan, lanes, rows: 0, follows, extra: String::new(), nulls: Vec::new() }
    }

    fn read_text<'t>(&mut self, head: &Head<'t>, cursor: &mut Cursor<'t>) -> Result<(), Unusual> {
        let mut unknown: Vec<(&'t str, &'t str)> = Vec::new();
        if head.has_data {
            match self.plan.payload {
                None => self.read_fields(cursor, &mut unknown)?,
                Some(column) => {
                    if cursor.peek() != Some(b'{') {
                        return Err(Unusual);
                    }
                    let payload = cursor.raw(MEMBER_DEPTH).ok_or(Unusual)?;
                    self.lanes[ENVELOPE.len() + column].set_text(self.rows, payload, || true)?;
                }
            }
            cursor.skip_space();
            let mut attributes = None;
            if cursor.eat_text(b",\"extra\":") {
                attributes = Some(cursor.node(MEMBER_DEPTH).ok_or(Unusual)?);
                cursor.skip_space();
            }
            if !cursor.eat(b'}') {
                return Err(Unusual);
            }
            let attributes = match &attributes {
                Some(node) => node.as_object().ok_or(Unusual)?.0.as_slice(),
                None => &[],
            };
            if !unknown.is_empty() || !attributes.is_empty() {
                self.extra.clear();
                let attributes = attributes.iter().map(|(name, node)| (name.as_ref(), node.raw));
                write_members(&mut self.extra, unknown.into_iter().chain(attributes));
                self.lanes[place::EXTRA].set_text(self.rows, &self.extra, || true)?;
            }
        }
        for (lane, text) in self.lanes.iter_mut().zip(head.texts) {
            if let Some(text) = text {
                lane.set_text(self.rows, text, || true)?;
            }
        }
        self.lanes[place::TIME].set_whole(self.rows, head.time.micros())?;
        self.lanes[place::RECEIVED].set_whole(self.rows, head.received.micros())?;
        if let Some(hops) = head.hops {
            self.lanes[place::HOPS].set_whole(self.rows, hops)?;
        }
        Ok(())
    }

    fn read_fields<'t>(
        &mut self,
        cursor: &mut Cursor<'t>,
        unknown: &mut Vec<(&'t str, &'t str)>,
    ) -> Result<(), Unusual> {
        let Self { plan, lanes, rows: row, follows, nulls, .. } = self;
        if !cursor.eat(b'{') {
            return Err(Unusual);
        }
        nulls.clear();
        cursor.skip_space();
        if cursor.eat(b'}') {
            return Ok(());
        }
        let mut last = 0;
        loop {
            let guess = follows[last];
            let known = plan.schema.columns.get(guess).is_some_and(|column| cursor.eat_text(column.token()));
            let index = if known {
                guess
            } else {
                let name = cursor.string().ok_or(Unusual)?;
                cursor.skip_space();
                if !cursor.eat(b':') {
                    return Err(Unusual);
                }
                match plan.schema.column_index(name) {
                    Some(index) => index,
                    None => {
                        cursor.skip_space();
                        if unknown.iter().any(|(other, _)| *other == name) {
                            return Err(Unusual);
                        }
                        unknown.push((name, cursor.raw(FIELD_DEPTH).ok_or(Unusual)?));
                        if next(cursor)? {
                            continue;
                        }
                        return Ok(());
                    }
                }
            };
            follows[last] = index;
            last = index + 1;
            cursor.skip_space();
            let lane = &mut lanes[ENVELOPE.len() + index];
            if lane.rows() > *row || (!nulls.is_empty() && nulls.contains(&index)) {
                return Err(Unusual);
            }
            if cursor.peek() == Some(b'n') && cursor.eat_text(b"null") {
                nulls.push(index);
            } else {
                let from = cursor.at();
                if read_value(&plan.schema.columns[index], lane, *row, cursor).is_err() {
                    // An escape, an exponent, a time in another form: the slow reader knows.
                    cursor.go_to(from);
                    while lane.rows() > *row {
                        lane.pop();
                    }
                    let node = cursor.node(FIELD_DEPTH).ok_or(Unusual)?;
                    let cell = plan.schema.columns[index].read(&node).map_err(|_| Unusual)?;
                    lane.set(*row, &cell)?;
                }
            }
            if !next(cursor)? {
                return Ok(());
            }
        }
    }
}

/// Goes over what stands behind a member; answers whether another one follows.
#[inline]
fn next(cursor: &mut Cursor<'_>) -> Result<bool, Unusual> {
    cursor.skip_space();
    if cursor.eat(b',') {
        cursor.skip_space();
        return Ok(true);
    }
    if cursor.eat(b'}') { Ok(false) } else { Err(Unusual) }
}

#[inline]
fn read_value(column: &Column, lane: &mut Lane, row: usize, cursor: &mut Cursor<'_>) -> Result<(), Unusual> {
    match &column.kind {
        kind if column.is_enumerated() && *kind != ColumnKind::Text => return Err(Unusual),
        ColumnKind::Text => {
            if lane.last_word().is_some_and(|last| cursor.eat_string(last)) {
                lane.set_last_word(row);
                return Ok(());
            }
            let text = cursor.string().ok_or(Unusual)?;
            lane.set_text(row, text, || column.takes_text(text))?;
        }
        ColumnKind::Integer => {
            let digits = cursor.digits().filter(|d| d.scale == 0).ok_or(Unusual)?;
            #[allow(clippy::cast_precision_loss, reason = "bounds are floats")]
            fits(column, digits.unscaled as f64)?;
            lane.set_whole(row, digits.unscaled)?;
        }
        ColumnKind::Number => {
            let number = cursor.digits().and_then(|digits| digits.float()).ok_or(Unusual)?;
            fits(column, number)?;
            lane.set_number(row, number)?;
        }
        ColumnKind::Decimal { precision: precision @ 0..=18, scale } => {
            let digits = if cursor.peek() == Some(b'"') {
                digits_of(cursor.string().ok_or(Unusual)?)
            } else {
                // Bounds are checked on numbers, and decimals mostly come as text.
                return Err(Unusual);
            };
            let unscaled = digits.and_then(|digits| digits.rescaled(*scale)).ok_or(Unusual)?;
            if unscaled.unsigned_abs() >= 10u64.pow(u32::from(*precision)) {
                return Err(Unusual);
            }
            lane.set_whole(row, unscaled)?;
        }
        ColumnKind::Timestamp => {
            let time = Timestamp::parse_rfc3339(cursor.string().ok_or(Unusual)?).ok_or(Unusual)?;
            lane.set_whole(row, time.micros())?;
        }
        ColumnKind::Date => {
            let day = Timestamp::parse_date(cursor.string().ok_or(Unusual)?).ok_or(Unusual)?;
            lane.set_whole(row, i64::from(day))?;
        }
        ColumnKind::Boolean => lane.set_boolean(row, cursor.boolean().ok_or(Unusual)?)?,
        ColumnKind::List(element) if **element == ColumnKind::Integer => {
            read_integers(column, lane, row, cursor)?;
        }
        ColumnKind::Json => lane.set_text(row, cursor.raw(FIELD_DEPTH).ok_or(Unusual)?, || true)?,
        ColumnKind::Decimal { .. } | ColumnKind::List(_) => return Err(Unusual),
    }
    Ok(())
}

#[inline]
fn fits(column: &Column, number: f64) -> Result<(), Unusual> {
    if column.takes_number(number) { Ok(()) } else { Err(Unusual) }
}

fn read_integers(column: &Column, lane: &mut Lane, row: usize, cursor: &mut Cursor<'_>) -> Result<(), Unusual> {
    if !cursor.eat(b'[') {
        return Err(Unusual);
    }
    lane.set_list(row, |elements, start| {
        let mut count = 0;
        cursor.skip_space();
        if cursor.eat(b']') {
            return if column.takes_items(0) { Ok(0) } else { Err(Unusual) };
        }
        loop {
            cursor.skip_space();
            let digits = cursor.digits().filter(|d| d.scale == 0).ok_or(Unusual)?;
            elements.set_whole(start + count, digits.unscaled)?;
            count += 1;
            cursor.skip_space();
            if cursor.eat(b']') {
                return if column.takes_items(count) { Ok(count) } else { Err(Unusual) };
            }
            if !cursor.eat(b',') {
                return Err(Unusual);
            }
        }
    })
}

impl TableBuilder for Table {
    fn push_text<'t>(&mut self, head: &Head<'t>, cursor: &mut Cursor<'t>) -> bool {
        if self.plan.schema.is_generic() && self.plan.payload.is_none() {
            return false;
        }
        let read = self.read_text(head, cursor).is_ok();
        if read {
            self.rows += 1;
        } else {
            self.take_back();
        }
        read
    }

    fn push(&mut self, event: &Event<'_>) -> Result<(), Misfit> {
        let plan = Arc::clone(&self.plan);
        let mut reader = RowReader::new(&plan.schema);
        reader.read(event)?;
        let result = reader.row(event).try_for_each(|(index, cell)| self.lanes[index].set(self.rows, &cell));
        if result.is_err() {
            self.take_back();
            return Err(Misfit { pointer: String::new(), reason: "its values are not those of its columns".into() });
        }
        self.rows += 1;
        Ok(())
    }

    fn rows(&self) -> u32 {
        u32::try_from(self.rows).unwrap_or(u32::MAX)
    }

    fn encode(&self, rows: &[u32]) -> Result<EncodedFile, EncodeError> {
        file::encode(&self.plan, &self.lanes, rows, ROW_GROUP_ROWS).map_err(|e| EncodeError(e.to_string()))
    }
}

impl Table {
    /// Takes out what was set of the row that is not to be.
    fn take_back(&mut self) {
        for lane in &mut self.lanes {
            while lane.rows() > self.rows {
                lane.pop();
            }
        }
    }
}
