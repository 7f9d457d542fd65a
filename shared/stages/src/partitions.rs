//! The events of a slice as rows of tables, by partition.
//!
//! Events are read once, straight into the tables of the partitions that they fall into; which of those rows become files is decided later,
//! group by group.

use crate::groups::{MAX_COUNTERS, MAX_FILES, MAX_TABLES};
use crate::intake::{Counted, Read, Taken};
use sluice_domain::event::Event;
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Misfit, TableBuilder};
use sluice_domain::message::{MessageError, Unpacked};
use sluice_domain::scan::{Events, place};
use sluice_domain::schema::{Partition, Registry, Schema, counted_as};
use sluice_domain::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Table and number of a partition.
pub(crate) type Place<'r> = (&'r str, i64);

/// The rows of a slice.
pub(crate) struct Partitions<'r> {
    registry: &'r Registry,
    encoder: &'r dyn Encoder,
    all: Vec<Rows<'r>>,
    by_place: HashMap<Place<'r>, usize>,
    /// Names under which events of the generic table are counted.
    names: Vec<String>,
}

/// The rows of one partition.
pub(crate) struct Rows<'r> {
    pub(crate) schema: &'r Schema,
    table: Box<dyn TableBuilder>,
    /// For each row the message that it is of, by its order in the slice.
    pub(crate) owners: Vec<u32>,
    /// Only in the generic table: for each row the position of its name.
    names: Option<Vec<u32>>,
}

/// A message whose events are rows.
pub(crate) struct Parsed<'m, 'r> {
    pub(crate) taken: &'m Taken,
    /// Its order in the slice.
    pub(crate) number: u32,
    /// What cannot be read of it, and how it counts.
    pub(crate) read: Read<'m>,
    /// What does not fit.
    pub(crate) misfits: Vec<Unfit>,
    /// Where its rows are.
    pub(crate) places: BTreeSet<Place<'r>>,
}

/// An event that does not fit the schema of its type.
pub(crate) struct Unfit {
    /// Its position in the message.
    pub(crate) position: u32,
    pub(crate) misfit: Misfit,
    /// The event as it stands in a message.
    pub(crate) text: String,
}

/// What is found in a message beside rows.
#[derive(Default)]
struct Found<'m, 'r> {
    kinds: Vec<Kind<'r>>,
    places: BTreeSet<Place<'r>>,
    misfits: Vec<Unfit>,
    unreadable: Vec<(u32, &'m str, MessageError)>,
}

/// Events of one type in a message.
struct Kind<'r> {
    event_type: String,
    schema: &'r Schema,
    counted: Counted,
    /// Number of the partition that the last one fell into, and where its rows are: neighbours mostly share it.
    last: Option<(i64, usize)>,
}

impl<'r> Partitions<'r> {
    /// No rows yet. `registry` says which table an event belongs to, `encoder` makes tables.
    pub(crate) fn new(registry: &'r Registry, encoder: &'r dyn Encoder) -> Self {
        Self { registry, encoder, all: Vec::new(), by_place: HashMap::new(), names: Vec::new() }
    }

    /// Makes the events of a message rows. `body` is the whole message, `number` its order in the slice. An error means that there can be no
    /// such table.
    pub(crate) fn add<'m>(
        &mut self,
        taken: &'m Taken,
        body: &'m str,
        number: u32,
    ) -> Result<Parsed<'m, 'r>, EncodeError> {
        let found = match taken.unpacked() {
            Some(unpacked) => self.add_text(unpacked, number)?,
            None => None,
        };
        let (read, misfits, places) = match found {
            Some(found) => {
                let types = types(&found.kinds);
                (taken.count(body, types, found.unreadable), found.misfits, found.places)
            }
            None => {
                self.forget(number);
                self.add_read(taken, body, number)?
            }
        };
        if read.is_refused() {
            self.forget(number);
            return Ok(Parsed { taken, number, read, misfits: Vec::new(), places: BTreeSet::new() });
        }
        Ok(Parsed { taken, number, read, misfits, places })
    }

    /// The rows of a place.
    pub(crate) fn rows(&self, place: &Place<'_>) -> Option<(usize, &Rows<'r>)> {
        let index = *self.by_place.get(place)?;
        Some((index, &self.all[index]))
    }

    /// A file of some rows of one partition.
    pub(crate) fn encode(&self, index: usize, rows: &[u32]) -> Result<EncodedFile, EncodeError> {
        self.all[index].table.encode(rows)
    }

    /// The partitions by the order in which [`Self::rows`] numbers them.
    pub(crate) fn at(&self, index: usize) -> &Rows<'r> {
        &self.all[index]
    }

    /// The name under which a row of a partition is counted.
    pub(crate) fn name(&self, index: usize, row: u32) -> &str {
        let rows = &self.all[index];
        let own = rows.names.as_ref().and_then(|names| self.names.get(*names.get(row as usize)? as usize));
        own.map_or(rows.schema.event_type.as_str(), String::as_str)
    }

    /// The last row is of this message.
    fn own(&mut self, rows: usize, number: u32, event_type: &str) {
        let rows = &mut self.all[rows];
        rows.owners.push(number);
        let Some(names) = &mut rows.names else { return };
        let name = counted_as(event_type);
        let last = names.last().copied().filter(|last| self.names[*last as usize] == name);
        let known = last.or_else(|| (0u32..).zip(&self.names).find(|(_, known)| *known == name).map(|(i, _)| i));
        names.push(known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() as u32 - 1
        }));
    }

    /// Reads a message's text in one pass. Nothing means that the message has to be read as a whole; then some of its events are rows.
    fn add_text<'m>(&mut self, unpacked: &'m Unpacked, number: u32) -> Result<Option<Found<'m, 'r>>, EncodeError> {
        let (text, shared) = (unpacked.text(), unpacked.shared());
        let mut events = Events::new(text, &shared);
        let mut found = Found::default();
        for position in 0u32.. {
            match events.advance() {
                Some(true) => {}
                Some(false) => return Ok(Some(found)),
                None => return Ok(None),
            }
            if let Some((head, cursor)) = events.head()
                && let Some(event_type) = head.texts[place::TYPE]
            {
                let Some(kind) = found.kind(event_type, self.registry) else { return Ok(None) };
                let Some(rows) = self.place(&mut found, kind, head.time)? else { return Ok(None) };
                if self.all[rows].table.push_text(head, cursor) {
                    self.own(rows, number, event_type);
                    found.kinds[kind].counted.stored += 1;
                    continue;
                }
            }
            let start = events.start();
            match events.event() {
                None => return Ok(None),
                Some((raw, Err(violation))) => {
                    found.unreadable.push((position, &text[start..start + raw.len()], violation.into()));
                }
                Some((_, Ok(event))) => {
                    let Some(kind) = found.kind(&event.event_type, self.registry) else { return Ok(None) };
                    let Some(rows) = self.place(&mut found, kind, event.time)? else { return Ok(None) };
                    match self.push(rows, &event, number, position) {
                        None => found.kinds[kind].counted.stored += 1,
                        Some(unfit) => {
                            found.kinds[kind].counted.quarantined += 1;
                            found.misfits.push(unfit);
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads a message as a whole, and refuses it where it cannot be read so or touches too much.
    #[allow(clippy::type_complexity)]
    fn add_read<'m>(
        &mut self,
        taken: &'m Taken,
        body: &'m str,
        number: u32,
    ) -> Result<(Read<'m>, Vec<Unfit>, BTreeSet<Place<'r>>), EncodeError> {
        let mut read = taken.read(body);
        let places = read.events.iter().map(|(_, event)| {
            let schema = self.registry.resolve(&event.event_type);
            (schema.table.as_str(), partition_number(schema.partition, event.time))
        });
        let places: BTreeSet<Place<'r>> = places.collect();
        let tables: BTreeSet<&str> = places.iter().map(|(table, _)| *table).collect();
        if tables.len() > MAX_TABLES || places.len() > MAX_FILES {
            let reason = format!(
                "a message may touch {MAX_TABLES} tables and {MAX_FILES} partitions, this one touches {} and {}",
                tables.len(),
                places.len()
            );
            let refused = taken.refuse_all(body, MessageError { code: "too_large", reason });
            return Ok((refused, Vec::new(), BTreeSet::new()));
        }
        let mut misfits = Vec::new();
        for (position, event) in std::mem::take(&mut read.events) {
            let schema = self.registry.resolve(&event.event_type);
            let rows = self.open(schema, partition_number(schema.partition, event.time))?;
            if let Some(unfit) = self.push(rows, &event, number, position) {
                read.move_to_quarantine(&taken.head, counted_as(&event.event_type));
                misfits.push(unfit);
            }
        }
        Ok((read, misfits, places))
    }

    /// Makes an event a row, or says why it does not fit.
    fn push(&mut self, rows: usize, event: &Event<'_>, number: u32, position: u32) -> Option<Unfit> {
        match self.all[rows].table.push(event) {
            Ok(()) => {
                self.own(rows, number, &event.event_type);
                None
            }
            Err(misfit) => {
                let mut text = String::new();
                event.write(&mut text);
                Some(Unfit { position, misfit, text })
            }
        }
    }

    /// Where the rows of a kind's partition are. Nothing means that the message touches more than it may.
    fn place(&mut self, found: &mut Found<'_, 'r>, kind: usize, time: Timestamp) -> Result<Option<usize>, EncodeError> {
        let kind = &mut found.kinds[kind];
        let number = partition_number(kind.schema.partition, time);
        if let Some((_, rows)) = kind.last.filter(|(last, _)| *last == number) {
            return Ok(Some(rows));
        }
        if found.places.insert((&kind.schema.table, number)) && found.places.len() > MAX_FILES {
            return Ok(None);
        }
        let rows = self.open(kind.schema, number)?;
        kind.last = Some((number, rows));
        Ok(Some(rows))
    }

    fn open(&mut self, schema: &'r Schema, number: i64) -> Result<usize, EncodeError> {
        let place = (schema.table.as_str(), number);
        if let Some(index) = self.by_place.get(&place) {
            return Ok(*index);
        }
        let names = schema.is_generic().then(Vec::new);
        self.all.push(Rows { schema, table: self.encoder.table(schema)?, owners: Vec::new(), names });
        self.by_place.insert(place, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    /// The rows of a message are nobody's.
    fn forget(&mut self, number: u32) {
        for rows in &mut self.all {
            // They are the last ones.
            rows.owners.iter_mut().rev().take_while(|owner| **owner == number).for_each(|owner| *owner = u32::MAX);
        }
    }
}

impl<'r> Found<'_, 'r> {
    /// The kind of a type. Nothing means that there are more than a message may have.
    fn kind(&mut self, event_type: &str, registry: &'r Registry) -> Option<usize> {
        if let Some(kind) = self.kinds.iter().position(|kind| kind.event_type == event_type) {
            return Some(kind);
        }
        let schema = registry.resolve(event_type);
        let kind = Kind { event_type: event_type.to_owned(), schema, counted: Counted::default(), last: None };
        self.kinds.push(kind);
        let tables = || self.kinds.iter().map(|kind| kind.schema.table.as_str()).collect::<BTreeSet<_>>().len();
        (self.kinds.len() <= MAX_COUNTERS && tables() <= MAX_TABLES).then_some(self.kinds.len() - 1)
    }
}

/// How the kinds of a message count.
fn types(kinds: &[Kind<'_>]) -> BTreeMap<String, Counted> {
    let mut types: BTreeMap<String, Counted> = BTreeMap::new();
    for kind in kinds.iter().filter(|kind| kind.counted != Counted::default()) {
        let counted = types.entry(counted_as(&kind.event_type).to_owned()).or_default();
        counted.stored += kind.counted.stored;
        counted.quarantined += kind.counted.quarantined;
    }
    types
}

fn partition_number(partition: Partition, time: Timestamp) -> i64 {
    match partition {
        Partition::Hour => time.epoch_hour(),
        Partition::Day => i64::from(time.day()),
        Partition::Month => {
            let date = time.date_text();
            let (year, month) = (date[..4].parse().unwrap_or(0i64), date[5..7].parse().unwrap_or(0i64));
            year * 12 + month
        }
    }
}
