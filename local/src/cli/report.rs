//! `sluice report`: the questions to the lake that have a name.

use crate::cli::exit::Failure;
use crate::cli::sql::{Answer, Format, show};
use crate::cli::terminal::{Out, clean, counted, note, table};
use crate::client::{Client, segment};
use serde_json::Value;

/// Run a report, or list those that there are
///
/// A report is a question to the lake with a name and parameters. Its result is kept for a while; a note says when it was made. As CSV it
/// is for spreadsheets: text that one would take for a formula has an apostrophe before it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice report
  sluice report plays-per-day --param from=2026-11-01
  sluice report price-ranges --param symbol=SLUICE --format csv > prices.csv")]
pub struct Report {
    /// Its name; without it all are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// A parameter; as many as it takes
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter, requires = "name")]
    parameters: Vec<(String, String)>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Report {
    /// Asks and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let Some(name) = &self.name else { return self.list(client, out).await };
        let path = format!("/v1/reports/{}", segment(name));
        let mut query: Vec<(&str, &str)> = self.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if self.format == Format::Csv {
            query.push(("format", "csv"));
            out.bytes(&client.get_bytes(&path, &query).await?)?;
            return out.flush();
        }
        query.push(("format", "json"));
        let answer: Answer = client.get(&path, &query).await?;
        show(&answer, self.format, out)?;
        out.flush()?;
        let rows = counted(answer.rows.len() as u64, "row");
        let more = if answer.truncated { "; there are more, and these are the first" } else { "" };
        if answer.truncated || self.format == Format::Table {
            note(format!("{rows}, made at {}{more}", clean(answer.made_at.as_deref().unwrap_or("-"))));
        }
        Ok(())
    }

    async fn list(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let reply: Value = client.get("/v1/reports", &[]).await?;
        match self.format {
            Format::Json => out.json(&reply["reports"])?,
            Format::Table => {
                let rows = reply["reports"].as_array().into_iter().flatten().map(row);
                out.line(table(&["report", "parameters", "what it says"], &[], rows))?;
            }
            Format::Csv | Format::Ndjson => {
                return Err(Failure::usage("the list of reports is a table or JSON; name a report for another form"));
            }
        }
        out.flush()?;
        for refused in reply["refused"].as_array().into_iter().flatten() {
            let [file, reason] = ["file", "reason"].map(|of| clean(refused[of].as_str().unwrap_or_default()));
            note(format!("`{file}` cannot be used: line {}: {reason}", refused["line"]));
        }
        Ok(())
    }
}

fn row(report: &Value) -> Vec<String> {
    let text = |value: &Value| clean(value.as_str().unwrap_or_default()).into_owned();
    let parameter = |parameter: &Value| match &parameter["default"] {
        Value::Null => text(&parameter["name"]),
        default => format!("{}={}", text(&parameter["name"]), text(default)),
    };
    let parameters: Vec<String> = report["parameters"].as_array().into_iter().flatten().map(parameter).collect();
    vec![text(&report["name"]), parameters.join(", "), text(&report["description"])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::client::tests::Fake;

    const MADE: &str = r#"{"report":"plays","parameters":{"from":"2026-11-01"},"made_at":"2026-11-21T10:00:00.000Z","cache_s":60,
        "columns":[{"name":"day","type":"date"},{"name":"plays","type":"bigint"}],"rows":[["2026-11-20",9007199254740993]],"truncated":false}"#;

    fn plays(format: Format) -> Report {
        Report { name: Some("plays".into()), parameters: vec![("from".into(), "a=b&c".into())], format }
    }

    #[tokio::test]
    async fn a_report_is_shown_in_every_form_with_its_parameters() {
        let fake = Fake::start(|_, got| match got.path.contains("csv") {
            true => (200, vec![], "day,plays\r\n".into()),
            false => (200, vec![], MADE.into()),
        })
        .await;
        for (format, expected) in [
            (Format::Csv, "day,plays\r\n"),
            (Format::Json, "[\n{\"day\":\"2026-11-20\",\"plays\":9007199254740993}\n]\n"),
            (Format::Ndjson, "{\"day\":\"2026-11-20\",\"plays\":9007199254740993}\n"),
        ] {
            let (mut out, written) = Out::captured();
            plays(format).run(&fake.client(), &mut out).await.unwrap();
            assert_eq!(written.text(), expected);
        }
        let (mut out, written) = Out::captured();
        plays(Format::Table).run(&fake.client(), &mut out).await.unwrap();
        assert!(written.text().contains("9007199254740993"), "{}", written.text());
        let asked = fake.got();
        assert_eq!(asked[0].path, "/v1/reports/plays?from=a%3Db%26c&format=csv");
        assert_eq!(parameter("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parameter("a").is_err());
    }

    #[tokio::test]
    async fn without_a_name_the_reports_are_listed() {
        const LIST: &str = r#"{"reports":[{"name":"plays","description":"Plays a day.","cache_s":60,"parameters":[
            {"name":"from","type":"date","default":"today","description":"First."},{"name":"who","type":"text","default":null,"description":"Whose."}]}]}"#;
        let fake = Fake::start(|_, _| (200, vec![], LIST.into())).await;
        let (mut out, written) = Out::captured();
        Report { name: None, parameters: vec![], format: Format::Table }.run(&fake.client(), &mut out).await.unwrap();
        assert!(written.text().contains("from=today, who"), "{}", written.text());
        let csv = Report { name: None, parameters: vec![], format: Format::Csv };
        assert_eq!(csv.run(&fake.client(), &mut Out::captured().0).await.unwrap_err().exit, Exit::Usage);
    }
}
