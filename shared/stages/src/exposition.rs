//! Metrics as text: the Prometheus format 0.0.4 and OpenMetrics 1.0, which differ little.
//!
//! Source: Prometheus, "Exposition formats"; the OpenMetrics specification, 1.0.0.

use std::fmt::Write as _;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// The one that a request's `Accept` names, or the older.
    pub fn accepted(accept: Option<&str>) -> Self {
        let names_it =
            |accept: &str| accept.split(',').any(|one| one.trim().starts_with("application/openmetrics-text"));
        if accept.is_some_and(names_it) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows. Its name ends with `_total`.
    Counter,
    /// A number that goes up and down.
    Gauge,
}

/// A page of metrics that is being written.
#[derive(Debug, Clone)]
pub struct Page {
    format: Format,
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// A metric with its samples, each with its labels by name. Without samples it is left out.
    pub fn metric<'l, const N: usize>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        labels: [&str; N],
        samples: impl IntoIterator<Item = ([&'l str; N], f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // In OpenMetrics a counter's samples have the ending, and its family has not.
        let family = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.trim_end_matches("_total"),
            _ => name,
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.text, "# HELP {family} {}\n# TYPE {family} {kind}", help.replace('\\', "\\\\"));
        for (values, sample) in samples {
            self.text.push_str(name);
            for (at, (label, value)) in labels.iter().zip(values).enumerate() {
                let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
                self.escaped(value);
                self.text.push('"');
            }
            let _ = writeln!(self.text, "{} {sample}", if N == 0 { "" } else { "}" });
        }
    }

    /// A histogram with its series, each with its label: how many lie up to each bound and above the one before, how many above all, and
    /// their sum.
    pub fn histogram<'l, const N: usize, const M: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        bounds: [f64; N],
        series: impl IntoIterator<Item = (&'l str, [f64; M], f64)>,
    ) {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return;
        }
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (value, counts, sum) in series {
            let mut so_far = 0.0;
            for (at, count) in counts.into_iter().enumerate() {
                so_far += count;
                let bound = bounds.get(at).map_or("+Inf".to_owned(), f64::to_string);
                let _ = write!(self.text, "{name}_bucket{{{label}=\"");
                self.escaped(value);
                let _ = writeln!(self.text, "\",le=\"{bound}\"}} {so_far}");
            }
            for (ending, sample) in [("sum", sum), ("count", so_far)] {
                let _ = write!(self.text, "{name}_{ending}{{{label}=\"");
                self.escaped(value);
                let _ = writeln!(self.text, "\"}} {sample}");
            }
        }
    }

    fn escaped(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
    }

    /// The text of the page.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        let samples = [(["GET", "/v1/rules/{id}"], 3.0), (["POST", "a\"b\\c\nd"], 1_795_255_200_123.0)];
        page.metric("http_requests_total", Kind::Counter, "Requests that were answered.", ["method", "route"], samples);
        page.metric("sluice_queue_oldest_seconds", Kind::Gauge, "Age.", ["queue"], [(["ConvertQueue"], 0.25)]);
        page.metric("sluice_up", Kind::Gauge, "A back\\slash.", [], [([], 1.0)]);
        page.metric("sluice_none_total", Kind::Counter, "Nothing.", ["queue"], []);
        page.finish()
    }

    #[test]
    fn a_page_for_prometheus() {
        assert_eq!(
            page(Format::Prometheus),
            r#"# HELP http_requests_total Requests that were answered.
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/v1/rules/{id}"} 3
http_requests_total{method="POST",route="a\"b\\c\nd"} 1795255200123
# HELP sluice_queue_oldest_seconds Age.
# TYPE sluice_queue_oldest_seconds gauge
sluice_queue_oldest_seconds{queue="ConvertQueue"} 0.25
# HELP sluice_up A back\\slash.
# TYPE sluice_up gauge
sluice_up 1
"#
        );
    }

    #[test]
    fn a_page_for_openmetrics_names_the_family_of_a_counter_and_ends() {
        let page = page(Format::OpenMetrics);
        assert!(page.contains("# TYPE http_requests counter\nhttp_requests_total{method"), "{page}");
        assert!(page.contains("# TYPE sluice_up gauge\nsluice_up 1\n") && page.ends_with("# EOF\n"), "{page}");
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut page = Page::new(Format::OpenMetrics);
        page.histogram("took_seconds", "Time.", "route", [0.005, 1.0], [("/a\"b", [2.0, 1.0, 4.0], 12.5)]);
        page.histogram("none_seconds", "Nothing.", "route", [0.005], [] as [(&str, [f64; 2], f64); 0]);
        assert_eq!(
            page.finish(),
            r#"# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{route="/a\"b",le="0.005"} 2
took_seconds_bucket{route="/a\"b",le="1"} 3
took_seconds_bucket{route="/a\"b",le="+Inf"} 7
took_seconds_sum{route="/a\"b"} 12.5
took_seconds_count{route="/a\"b"} 7
# EOF
"#
        );
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let newest = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5";
        assert_eq!(Format::accepted(Some(newest)), Format::OpenMetrics);
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4"), Some("x-application/openmetrics-text")] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept:?}");
        }
    }
}
