//! Where tables come from.

use crate::plan::Plan;
use crate::table::Table;
use sluice_domain::lake::{EncodeError, Encoder, TableBuilder};
use sluice_domain::schema::Schema;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes Parquet: zstd level 1, with field ids, statistics, page index, the sort order, and bloom filters for `x-bloom` columns.
///
/// Rows are sorted ascending by (`x-sort`, `time`, `source`, `id`), absent values first, text by its bytes; rows that are equal in all
/// four keep the order in which they came. Fields that the schema does not name and the envelope's unknown attributes stand
/// together in the column `extra` as one JSON object. In the generic table `data` holds the payload's JSON text, `{"value": …}` around
/// one that is not an object. The Arrow schema is not embedded: readers see what the Parquet schema says, which is
/// [`arrow_schema`](crate::arrow_schema). A column that the codec would not make smaller is not compressed.
#[derive(Debug, Default)]
pub struct ParquetEncoder {
    /// By event type: what is known of a table is much the same work for each of its partitions.
    plans: Mutex<HashMap<String, Arc<Plan>>>,
}

impl ParquetEncoder {
    /// A new encoder.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn plan(&self, schema: &Schema) -> Result<Arc<Plan>, EncodeError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&schema.event_type).filter(|plan| plan.schema == *schema) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(Plan::new(schema).map_err(|e| EncodeError(e.to_string()))?);
        plans.insert(schema.event_type.clone(), Arc::clone(&plan));
        Ok(plan)
    }
}

impl Encoder for ParquetEncoder {
    fn table(&self, schema: &Schema) -> Result<Box<dyn TableBuilder>, EncodeError> {
        Ok(Box::new(Table::new(self.plan(schema)?)))
    }
}
