//! The reports that are bundled with the binary, and those of one's own.

use sluice_domain::report::{ReportError, Reports};
use std::sync::Arc;

/// Bundled report files as (name, text), sorted by name.
const BUNDLED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/reports.rs"));

/// The bundled reports and `own` ones: file names, each with its text or why that cannot be read.
pub fn load(own: &[(String, Result<String, String>)]) -> Result<Arc<Reports>, ReportError> {
    Reports::load(BUNDLED, own).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_reports_can_be_used_and_have_their_defaults() {
        let reports = load(&[]).unwrap();
        let names: Vec<&str> = reports.usable.iter().map(|report| report.name.as_str()).collect();
        assert_eq!(names, ["ingest", "plays-per-day", "price-ranges", "requests"]);
        for report in &reports.usable {
            assert!(report.description.ends_with('.'), "{}", report.name);
            assert!(report.bind(&[], Default::default()).is_ok(), "{} needs no parameter", report.name);
            assert!(report.parameters.iter().all(|p| p.description.ends_with('.')), "{}", report.name);
        }
    }
}
