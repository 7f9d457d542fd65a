//! `convert`: queued messages to data files of the lake, exactly once (see [`crate::groups`]).
//!
//! Messages are unpacked one by one until their texts fill a slice, and their events become rows of tables ([`crate::partitions`]); a slice
//! becomes one group, or more where it touches more partitions, tables or counters than a group takes. One file holds the events of all
//! batches of a group that fall into one partition of one table.

use crate::commit;
use crate::groups::{Claim, Contents, Ended, Group, Groups, RecordedFile, Wanted};
use crate::groups::{MAX_BATCHES, MAX_COUNTERS, MAX_TABLES};
use crate::intake::{self, Counted, Slices, Taken, retry};
use crate::item::{Item, Outcome};
use crate::ledger::{self, Sink};
use crate::partitions::{Parsed, Partitions, Place};
use crate::quarantine::{self, Quarantined};
use bytes::Bytes;
use futures::future::join_all;
use sluice_domain::lake::{self, EncodedFile, Encoder, MAX_PARTITIONS};
use sluice_domain::message::Header;
use sluice_domain::schema::Registry;
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
    /// The queue of `commit`; none where nobody commits files to tables.
    pub commit: Option<Arc<dyn Queue>>,
}

/// How the stage works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertSettings {
    /// How long others leave the batches of a group alone. It only saves double work; longer than a group usually takes, and short enough
    /// that a message whose consumer has died is not given back so often that it ends in the dead-letter queue.
    pub lease_ms: u32,
    /// Unpacked text after which a slice is full. Rows take about as much memory again.
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

/// The rows of a group in one partition.
struct Bucket {
    /// Which partition of the slice.
    partition: usize,
    rows: Vec<u32>,
    file: Option<EncodedFile>,
    /// How many of its rows belong to each counter row of the ledger.
    counted: BTreeMap<String, u64>,
}

/// An event or message on its way to quarantine.
struct Refused {
    message: usize,
    record: Quarantined,
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
        let mut partitions = Partitions::new(&self.registry, self.encoder.as_ref());
        let mut messages: Vec<Parsed<'_, '_>> = Vec::with_capacity(slice.len());
        for (number, taken) in (0u32..).zip(slice) {
            match partitions.add(taken, &items[taken.item].body, number) {
                Ok(parsed) => messages.push(parsed),
                Err(e) => {
                    tracing::error!(error = %e, "events cannot be encoded");
                    outcomes[taken.item] = Some(retry(&e.to_string()));
                }
            }
        }
        let mut group: Vec<Parsed<'_, '_>> = Vec::new();
        let mut room = Room::default();
        for parsed in messages {
            if !group.is_empty() && !room.fits(&parsed) {
                self.store_group(&partitions, std::mem::take(&mut group), outcomes, now).await;
                room = Room::default();
            }
            room.add(&parsed);
            group.push(parsed);
        }
        if !group.is_empty() {
            self.store_group(&partitions, group, outcomes, now).await;
        }
    }

    async fn store_group(
        &self,
        partitions: &Partitions<'_>,
        messages: Vec<Parsed<'_, '_>>,
        outcomes: &mut [Option<Outcome>],
        now: Timestamp,
    ) {
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
        for (item, outcome) in items.iter().zip(self.store_held(partitions, &group, &held, now).await) {
            outcomes[*item] = Some(outcome);
        }
    }

    /// Encodes, puts and commits what a group holds; one outcome per message.
    async fn store_held(
        &self,
        partitions: &Partitions<'_>,
        group: &Group,
        held: &[Parsed<'_, '_>],
        now: Timestamp,
    ) -> Vec<Outcome> {
        let mut failed: Vec<Option<String>> = vec![None; held.len()];
        let owners = Owners::new(partitions, held);
        let mut buckets = owners.buckets();
        let refused = refused(held);
        let mut sent: BTreeSet<String> = BTreeSet::new();
        // A message that cannot be encoded, or whose leftovers cannot be kept, leaves the group; its neighbours stay.
        loop {
            let before = failed.iter().flatten().count();
            let mut cut = Vec::new();
            for bucket in &mut buckets {
                owners.leave(bucket, &failed);
                if bucket.file.is_some() || bucket.rows.is_empty() {
                    continue;
                }
                match partitions.encode(bucket.partition, &bucket.rows) {
                    Ok(file) => bucket.file = Some(file),
                    // One of its messages may be at fault: each gets a file of its own.
                    Err(_) if owners.is_of_many(bucket) => cut.append(&mut owners.by_message(bucket)),
                    Err(e) => {
                        let table = &partitions.at(bucket.partition).schema.table;
                        tracing::error!(lake.table = %table, error = %e, "events cannot be encoded");
                        for row in &bucket.rows {
                            failed[owners.of(bucket, *row)] = Some(e.to_string());
                        }
                    }
                }
            }
            if !cut.is_empty() || failed.iter().flatten().count() > before {
                buckets.append(&mut cut);
                continue;
            }
            let open: Vec<&Refused> =
                refused.iter().filter(|r| failed[r.message].is_none() && !sent.contains(&r.record.id)).collect();
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
        for bucket in &mut buckets {
            bucket.counted = owners.counted(bucket, held);
        }
        let result = self.commit(partitions, group, held, buckets, &failed, now).await;
        failed
            .into_iter()
            .map(|failed| match (failed, &result) {
                (Some(why), _) => retry(&why),
                (None, Err(why)) => retry(why),
                (None, Ok(())) => Outcome::Done,
            })
            .collect()
    }

    async fn commit(
        &self,
        partitions: &Partitions<'_>,
        group: &Group,
        held: &[Parsed<'_, '_>],
        buckets: Vec<Bucket>,
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
        contents.counters =
            counted.iter().map(|(counter, n)| ledger::sink_write(counter, &n.fields(Sink::Lake))).collect();
        let mut puts = Vec::new();
        for bucket in buckets {
            let Some(file) = bucket.file else { continue };
            let schema = partitions.at(bucket.partition).schema;
            let key = lake::data_key(schema, file.min_time, &format!("{}-{}", group.id, puts.len()));
            contents.files.entry(schema.table.clone()).or_default().push(RecordedFile {
                key: key.clone(),
                rows: file.rows,
                size_bytes: file.bytes.len() as u64,
                min_time: file.min_time,
                max_time: file.max_time,
                group: group.id.clone(),
                counted: bucket.counted,
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
                if let Some(queue) = &self.ports.commit {
                    commit::announce(queue.as_ref(), contents.files.keys()).await;
                }
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
struct Room<'r> {
    batches: usize,
    partitions: BTreeMap<&'r str, BTreeSet<i64>>,
    counters: BTreeSet<String>,
}

impl<'r> Room<'r> {
    fn fits(&self, parsed: &Parsed<'_, 'r>) -> bool {
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        for (table, number) in &parsed.places {
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

    fn add(&mut self, parsed: &Parsed<'_, 'r>) {
        self.batches += 1;
        for (table, number) in &parsed.places {
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

/// Whose the rows of a group are.
struct Owners<'p, 'r> {
    partitions: &'p Partitions<'r>,
    /// For each message of the slice its place in the group.
    held: HashMap<u32, usize>,
    places: BTreeSet<Place<'r>>,
}

impl<'p, 'r> Owners<'p, 'r> {
    fn new(partitions: &'p Partitions<'r>, held: &[Parsed<'_, 'r>]) -> Self {
        let places = held.iter().flat_map(|message| &message.places).copied().collect();
        let held = held.iter().enumerate().map(|(i, message)| (message.number, i)).collect();
        Self { partitions, held, places }
    }

    /// The group's rows by partition.
    fn buckets(&self) -> Vec<Bucket> {
        let bucket = |place| {
            let (partition, rows) = self.partitions.rows(place)?;
            let rows = (0u32..).zip(&rows.owners).filter(|(_, owner)| self.held.contains_key(owner));
            Some(Bucket::new(partition, rows.map(|(row, _)| row).collect()))
        };
        self.places.iter().filter_map(bucket).collect()
    }

    /// The message of the group that a row is of.
    fn of(&self, bucket: &Bucket, row: u32) -> usize {
        let owner = self.partitions.at(bucket.partition).owners[row as usize];
        self.held.get(&owner).copied().unwrap_or_default()
    }

    /// How many of a bucket's rows belong to each counter row of the ledger.
    fn counted(&self, bucket: &Bucket, held: &[Parsed<'_, '_>]) -> BTreeMap<String, u64> {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let place = |row: u32| (self.of(bucket, row), self.partitions.name(bucket.partition, row));
        // Neighbours mostly share their row.
        for run in bucket.rows.chunk_by(|a, b| place(*a) == place(*b)) {
            let (message, name) = place(run[0]);
            *counted.entry(ledger::counter(held[message].taken.head.received, name)).or_default() += run.len() as u64;
        }
        counted
    }

    fn is_of_many(&self, bucket: &Bucket) -> bool {
        bucket.rows.windows(2).any(|pair| self.of(bucket, pair[0]) != self.of(bucket, pair[1]))
    }

    /// Takes all rows out, into a bucket for each message.
    fn by_message(&self, bucket: &mut Bucket) -> Vec<Bucket> {
        let rows = std::mem::take(&mut bucket.rows);
        let of_one = rows.chunk_by(|a, b| self.of(bucket, *a) == self.of(bucket, *b));
        of_one.map(|rows| Bucket::new(bucket.partition, rows.to_vec())).collect()
    }

    /// Takes the rows of failed messages out.
    fn leave(&self, bucket: &mut Bucket, failed: &[Option<String>]) {
        let before = bucket.rows.len();
        let mut rows = std::mem::take(&mut bucket.rows);
        rows.retain(|row| failed[self.of(bucket, *row)].is_none());
        bucket.rows = rows;
        if bucket.rows.len() < before {
            bucket.file = None;
        }
    }
}

impl Bucket {
    fn new(partition: usize, rows: Vec<u32>) -> Self {
        Self { partition, rows, file: None, counted: BTreeMap::new() }
    }
}

/// What of a group's messages goes to quarantine.
fn refused(held: &[Parsed<'_, '_>]) -> Vec<Refused> {
    let unreadable = held.iter().enumerate().flat_map(|(i, message)| {
        let records = message.taken.unreadable(ORIGIN, &message.read);
        records.into_iter().map(move |record| Refused { message: i, record })
    });
    let misfits = held.iter().enumerate().flat_map(|(i, message)| {
        message.misfits.iter().map(move |unfit| {
            let head = &message.taken.head;
            let mut record = head.refuse(ORIGIN, Some(unfit.position), "schema", &unfit.misfit.reason, &unfit.text);
            record.pointer.clone_from(&unfit.misfit.pointer);
            Refused { message: i, record }
        })
    });
    unreadable.chain(misfits).collect()
}
