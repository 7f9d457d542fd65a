//! `table_at('web_event', '2026-11-21T10:00:00Z')`: a table as it stood at a moment. The engine plans no clause for that.

use super::RecordedTable;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Name of the function.
pub(super) const TABLE_AT: &str = "table_at";

/// The tables that it knows, as they stand.
pub(super) struct TableAt(pub(super) BTreeMap<String, RecordedTable>);

impl fmt::Debug for TableAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableAt")
    }
}

impl TableFunctionImpl for TableAt {
    fn call(&self, arguments: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let refuse = |what: String| Err(DataFusionError::Plan(what));
        let [table, moment] = arguments else {
            return refuse(format!("`{TABLE_AT}` takes the name of a table and a moment"));
        };
        let (Some(name), Some(text)) = (text(table), text(moment)) else {
            return refuse(format!(
                "`{TABLE_AT}` takes two texts, as in `{TABLE_AT}('web_event', '2026-11-21T10:00:00Z')`"
            ));
        };
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let Ok(ScalarValue::TimestampMicrosecond(Some(at_us), _)) = ScalarValue::from(text).cast_to(&moment) else {
            return refuse(format!("`{text}` is no moment as in `2026-11-21T10:00:00Z`"));
        };
        match self.0.get(name) {
            Some(table) => Ok(Arc::new(RecordedTable { at_us: Some(at_us), ..table.clone() })),
            None => refuse(format!("table `{name}` does not exist")),
        }
    }
}

fn text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text), _) => {
            text.as_deref()
        }
        _ => None,
    }
}
