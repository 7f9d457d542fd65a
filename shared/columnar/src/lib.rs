//! Events to Arrow to Parquet bytes.
//!
//! Pure: knows nothing of files, objects, tables, queues or the time of day. What a column is called, how it is stored and which id it
//! has comes from the event's schema alone.

mod bounds;
mod chunk;
mod dense;
mod encode;
mod file;
mod lane;
mod plan;
mod reference;
mod rewrite;
mod rle;
mod row_count;
mod schema;
mod sort;
mod table;
mod words;

pub use encode::ParquetEncoder;
pub use rewrite::{ParquetRewriter, RewriteLimits};
pub use schema::arrow_schema;
