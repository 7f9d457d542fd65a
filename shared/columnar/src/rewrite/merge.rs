//! Sorted runs become sorted files.

use super::source::{Batch, Source};
use super::{RewriteLimits, Run};
use crate::file::File;
use crate::plan::Plan;
use crate::schema::arrow_schema;
use arrow::array::{ArrayRef, make_array, new_null_array};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use parquet::errors::Result;
use sluice_domain::lake::EncodedFile;
use sluice_domain::scan::place;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Values of all runs that are held while they are merged, about.
const HELD_BYTES: usize = 96 << 20;
/// Rows that are gathered before they go to the file's columns.
const GATHERED_ROWS: usize = 4_096;

/// Runs being merged.
pub(super) struct Merge {
    converter: RowConverter,
    /// The columns that rows are sorted by.
    keys: Vec<(usize, DataType)>,
    cursors: Vec<Cursor>,
    /// The next row of each run. What is equal comes in the order of the runs.
    next: BinaryHeap<Reverse<(OwnedRow, usize)>>,
}

/// A run being read.
struct Cursor {
    source: Source,
    batch: Batch,
    rows: Rows,
    at: usize,
    /// Rows that were taken and are not gathered yet.
    taken: Vec<usize>,
}

impl Merge {
    pub(super) fn new(plan: &Plan, runs: Vec<Run>) -> Result<Self> {
        let columns = arrow_schema(&plan.schema);
        let mut keys: Vec<(usize, DataType)> = Vec::new();
        for column in plan.sort.into_iter().chain([place::TIME, place::SOURCE, place::ID]) {
            let data_type = columns.field(column).data_type();
            // Lists have no order.
            if !matches!(data_type, DataType::List(_)) && keys.iter().all(|(known, _)| *known != column) {
                keys.push((column, data_type.clone()));
            }
        }
        // Ascending, absent values first.
        let converter = RowConverter::new(keys.iter().map(|(_, kind)| SortField::new(kind.clone())).collect())?;
        let mut merge = Self { converter, keys, cursors: Vec::new(), next: BinaryHeap::new() };
        let held = HELD_BYTES / runs.len().max(1);
        for run in runs {
            let batch_rows = (held / (run.bytes / run.rows.max(1)).max(1)).clamp(1, GATHERED_ROWS);
            let mut source = Source::open(run.file, plan, None, batch_rows)?;
            let Some(batch) = source.next_batch()? else { continue };
            let rows = merge.sort_keys(&batch)?;
            merge.next.push(Reverse((rows.row(0).owned(), merge.cursors.len())));
            merge.cursors.push(Cursor { source, batch, rows, at: 0, taken: Vec::new() });
        }
        Ok(merge)
    }

    fn sort_keys(&self, batch: &Batch) -> Result<Rows> {
        let arrays = self.keys.iter().map(|(column, data_type)| match batch.array(*column) {
            Some(array) => make_array(array.to_data()),
            None => new_null_array(data_type, batch.rows),
        });
        Ok(self.converter.convert_columns(&arrays.collect::<Vec<ArrayRef>>())?)
    }

    /// The next file; `None` when there is no row left.
    pub(super) fn next_file(&mut self, plan: &Plan, limits: &RewriteLimits) -> Result<Option<EncodedFile>> {
        let mut file = File::new(plan)?;
        let mut is_empty = true;
        while file.size_bytes() < limits.file_bytes {
            let mut lanes = plan.lanes();
            let (mut rows, mut bytes) = (0, 0);
            while rows < limits.group_rows && bytes < limits.run_bytes / 2 {
                let (count, size) = self.gather(&mut lanes, rows, limits.group_rows - rows)?;
                if count == 0 {
                    break;
                }
                (rows, bytes) = (rows + count, bytes + size);
            }
            if rows == 0 {
                break;
            }
            // In the order in which they came.
            let order: Vec<u32> = (0..u32::try_from(rows).unwrap_or(u32::MAX)).collect();
            file.add_group(plan, &lanes, &order)?;
            is_empty = false;
        }
        if is_empty { Ok(None) } else { file.finish().map(Some) }
    }

    /// Appends the next rows to lanes that have `first`, at most `most`; answers how many, and what they take, about.
    fn gather(&mut self, lanes: &mut [crate::lane::Lane], first: usize, most: usize) -> Result<(usize, usize)> {
        let (mut rows, mut bytes) = (0, 0);
        let mut last: Option<usize> = None;
        while rows < most.min(GATHERED_ROWS) {
            let Some(Reverse((_, run))) = self.next.pop() else { break };
            // Rows go to the lanes in order, so those of one run go before another one's are taken.
            if let Some(before) = last.filter(|before| *before != run) {
                self.cursors[before].flush(lanes, first + rows)?;
            }
            last = Some(run);
            let cursor = &mut self.cursors[run];
            cursor.taken.push(cursor.at);
            rows += 1;
            bytes += cursor.batch.bytes / cursor.batch.rows.max(1);
            cursor.at += 1;
            if cursor.at == cursor.batch.rows {
                cursor.flush(lanes, first + rows)?;
                let Some(batch) = self.cursors[run].source.next_batch()? else { continue };
                let rows = self.sort_keys(&batch)?;
                let cursor = &mut self.cursors[run];
                (cursor.batch, cursor.rows, cursor.at) = (batch, rows, 0);
            }
            let cursor = &self.cursors[run];
            self.next.push(Reverse((cursor.rows.row(cursor.at).owned(), run)));
        }
        if let Some(last) = last {
            self.cursors[last].flush(lanes, first + rows)?;
        }
        Ok((rows, bytes))
    }
}

impl Cursor {
    /// Appends the rows that were taken to lanes, as the last ones before `end`.
    fn flush(&mut self, lanes: &mut [crate::lane::Lane], end: usize) -> Result<()> {
        self.batch.append(&self.taken, lanes, end - self.taken.len())?;
        self.taken.clear();
        Ok(())
    }
}
