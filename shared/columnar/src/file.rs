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
const ROW_GROUP_ROWS: usize = 256 * 1024;

/// Writes some rows of a table, sorted.
pub(crate) fn encode(plan: &Plan, lanes: &[Lane], rows: &[u32]) -> Result<EncodedFile> {
    let order = sorted(lanes, plan.sort, rows);
    let mut file = SerializedFileWriter::new(Vec::new(), plan.parquet.root_schema_ptr(), plan.properties.clone())?;
    for part in order.chunks(ROW_GROUP_ROWS) {
        let mut group = file.next_row_group()?;
        for ((lane, spec), column) in lanes.iter().zip(&plan.columns).zip(plan.parquet.columns()) {
            let (bytes, close) = chunk::encode(lane, part, *spec, column)?;
            group.append_column(&bytes, close)?;
        }
        group.close()?;
    }
    let times = || {
        let times: &[i64] = match &lanes[place::TIME].values {
            Values::Whole(times) => times,
            _ => &[],
        };
        rows.iter().filter_map(|row| times.get(*row as usize).copied())
    };
    let time = |micros: Option<i64>| micros.and_then(Timestamp::from_micros).unwrap_or_default();
    Ok(EncodedFile {
        bytes: file.into_inner()?,
        rows: rows.len() as u64,
        min_time: time(times().min()),
        max_time: time(times().max()),
    })
}
