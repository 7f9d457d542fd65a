//! The reports that are bundled with the binary.

use sluice_domain::report::{Report, ReportError};
use std::sync::Arc;

/// Bundled report files as (name, text), sorted by name.
const BUNDLED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/reports.rs"));

/// The reports, sorted by name.
pub fn bundled() -> Result<Arc<Vec<Report>>, ReportError> {
    BUNDLED.iter().map(|(file, text)| Report::parse(file, text)).collect::<Result<Vec<_>, _>>().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_reports_can_be_used_and_have_their_defaults() {
        let reports = bundled().unwrap();
        let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
        assert_eq!(names, ["ingest", "plays-per-day", "price-ranges", "requests"]);
        for report in reports.iter() {
            assert!(report.description.ends_with('.'), "{}", report.name);
            assert!(report.bind(&[], Default::default()).is_ok(), "{} needs no parameter", report.name);
            assert!(report.parameters.iter().all(|p| p.description.ends_with('.')), "{}", report.name);
        }
    }
}
