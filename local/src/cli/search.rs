//! `sluice search`: looks for events.

use crate::cli::exit::Failure;
use crate::cli::hits::{self, ALL_INDICES, Found, Query};
use crate::cli::terminal::{Out, counted, grouped, note, table};
use crate::client::Client;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sluice_domain::time::Timestamp;
use std::time::SystemTime;

/// Look for events, the newest first.
///
/// The query is OpenSearch's query string: words (all must be there), `field:value`, ranges, AND, OR, NOT. Fields of an event's data begin with `data.`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice search 'data.status:404'
  sluice search 'type:http.access AND data.status:[500 TO 599]' --since 1h
  sluice search 'type:http.access' --by data.status
  sluice search 'kibana' --index 'sluice-http_access-*' --json | jq '.hits.hits[]._source'")]
pub struct Search {
    /// Query; everything where it is not given
    #[arg(value_name = "QUERY", default_value = "*")]
    query: String,
    /// Indices to look in; `*` stands for any characters
    #[arg(long, value_name = "PATTERN", default_value = ALL_INDICES)]
    index: String,
    /// Most events to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    size: u32,
    /// Only events of this long until now, by their own time: 90s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", value_parser = hits::span)]
    since: Option<i64>,
    /// Count the events by the values of a field, instead of showing them
    #[arg(long, value_name = "FIELD")]
    by: Option<String>,
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// All indices but that of events without a schema, by whose data no engine counts.
const INDICES_WITH_SCHEMA: &str = "sluice-*,-sluice-event-*";

impl Search {
    /// The indices to look in: where fields of an event's data are counted, those that may have them.
    fn indices(&self) -> &str {
        match &self.by {
            Some(field) if field.starts_with("data.") && self.index == ALL_INDICES => INDICES_WITH_SCHEMA,
            _ => &self.index,
        }
    }

    /// Asks and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let body = self.body(Timestamp::from_system(SystemTime::now()));
        if self.json {
            let reply: Box<RawValue> = client.post("/v1/search", &[("index", self.indices())], &body).await?;
            return out.line(reply.get());
        }
        let found: Found = client.post("/v1/search", &[("index", self.indices())], &body).await?;
        let total = format!(
            "{}{} found",
            if found.hits.total.relation == "gte" { "at least " } else { "" },
            counted(found.hits.total.value, "event")
        );
        if let Some(field) = &self.by {
            let buckets = hits::buckets(&found.aggregations);
            let rows = buckets.iter().map(|(key, count)| vec![key.clone(), grouped(*count)]);
            if buckets.is_empty() {
                note(format!("{total} in {} ms; none has values in `{field}` to count by", found.took));
                return Ok(());
            }
            out.line(table(&[field, "events"], &[1], rows))?;
            out.flush()?;
            let beyond = found.aggregations.pointer("/by/sum_other_doc_count").and_then(Value::as_u64).unwrap_or(0);
            note(match beyond {
                0 => format!("{total} in {} ms", found.took),
                n => format!("{total} in {} ms; {} have other values (see --size)", found.took, counted(n, "event")),
            });
            return Ok(());
        }
        for hit in &found.hits.hits {
            let line = hits::line(out, &hit.event);
            out.line(line)?;
        }
        out.flush()?;
        let shown = found.hits.hits.len() as u64;
        note(match shown == found.hits.total.value {
            true => format!("{total} in {} ms", found.took),
            false => format!("{total} in {} ms, {} shown", found.took, grouped(shown)),
        });
        Ok(())
    }

    fn body(&self, now: Timestamp) -> Value {
        let filters = self
            .since
            .map(|span| json!({"range": {"time": {"gte": now.plus_micros(-span).to_micros_text()}}}))
            .into_iter()
            .collect();
        let query = Query { text: &self.query, filters }.to_json();
        match &self.by {
            Some(field) => json!({
                "size": 0, "query": query, "track_total_hits": true,
                "aggs": {"by": {"terms": {"field": field, "size": self.size.max(1)}}}}),
            None => json!({
                "size": self.size, "query": query, "track_total_hits": true, "sort": [{"time": {"order": "desc"}}]}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search() -> Search {
        Search { query: "a:b".into(), index: "*".into(), size: 5, since: None, by: None, json: false }
    }

    #[test]
    fn the_options_become_an_opensearch_body() {
        let now = Timestamp::parse_rfc3339("2024-03-05T10:00:00Z").unwrap();
        let body = Search { since: Some(hits::span("1h").unwrap()), ..search() }.body(now);
        assert_eq!(body["size"], 5);
        assert_eq!(body["query"]["bool"]["must"][0]["query_string"]["query"], "a:b");
        assert_eq!(body["query"]["bool"]["filter"][0]["range"]["time"]["gte"], "2024-03-05T09:00:00.000000Z");
        let body = Search { query: "*".into(), by: Some("data.status".into()), ..search() }.body(now);
        assert_eq!(body["size"], 0);
        assert!(body["query"]["bool"]["must"][0].get("match_all").is_some());
        assert_eq!(body["aggs"]["by"]["terms"], json!({"field": "data.status", "size": 5}));
    }

    #[tokio::test]
    async fn the_index_pattern_is_part_of_the_address() {
        let fake = crate::client::tests::Fake::start(|_, _| {
            (200, vec![], r#"{"took":1,"hits":{"total":{"value":1},"hits":[{"_id":"a","_source":{}}]}}"#.into())
        })
        .await;
        let search = Search { index: "a b*&c".into(), ..search() };
        search.run(&fake.client(), &mut Out::captured().0).await.unwrap();
        assert_eq!(fake.got()[0].path, "/v1/search?index=a+b*%26c");
    }

    #[test]
    fn data_is_counted_where_it_has_a_schema() {
        let by = |field: &str, index: &str| {
            Search { by: Some(field.into()), index: index.into(), ..search() }.indices().to_owned()
        };
        assert_eq!(by("data.status", ALL_INDICES), "sluice-*,-sluice-event-*");
        assert_eq!(by("data.status", "sluice-http_access-*"), "sluice-http_access-*");
        assert_eq!(by("type", ALL_INDICES), ALL_INDICES);
    }
}
