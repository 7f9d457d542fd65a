//! Rows of a table as one Parquet file.

use crate::chunk;
use crate::lane::{Lane, Values};
use crate::plan::Plan;
use crate::sort::sorted;
use parquet::errors::Result;
use parquet::file::writer::SerializedFileWriter;
use sluice_domain::lake::EncodedFile;
use sluice_domain::scan::place;
use sluice_domain::time::Timestamp;

/// Most rows of a row group: enough for the codec to work with, few enough for a reader to skip by.
pub(crate) const ROW_GROUP_ROWS: usize = 256 * 1024;

/// Writes some rows of a table, sorted.
pub(crate) fn encode(plan: &Plan, lanes: &[Lane], rows: &[u32], group_rows: usize) -> Result<EncodedFile> {
    let order = sorted(lanes, plan.sort, rows);
    let mut file = File::new(plan)?;
    for part in order.chunks(group_rows) {
        file.add_group(plan, lanes, part)?;
    }
    file.finish()
}

/// A file being written, row group by row group.
pub(crate) struct File {
    writer: SerializedFileWriter<Vec<u8>>,
    rows: usize,
    /// Least and greatest time so far.
    times: Option<(i64, i64)>,
}

impl File {
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let writer = SerializedFileWriter::new(Vec::new(), plan.parquet.root_schema_ptr(), plan.properties.clone())?;
        Ok(Self { writer, rows: 0, times: None })
    }

    /// Writes rows in this order.
    pub(crate) fn add_group(&mut self, plan: &Plan, lanes: &[Lane], rows: &[u32]) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for ((lane, spec), column) in lanes.iter().zip(&plan.columns).zip(plan.parquet.columns()) {
            let (bytes, close) = chunk::encode(lane, rows, *spec, column)?;
            group.append_column(&bytes, close)?;
        }
        group.close()?;
        if let Values::Whole(times) = &lanes[place::TIME].values {
            for time in rows.iter().filter_map(|row| times.get(*row as usize)) {
                let (least, greatest) = self.times.unwrap_or((*time, *time));
                self.times = Some((least.min(*time), greatest.max(*time)));
            }
        }
        self.rows += rows.len();
        Ok(())
    }

    /// Bytes that are written.
    pub(crate) fn size_bytes(&self) -> usize {
        self.writer.bytes_written()
    }

    pub(crate) fn finish(self) -> Result<EncodedFile> {
        let time = |micros: Option<i64>| micros.and_then(Timestamp::from_micros).unwrap_or_default();
        Ok(EncodedFile {
            bytes: self.writer.into_inner()?,
            rows: self.rows as u64,
            min_time: time(self.times.map(|times| times.0)),
            max_time: time(self.times.map(|times| times.1)),
        })
    }
}
