//! `convert`: queued messages to data files of the lake, exactly once (see [`crate::groups`]).
//!
//! Messages are unpacked one by one until their texts fill a slice; a slice becomes one group, or more where it touches more partitions,
//! tables or counters than a group takes. One file holds the events of all batches of a group that fall into one partition of one table.

use crate::groups::{Claim, Contents, Ended, Group, Groups, RecordedFile, Wanted};
use crate::groups::{MAX_BATCHES, MAX_COUNTERS, MAX_FILES, MAX_TABLES};
use crate::intake::{self, Counted, Read, Slices, Taken, retry};
use crate::item::{Item, Outcome};
use crate::ledger::{self, Sink};
use crate::quarantine::{self, Quarantined};
use bytes::Bytes;
use futures::future::join_all;
use sluice_domain::event::Event;
use sluice_domain::lake::{self, EncodeError, EncodedFile, Encoder, MAX_PARTITIONS};
use sluice_domain::message::{Header, MessageError};
use sluice_domain::schema::{Partition, Registry, Schema};
use sluice_domain::time::Timestamp;
use sluice_ports::{ErrorKind, Objects, PortError, PutMode, Queue, Table};
use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Puts that are under way at the same time.
const PUTS_AT_ONCE: usize = 16;
const ORIGIN: &str = "convert";

/// What the stage reaches the outside through.
#[derive(Clone)]
pub struct ConvertPorts {
    /// The lake's bucket.
    pub objects: Arc<dyn Objects>,
    /// Groups, batches and counters.
    pub table: Arc<dyn Table>,
    /// The quarantine queue.
    pub quarantine: Arc<dyn Queue>,
}

/// How the stage works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertSettings {
    /// How long others leave the batches of a group alone. It only saves double work; longer than a group usually takes, and short enough
    /// that a message whose consumer has died is not given back so often that it ends in the dead-letter queue.
    pub lease_ms: u32,
    /// Unpacked text after which a slice is full. Parsed events take about seven times as much memory.
    pub slice_bytes: usize,
    /// Time after which no further slice is begun; what is left is given back.
    pub budget_ms: u32,
}

impl Default for ConvertSettings {
    fn default() -> Self {
        Self { lease_ms: 3_000, slice_bytes: 8 * 1024 * 1024, budget_ms: 45_000 }
    }
}

/// The stage.
pub struct Convert {
    ports: ConvertPorts,
    registry: Arc<Registry>,
    encoder: Arc<dyn Encoder>,
    settings: ConvertSettings,
    groups: Groups,
}

/// A message whose events are parsed.
struct Parsed<'m> {
    taken: &'m Taken,
    read: Read<'m>,
    /// Table and partition number of its events.
    partitions: BTreeSet<(&'m str, i64)>,
}

/// The events of a group in one partition of one table.
struct Bucket<'r, 'm> {
    schema: &'r Schema,
    events: Vec<Event<'m>>,
    /// For each event its message in the group and its position there.
    owners: Vec<(usize, u32)>,
    encoded: Option<Encoded>,
}

struct Encoded {
    file: Option<EncodedFile>,
    misfits: Vec<Refused>,
}

/// An event or message on its way to quarantine.
struct Refused {
    message: usize,
    counter: String,
    record: Quarantined,
}

impl Bucket<'_, '_> {
    /// How many rows of its file belong to each counter row of the ledger.
    fn counted(&self, held: &[Parsed<'_>], misfits: &[Refused]) -> BTreeMap<String, u64> {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let mut last: Option<(usize, &str, String)> = None;
        for (event, (message, _)) in self.events.iter().zip(&self.owners) {
            // Neighbours mostly share their row.
            let known = last.as_ref().filter(|(m, name, _)| m == message && *name == event.event_type);
            let counter = match known {
                Some((_, _, counter)) => counter.clone(),
                None => ledger::counter(held[*message].taken.head.received, &event.event_type),
            };
            *counted.entry(counter.clone()).or_default() += 1;
            last = Some((*message, &event.event_type, counter));
        }
        for misfit in misfits {
            if let Some(n) = counted.get_mut(&misfit.counter) {
                *n -= 1;
            }
        }
        counted.retain(|_, n| *n > 0);
        counted
    }
}

impl Convert {
    /// The stage over its ports. `registry` says which table an event belongs to, `encoder` makes files.
    pub fn new(
        ports: ConvertPorts,
        registry: Arc<Registry>,
        encoder: Arc<dyn Encoder>,
        settings: ConvertSettings,
    ) -> Self {
        let groups = Groups::new(ports.table.clone(), settings.lease_ms);
        Self { ports, registry, encoder, settings, groups }
    }

    /// Stores the events of queued messages; one outcome per item, in order. Encoding keeps the thread busy for up to a second.
    pub async fn run(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
        let mut slices = Slices::new(items, self.settings.budget_ms);
        while let Some(slice) = slices.next(MAX_BATCHES, self.settings.slice_bytes) {
            let now = now.plus_micros(slice.after_us);
            let queue = self.ports.quarantine.as_ref();
            for (item, outcome) in intake::refuse_unknown(ORIGIN, queue, items, &slice.unknown, now).await {
                outcomes[item] = Some(outcome);
            }
            self.store_slice(items, &slice.taken, &mut outcomes, now).await;
        }
        let again = slices.followers(&mut outcomes);
        self.settle_again(items, &again, &mut outcomes, now).await;
        intake::finished(outcomes)
    }

    /// Messages whose batch was stored by an earlier one of the same delivery: they count as duplicates if they are another publish.
    async fn settle_again(
        &self,
        items: &[Item],
        again: &[(usize, Header)],
        outcomes: &mut [Option<Outcome>],
        now: Timestamp,
    ) {
        if again.is_empty() {
            return;
        }
        let batches: Vec<&str> = again.iter().map(|(_, header)| header.batch.as_str()).collect();
        let stored = match self.groups.stored(&batches).await {
            Ok(stored) => stored,
            Err(e) => return again.iter().for_each(|(item, _)| outcomes[*item] = Some(retry(&e.to_string()))),
        };
        for ((item, header), stored) in again.iter().zip(stored) {
            outcomes[*item] = Some(match stored {
                Some(stored) => {
                    self.settle_stored(header, ledger::publish_of(header, &items[*item].id), &stored, now).await
                }
                None => retry("the batch is not stored yet"),
            });
        }
    }

    async fn settle_stored(&self, header: &Header, publish: &str, stored: &str, now: Timestamp) -> Outcome {
        if publish == stored {
            return Outcome::Done;
        }
        match ledger::count_duplicate(self.ports.table.as_ref(), Sink::Lake, header, publish, now).await {
            Ok(()) => Outcome::Done,
            Err(e) => retry(&e.to_string()),
        }
    }

    async fn store_slice(&self, items: &[Item], slice: &[Taken], outcomes: &mut [Option<Outcome>], now: Timestamp) {
        let mut group: Vec<Parsed<'_>> = Vec::new();
        let mut room = Room::default();
        for taken in slice {
            let parsed = self.parse(taken, &items[taken.item]);
            if !group.is_empty() && !room.fits(&parsed) {
                self.store_group(std::mem::take(&mut group), outcomes, now).await;
                room = Room::default();
            }
            room.add(&parsed);
            group.push(parsed);
        }
        if !group.is_empty() {
            self.store_group(group, outcomes, now).await;
        }
    }

    fn parse<'m>(&'m self, taken: &'m Taken, item: &'m Item) -> Parsed<'m> {
        let mut read = taken.read(&item.body);
        let mut partitions = BTreeSet::new();
        let mut last = None;
        for (_, event) in &read.events {
            let schema = self.registry.resolve(&event.event_type);
            let place = (schema.table.as_str(), partition_number(schema.partition, event.time));
            // Neighbours mostly share their place.
            if last != Some(place) {
                last = Some(place);
                partitions.insert(place);
            }
        }
        let tables: BTreeSet<&str> = partitions.iter().map(|(table, _)| *table).collect();
        if tables.len() > MAX_TABLES || partitions.len() > MAX_FILES {
            let reason = format!(
                "a message may touch {MAX_TABLES} tables and {MAX_FILES} partitions, this one touches {} and {}",
                tables.len(),
                partitions.len()
            );
            read = taken.refuse_all(&item.body, MessageError { code: "too_large", reason });
            partitions.clear();
        }
        Parsed { taken, read, partitions }
    }

    async fn store_group(&self, messages: Vec<Parsed<'_>>, outcomes: &mut [Option<Outcome>], now: Timestamp) {
        let all: Vec<usize> = messages.iter().map(|m| m.taken.item).collect();
        let group = match self.groups.begin(now).await {
            Ok(group) => group,
            Err(e) => {
                all.iter().for_each(|item| outcomes[*item] = Some(retry(&e.to_string())));
                return;
            }
        };
        let wanted: Vec<Wanted<'_>> = messages
            .iter()
            .map(|m| Wanted { batch: &m.taken.head.header.batch, publish: &m.taken.head.publish })
            .collect();
        let claims = self.groups.claim(&group, &wanted, now).await;
        let mut held = Vec::with_capacity(messages.len());
        let mut stored = Vec::new();
        for (message, claim) in messages.into_iter().zip(claims) {
            match claim {
                Claim::Held => held.push(message),
                Claim::Stored { publish } => stored.push((message.taken, publish)),
                Claim::Later(why) => outcomes[message.taken.item] = Some(retry(&why)),
            }
        }
        let settled = stored.iter().map(|(taken, stored)| async move {
            (taken.item, self.settle_stored(&taken.head.header, &taken.head.publish, stored, now).await)
        });
        for (item, outcome) in join_all(settled).await {
            outcomes[item] = Some(outcome);
        }
        if held.is_empty() {
            return;
        }
        let items: Vec<usize> = held.iter().map(|m| m.taken.item).collect();
        for (item, outcome) in items.iter().zip(self.store_held(&group, held, now).await) {
            outcomes[*item] = Some(outcome);
        }
    }

    /// Encodes, puts and commits what a group holds; one outcome per message.
    async fn store_held(&self, group: &Group, mut held: Vec<Parsed<'_>>, now: Timestamp) -> Vec<Outcome> {
        let mut failed: Vec<Option<String>> = vec![None; held.len()];
        let mut buckets = self.fill_buckets(&mut held);
        let unreadable = held.iter().enumerate().flat_map(|(i, m)| {
            let records = m.taken.unreadable(ORIGIN, &m.read);
            records.into_iter().map(move |record| Refused { message: i, counter: String::new(), record })
        });
        let refused: Vec<Refused> = unreadable.collect();
        let mut sent: BTreeSet<String> = BTreeSet::new();
        // A message that cannot be encoded, or whose leftovers cannot be kept, leaves the group; its neighbours stay.
        loop {
            let before = failed.iter().flatten().count();
            let mut cut = Vec::new();
            for bucket in &mut buckets {
                bucket.leave(&failed);
                if bucket.encoded.is_some() || bucket.events.is_empty() {
                    continue;
                }
                match self.encode(bucket, &held) {
                    Ok(encoded) => bucket.encoded = Some(encoded),
                    // One of its messages may be at fault: each gets a file of its own.
                    Err(_) if bucket.is_of_many() => cut.append(&mut bucket.by_message()),
                    Err(e) => {
                        tracing::error!(lake.table = %bucket.schema.table, error = %e, "events cannot be encoded");
                        bucket.owners.iter().for_each(|(message, _)| failed[*message] = Some(e.to_string()));
                    }
                }
            }
            if !cut.is_empty() || failed.iter().flatten().count() > before {
                buckets.append(&mut cut);
                continue;
            }
            let misfits = buckets.iter().filter_map(|b| b.encoded.as_ref()).flat_map(|e| &e.misfits);
            let open: Vec<&Refused> = refused
                .iter()
                .chain(misfits)
                .filter(|r| failed[r.message].is_none() && !sent.contains(&r.record.id))
                .collect();
            if open.is_empty() {
                break;
            }
            let records: Vec<Quarantined> = open.iter().map(|r| r.record.clone()).collect();
            let results = quarantine::send_all(self.ports.quarantine.as_ref(), &records).await;
            for (refused, result) in open.iter().zip(results) {
                match result {
                    Ok(()) => {
                        sent.insert(refused.record.id.clone());
                    }
                    Err(e) => failed[refused.message] = Some(e.to_string()),
                }
            }
        }
        let result = self.commit(group, &held, &mut buckets, &failed, now).await;
        failed
            .into_iter()
            .map(|failed| match (failed, &result) {
                (Some(why), _) => retry(&why),
                (None, Err(why)) => retry(why),
                (None, Ok(())) => Outcome::Done,
            })
            .collect()
    }

    fn fill_buckets<'r, 'm>(&'r self, held: &mut [Parsed<'m>]) -> Vec<Bucket<'r, 'm>> {
        let mut places: HashMap<(&str, i64), usize> = HashMap::new();
        let mut buckets: Vec<Bucket<'r, 'm>> = Vec::new();
        for (i, message) in held.iter_mut().enumerate() {
            for (position, event) in std::mem::take(&mut message.read.events) {
                let schema = self.registry.resolve(&event.event_type);
                let number = partition_number(schema.partition, event.time);
                let place = *places.entry((&schema.table, number)).or_insert_with(|| {
                    buckets.push(Bucket { schema, events: Vec::new(), owners: Vec::new(), encoded: None });
                    buckets.len() - 1
                });
                buckets[place].events.push(event);
                buckets[place].owners.push((i, position));
            }
        }
        buckets
    }

    fn encode(&self, bucket: &Bucket<'_, '_>, held: &[Parsed<'_>]) -> Result<Encoded, EncodeError> {
        let (file, misfits) = self.encoder.encode(bucket.schema, &bucket.events)?;
        let misfits = misfits.into_iter().filter_map(|misfit| {
            let (event, (message, position)) =
                (bucket.events.get(misfit.position)?, bucket.owners.get(misfit.position)?);
            let mut text = String::new();
            event.write(&mut text);
            let taken = held[*message].taken;
            let mut record = taken.head.refuse(ORIGIN, Some(*position), "schema", &misfit.reason, &text);
            record.pointer = misfit.pointer;
            let counter = ledger::counter(taken.head.received, &event.event_type);
            Some(Refused { message: *message, counter, record })
        });
        Ok(Encoded { file, misfits: misfits.collect() })
    }

    async fn commit(
        &self,
        group: &Group,
        held: &[Parsed<'_>],
        buckets: &mut [Bucket<'_, '_>],
        failed: &[Option<String>],
        now: Timestamp,
    ) -> Result<(), String> {
        let mut contents = Contents::default();
        let mut counted: BTreeMap<&str, Counted> = BTreeMap::new();
        for (message, _) in held.iter().zip(failed).filter(|(_, failed)| failed.is_none()) {
            contents.batches.push(message.taken.head.header.batch.clone());
            for (counter, n) in &message.read.counted {
                counted.entry(counter).or_default().add(n);
            }
        }
        for misfit in buckets.iter().filter_map(|b| b.encoded.as_ref()).flat_map(|e| &e.misfits) {
            if let Some(sum) = counted.get_mut(misfit.counter.as_str()) {
                sum.stored = sum.stored.saturating_sub(1);
                sum.quarantined += 1;
            }
        }
        contents.counters =
            counted.iter().map(|(counter, n)| ledger::sink_write(counter, &n.fields(Sink::Lake))).collect();
        let mut puts = Vec::new();
        for bucket in buckets {
            let Some(Encoded { file: Some(file), misfits }) = bucket.encoded.take() else { continue };
            let counted = bucket.counted(held, &misfits);
            let key = lake::data_key(bucket.schema, file.min_time, &format!("{}-{}", group.id, puts.len()));
            contents.files.entry(bucket.schema.table.clone()).or_default().push(RecordedFile {
                key: key.clone(),
                rows: file.rows,
                size_bytes: file.bytes.len() as u64,
                min_time: file.min_time,
                max_time: file.max_time,
                group: group.id.clone(),
                counted,
            });
            puts.push((key, Bytes::from(file.bytes)));
        }
        let given_up = if contents.batches.is_empty() { Err("nothing is left".to_owned()) } else { Ok(()) };
        let put = match given_up {
            Ok(()) => self.put_all(&puts).await.map_err(|e| e.to_string()),
            given_up => given_up,
        };
        if let Err(why) = put {
            // Others need not wait for the lease. Where this fails too, they do.
            if let Err(e) = self.groups.abort(group, now).await {
                tracing::warn!(group.id = %group.id, error = %e, "a group that was given up stays pending");
            }
            return Err(why);
        }
        let bytes: usize = puts.iter().map(|(_, bytes)| bytes.len()).sum();
        match self.groups.commit(group, &contents, now).await {
            Ok(Ended::Committed) => {
                tracing::info!(
                    stage = "convert",
                    group.id = %group.id,
                    batches = contents.batches.len(),
                    events.stored = counted.values().map(|n| n.stored).sum::<u64>(),
                    events.quarantined = counted.values().map(|n| n.quarantined).sum::<u64>(),
                    files = puts.len(),
                    bytes,
                    "stored"
                );
                Ok(())
            }
            Ok(Ended::Aborted) => Err("the group was aborted".into()),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn put_all(&self, puts: &[(String, Bytes)]) -> Result<(), PortError> {
        for chunk in puts.chunks(PUTS_AT_ONCE) {
            let results = join_all(chunk.iter().map(|(key, bytes)| self.put(key, bytes)));
            results.await.into_iter().collect::<Result<Vec<()>, PortError>>()?;
        }
        Ok(())
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Result<(), PortError> {
        match self.ports.objects.put(key, bytes.clone(), PutMode::IfAbsent).await {
            Err(e) if e.kind == ErrorKind::Timeout => {
                match self.ports.objects.put(key, bytes.clone(), PutMode::IfAbsent).await {
                    // The key holds the group's id, so what is there is the first put of these very bytes.
                    Err(e) if e.kind == ErrorKind::Conflict => Ok(()),
                    result => result,
                }
            }
            result => result,
        }
    }
}

/// What a group under construction already touches.
#[derive(Default)]
struct Room<'m> {
    batches: usize,
    partitions: BTreeMap<&'m str, BTreeSet<i64>>,
    counters: BTreeSet<String>,
}

impl<'m> Room<'m> {
    fn fits(&self, parsed: &Parsed<'m>) -> bool {
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        for (table, number) in &parsed.partitions {
            *new.entry(table).or_default() +=
                usize::from(self.partitions.get(table).is_none_or(|there| !there.contains(number)));
        }
        let tables = new.keys().filter(|table| !self.partitions.contains_key(*table)).count();
        let counters = parsed.read.counted.keys().filter(|counter| !self.counters.contains(*counter)).count();
        self.batches < MAX_BATCHES
            && self.partitions.len() + tables <= MAX_TABLES
            && self.counters.len() + counters <= MAX_COUNTERS
            && new.iter().all(|(table, n)| self.partitions.get(table).map_or(0, BTreeSet::len) + n <= MAX_PARTITIONS)
    }

    fn add(&mut self, parsed: &Parsed<'m>) {
        self.batches += 1;
        for (table, number) in &parsed.partitions {
            match self.partitions.entry(table) {
                MapEntry::Occupied(mut there) => {
                    there.get_mut().insert(*number);
                }
                MapEntry::Vacant(room) => {
                    room.insert(BTreeSet::from([*number]));
                }
            }
        }
        self.counters.extend(parsed.read.counted.keys().cloned());
    }
}

impl<'r, 'm> Bucket<'r, 'm> {
    fn is_of_many(&self) -> bool {
        self.owners.windows(2).any(|pair| pair[0].0 != pair[1].0)
    }

    /// Takes all events out, into a bucket for each message.
    fn by_message(&mut self) -> Vec<Bucket<'r, 'm>> {
        let mut buckets: Vec<Bucket<'r, 'm>> = Vec::new();
        for (event, owner) in std::mem::take(&mut self.events).into_iter().zip(std::mem::take(&mut self.owners)) {
            match buckets.last_mut().filter(|bucket| bucket.owners[0].0 == owner.0) {
                Some(bucket) => {
                    bucket.events.push(event);
                    bucket.owners.push(owner);
                }
                None => buckets.push(Bucket {
                    schema: self.schema,
                    events: vec![event],
                    owners: vec![owner],
                    encoded: None,
                }),
            }
        }
        buckets
    }

    /// Takes the events of failed messages out.
    fn leave(&mut self, failed: &[Option<String>]) {
        if self.owners.iter().all(|(message, _)| failed[*message].is_none()) {
            return;
        }
        let mut owners = self.owners.iter();
        self.events.retain(|_| owners.next().is_some_and(|(message, _)| failed[*message].is_none()));
        self.owners.retain(|(message, _)| failed[*message].is_none());
        self.encoded = None;
    }
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
