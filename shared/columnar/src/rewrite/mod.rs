//! Data files of one partition rewritten: sorted as a whole, without repeated rows, in bounded memory.
//!
//! Identities are looked at first, so many at once as fit. Rows are then gathered in lanes; what is more than a run is sorted, and waits in a
//! file of its own, to be merged with the others. A partition that fits one run, as nearly all do, is never written but once.

mod identities;
mod merge;
mod source;

use crate::encode::ParquetEncoder;
use crate::file::{self, ROW_GROUP_ROWS};
use crate::lane::Lane;
use crate::plan::Plan;
use bytes::Bytes;
use identities::Identities;
use merge::Merge;
use parquet::errors::{ParquetError, Result};
use sluice_domain::lake::{EncodeError, EncodedFile, Erased, Rewrite, Rewriter, Shown};
use sluice_domain::scan::place;
use sluice_domain::schema::Schema;
use source::{Batch, Source};
use std::io::{Seek as _, Write as _};
use std::sync::Arc;

/// Rows that are read from a file at once.
const BATCH_ROWS: usize = 8_192;
/// Rows of a row group of a run: its pages are what a merge holds of it.
const RUN_GROUP_ROWS: usize = 4_096;

/// How much a [`ParquetRewriter`] holds at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteLimits {
    /// Values of a run, before they are encoded.
    pub run_bytes: usize,
    /// Identities of one pass, of 32 bytes each.
    pub identities: u64,
    /// Size at which a file is full. It holds at most a row group more.
    pub file_bytes: usize,
    /// Rows of a row group.
    pub group_rows: usize,
}

impl Default for RewriteLimits {
    fn default() -> Self {
        Self { run_bytes: 160 << 20, identities: 3_000_000, file_bytes: 128 << 20, group_rows: ROW_GROUP_ROWS }
    }
}

/// Rewrites the files that [`ParquetEncoder`] makes, and what other engines made of them. A run that waits is in a file without a name, in
/// the folder for temporary files.
#[derive(Debug, Default)]
pub struct ParquetRewriter {
    encoder: ParquetEncoder,
    limits: RewriteLimits,
}

impl ParquetRewriter {
    /// A rewriter that holds so much at once.
    pub fn new(limits: RewriteLimits) -> Self {
        Self { encoder: ParquetEncoder::new(), limits }
    }
}

impl Rewriter for ParquetRewriter {
    fn begin(&self, schema: &Schema, rows: u64, erased: &Erased) -> std::result::Result<Box<dyn Rewrite>, EncodeError> {
        let plan = self.encoder.plan(schema)?;
        let passes = u32::try_from(rows.div_ceil(self.limits.identities)).unwrap_or(u32::MAX).max(1);
        Ok(Box::new(Rewriting {
            lanes: plan.lanes(),
            rows: 0,
            bytes: 0,
            identities: Identities::new(passes),
            erased: erased.clone(),
            runs: Vec::new(),
            merge: None,
            limits: self.limits,
            plan,
        }))
    }

    fn erased_rows(&self, schema: &Schema, bytes: Bytes, erased: &Erased) -> std::result::Result<u64, EncodeError> {
        let plan = self.encoder.plan(schema)?;
        let count = || {
            let wanted = [place::USER_ID, place::RECEIVED];
            let mut source = Source::open(bytes, &plan, Some(&wanted), BATCH_ROWS)?;
            let mut count = 0;
            while let Some(batch) = source.next_batch()? {
                count += (0..batch.rows).filter(|at| is_erased(erased, &batch, *at)).count() as u64;
            }
            Ok(count)
        };
        count().map_err(refused)
    }
}

struct Rewriting {
    plan: Arc<Plan>,
    limits: RewriteLimits,
    identities: Identities,
    erased: Erased,
    /// The run being filled.
    lanes: Vec<Lane>,
    rows: usize,
    bytes: usize,
    runs: Vec<Run>,
    /// Once the first file was asked for.
    merge: Option<Merge>,
}

/// Sorted rows that wait.
struct Run {
    file: std::fs::File,
    rows: usize,
    bytes: usize,
}

impl Rewriting {
    fn show(&mut self, file: u32, bytes: Bytes) -> Result<Shown> {
        let wanted = [place::ID, place::SOURCE, place::TIME, place::RECEIVED, place::USER_ID];
        let wanted = if self.erased.is_empty() { &wanted[..4] } else { &wanted };
        let mut source = Source::open(bytes, &self.plan, Some(wanted), BATCH_ROWS)?;
        let mut shown = Shown { rows: 0, erased: 0 };
        while let Some(batch) = source.next_batch()? {
            for at in 0..batch.rows {
                // A row that goes is no reason for another one to go.
                if is_erased(&self.erased, &batch, at) {
                    shown.erased += 1;
                } else {
                    self.identities.add(file, shown.rows + at as u64, &batch, at)?;
                }
            }
            shown.rows += batch.rows as u64;
        }
        Ok(shown)
    }

    fn take(&mut self, file: u32, bytes: Bytes) -> Result<u64> {
        let mut source = Source::open(bytes, &self.plan, None, BATCH_ROWS)?;
        let (mut seen, mut taken) = (0, 0);
        let mut kept: Vec<usize> = Vec::new();
        while let Some(batch) = source.next_batch()? {
            kept.clear();
            let stays = |at: &usize| {
                !self.identities.is_repeated(file, seen + *at as u64) && !is_erased(&self.erased, &batch, *at)
            };
            kept.extend((0..batch.rows).filter(stays));
            seen += batch.rows as u64;
            taken += kept.len() as u64;
            batch.append(&kept, &mut self.lanes, self.rows)?;
            self.rows += kept.len();
            self.bytes += batch.bytes * kept.len() / batch.rows.max(1);
            if self.bytes >= self.limits.run_bytes {
                self.end_run()?;
            }
        }
        Ok(taken)
    }

    fn end_run(&mut self) -> Result<()> {
        let (rows, bytes) = (self.rows, self.bytes);
        let encoded = self.encode(RUN_GROUP_ROWS)?;
        let mut file = tempfile::tempfile()?;
        file.write_all(&encoded.bytes)?;
        file.rewind()?;
        self.runs.push(Run { file, rows, bytes });
        Ok(())
    }

    /// Makes the run that is being filled a file.
    fn encode(&mut self, group_rows: usize) -> Result<EncodedFile> {
        let rows = u32::try_from(self.rows).map_err(|_| ParquetError::General("a run has too many rows".into()))?;
        let order: Vec<u32> = (0..rows).collect();
        let lanes = std::mem::replace(&mut self.lanes, self.plan.lanes());
        (self.rows, self.bytes) = (0, 0);
        file::encode(&self.plan, &lanes, &order, group_rows)
    }

    fn next_file(&mut self) -> Result<Option<EncodedFile>> {
        if let Some(merge) = &mut self.merge {
            return merge.next_file(&self.plan, &self.limits);
        }
        if self.runs.is_empty() {
            return if self.rows == 0 { Ok(None) } else { self.encode(self.limits.group_rows).map(Some) };
        }
        if self.rows > 0 {
            self.end_run()?;
        }
        self.lanes = Vec::new();
        let merge = Merge::new(&self.plan, std::mem::take(&mut self.runs))?;
        self.merge.insert(merge).next_file(&self.plan, &self.limits)
    }
}

impl Rewrite for Rewriting {
    fn passes(&self) -> u32 {
        self.identities.passes()
    }

    fn show(&mut self, file: u32, bytes: Bytes) -> std::result::Result<Shown, EncodeError> {
        self.show(file, bytes).map_err(refused)
    }

    fn end_pass(&mut self) {
        self.identities.end_pass();
    }

    fn repeated(&self, file: u32) -> u64 {
        self.identities.repeated(file)
    }

    fn take(&mut self, file: u32, bytes: Bytes) -> std::result::Result<u64, EncodeError> {
        self.take(file, bytes).map_err(refused)
    }

    fn next_file(&mut self) -> std::result::Result<Option<EncodedFile>, EncodeError> {
        self.next_file().map_err(refused)
    }
}

/// Whether a row is of a user who is to be forgotten. One that does not say when it was received is older than its table.
fn is_erased(erased: &Erased, batch: &Batch, at: usize) -> bool {
    let until = || batch.text(place::USER_ID, at).and_then(|user| erased.get(user));
    !erased.is_empty()
        && until().is_some_and(|until| batch.micros(place::RECEIVED, at).is_none_or(|at| at <= until.micros()))
}

fn refused(error: ParquetError) -> EncodeError {
    EncodeError(error.to_string())
}
