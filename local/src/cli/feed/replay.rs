//! `sluice feed replay`: rows of a price file become `quote.trade` events.

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::Out;
use crate::cli::upload::{self, Content, Item, Options, Progress, Report, WAITING_GROUPS};
use crate::client::Client;
use chrono_tz::Tz;
use sluice_domain::json::write_string;
use sluice_domain::schema::{decimal, decimal_text};
use sluice_domain::time::Timestamp;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Digits behind the point of prices, as `quote.trade` keeps them.
const SCALE: u8 = 6;
/// Digits of prices.
const PRECISION: u8 = 18;
/// How long paced rows wait for more of them.
const LINGER_MS: u64 = 50;
/// Events of one request at full speed.
const BATCH_EVENTS: usize = 500;
/// Longest symbol that `quote.trade` takes, in characters.
const MAX_SYMBOL: usize = 32;

/// Send the rows of a price file as `quote.trade` events.
///
/// The file is CSV with a heading: `date` and/or `time` (or `datetime`, `timestamp`), `close` (or `price`), and where there are any `open`,
/// `high`, `low`, `volume`; other columns are ignored. Rows go from old to new. The change of a row is its close minus the close of the row
/// before, exactly; the first row has none. A row with only a date happens at 00:00 of that day in `--zone`.
///
/// The id of an event is made of symbol and time, so a file that is replayed again is stored once. Old prices need a key without an age
/// limit, such as the one that is found in the data folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice feed replay sp500.csv --symbol SPX --name 'S&P 500'
  sluice feed replay 005930.csv --symbol 005930 --currency KRW --zone Asia/Seoul --speed 5")]
pub struct Replay {
    /// CSV file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Code of the security; leading zeros are kept
    #[arg(long, value_name = "CODE", value_parser = symbol)]
    symbol: String,
    /// Name of the security
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Currency of the prices
    #[arg(long, default_value = "USD", value_name = "CODE")]
    currency: String,
    /// Source of the events
    #[arg(long, default_value = "feed", value_name = "NAME")]
    source: String,
    /// Zone of dates and times without an offset
    #[arg(long, default_value = "UTC", value_name = "ZONE", value_parser = zone)]
    zone: Tz,
    /// Rows per second; as fast as possible where it is not given
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
    /// Tell the outcome as JSON
    #[arg(long)]
    json: bool,
}

fn symbol(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=MAX_SYMBOL => Ok(text.to_owned()),
        n => Err(format!("a symbol has 1 to {MAX_SYMBOL} characters, not {n}")),
    }
}

fn zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| "no such time zone; zones are named like `Asia/Seoul`".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n > 0.0 && n <= 1e6 => Ok(n),
        _ => Err("rows per second are a number above 0".into()),
    }
}

impl Replay {
    /// Sends all rows and tells what became of them.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let name = self.file.display().to_string();
        let cannot = |e: io::Error| Failure::usage(format!("cannot read `{name}`: {e}"));
        let file = File::open(&self.file).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("`{name}` is a folder: name a file")));
        }
        let total_bytes = metadata.is_file().then_some(metadata.len());
        let mut rows = Rows::open(BufReader::new(file), Quotes::new(&self))
            .map_err(|reason| Failure::usage(format!("`{name}`: {reason}")))?;
        client.check().await?;
        let options = Options {
            batch_events: BATCH_EVENTS,
            // A feed is in order.
            concurrency: 1,
            linger: self.speed.map(|_| Duration::from_millis(LINGER_MS)),
            identity: format!("{}\0{}", self.source, self.symbol),
            advice: upload::SEND_AGAIN,
        };
        let progress = Progress::new(total_bytes);
        let (to, input) = mpsc::channel(WAITING_GROUPS);
        let speed = self.speed;
        let reader = std::thread::spawn(move || rows.hand_on(speed, &to));
        let sending = upload::upload(client, input, options, &progress).await;
        progress.finish();
        let read = if sending.stopped.is_none() { reader.join() } else { Ok(Ok(())) };
        let reported = sending.report(out, Report::from_flag(self.json));
        match read {
            Ok(Ok(())) => reported,
            Ok(Err(reason)) => Err(Failure::new(Exit::Failed, format!("cannot read `{name}` to its end: {reason}"))),
            Err(_) => Err(Failure::new(Exit::Failed, format!("reading `{name}` failed"))),
        }
    }
}

/// The rows of a file as items.
struct Rows<R> {
    reader: csv::Reader<R>,
    columns: Columns,
    quotes: Quotes,
}

/// Where what stands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Columns {
    date: Option<usize>,
    time: Option<usize>,
    open: Option<usize>,
    high: Option<usize>,
    low: Option<usize>,
    close: Option<usize>,
    volume: Option<usize>,
}

impl Columns {
    fn find<'h>(heading: impl Iterator<Item = &'h str>) -> Result<Self, String> {
        let mut columns = Self::default();
        for (at, name) in heading.enumerate() {
            let name = name.trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
            let slot = match name.as_str() {
                "date" => &mut columns.date,
                "time" | "datetime" | "timestamp" => &mut columns.time,
                "open" => &mut columns.open,
                "high" => &mut columns.high,
                "low" => &mut columns.low,
                "close" | "price" => &mut columns.close,
                "volume" => &mut columns.volume,
                _ => continue,
            };
            if slot.replace(at).is_some() {
                return Err(format!("two columns say the same: `{name}` is the second one"));
            }
        }
        if columns.date.is_none() && columns.time.is_none() {
            return Err("the heading names no `date` or `time`".into());
        }
        if columns.close.is_none() {
            return Err("the heading names no `close` or `price`".into());
        }
        Ok(columns)
    }
}

impl<R: Read> Rows<R> {
    fn open(input: R, quotes: Quotes) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(input);
        let heading = reader.headers().map_err(|e| e.to_string())?;
        let columns = Columns::find(heading.iter())?;
        Ok(Self { reader, columns, quotes })
    }

    /// Hands on row after row, so many a second where that is given.
    fn hand_on(&mut self, rows_per_s: Option<f64>, to: &mpsc::Sender<Vec<Item>>) -> Result<(), String> {
        let started = Instant::now();
        let mut due_s = 0.0;
        while let Some(item) = self.next()? {
            if let Some(rows_per_s) = rows_per_s {
                let due = Duration::try_from_secs_f64(due_s).unwrap_or_default();
                std::thread::sleep(due.saturating_sub(started.elapsed()));
                due_s += 1.0 / rows_per_s;
            }
            if to.blocking_send(vec![item]).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Item>, String> {
        let mut record = csv::ByteRecord::new();
        if !self.reader.read_byte_record(&mut record).map_err(|e| e.to_string())? {
            return Ok(None);
        }
        let line = record.position().map_or(0, csv::Position::line);
        let end = self.reader.position().byte();
        let cell = |at: Option<usize>| -> &str {
            at.and_then(|at| record.get(at)).and_then(|c| std::str::from_utf8(c).ok()).unwrap_or_default()
        };
        let c = &self.columns;
        let row = Row {
            date: cell(c.date),
            time: cell(c.time),
            open: cell(c.open),
            high: cell(c.high),
            low: cell(c.low),
            close: cell(c.close),
            volume: cell(c.volume),
        };
        let content = match self.quotes.event(&row) {
            Ok(event) => Content::Event(event.into_bytes()),
            Err(reason) => Content::Unsendable(reason),
        };
        Ok(Some(Item { line, end, content }))
    }
}

/// The cells of a row; empty where there is no such column.
#[derive(Debug, Default)]
struct Row<'r> {
    date: &'r str,
    time: &'r str,
    open: &'r str,
    high: &'r str,
    low: &'r str,
    close: &'r str,
    volume: &'r str,
}

/// Makes events of rows and remembers the close before.
struct Quotes {
    symbol: String,
    name: Option<String>,
    currency: String,
    source: String,
    zone: Tz,
    previous: Option<i128>,
    last: Option<Timestamp>,
    /// Rows before this one with the same time.
    repeats: u64,
}

impl Quotes {
    fn new(args: &Replay) -> Self {
        Self {
            symbol: args.symbol.clone(),
            name: args.name.clone(),
            currency: args.currency.clone(),
            source: args.source.clone(),
            zone: args.zone,
            previous: None,
            last: None,
            repeats: 0,
        }
    }

    /// The JSON text of a row's event, or what is wrong with the row.
    fn event(&mut self, row: &Row<'_>) -> Result<String, String> {
        let (time, business_date) = moment(row.date, row.time, self.zone)?;
        let close = price("close", row.close)?.ok_or("the row has no price")?;
        let prices = [("open", row.open), ("high", row.high), ("low", row.low)]
            .into_iter()
            .map(|(name, text)| Ok((name, price(name, text)?)))
            .collect::<Result<Vec<_>, String>>()?;
        let volume = volume(row.volume)?;
        if self.last.is_some_and(|last| time < last) {
            return Err("the row is older than the one before: sort the file, oldest first".into());
        }
        self.repeats = if self.last == Some(time) { self.repeats + 1 } else { 0 };
        self.last = Some(time);
        let previous = self.previous.replace(close);

        let mut id = format!("{}@{time}", self.symbol);
        if self.repeats > 0 {
            id.push_str(&format!("#{}", self.repeats));
        }
        let mut out = String::with_capacity(512);
        out.push_str("{\"specversion\":\"1.0\"");
        for (name, value) in [("id", id.as_str()), ("source", &self.source), ("type", "quote.trade")] {
            text_member(&mut out, name, value);
        }
        text_member(&mut out, "time", &time.to_micros_text());
        text_member(&mut out, "subject", &self.symbol);
        out.push_str(",\"data\":{\"symbol\":");
        write_string(&mut out, &self.symbol);
        if let Some(name) = &self.name {
            text_member(&mut out, "name", name);
        }
        text_member(&mut out, "currency", &self.currency);
        number_member(&mut out, "price", Some(&plain(close)));
        let change = previous.map(|previous| close - previous);
        number_member(&mut out, "change", change.map(plain).as_deref());
        let percent = change.zip(previous).and_then(|(change, previous)| percent(change, previous));
        number_member(&mut out, "change_pct", percent.map(|p| decimal_text(p, 2)).as_deref());
        number_member(&mut out, "sign", change.map(sign));
        for (name, value) in prices {
            if let Some(value) = value {
                number_member(&mut out, name, Some(&plain(value)));
            }
        }
        if let Some(volume) = volume {
            number_member(&mut out, "volume", Some(&volume));
            number_member(&mut out, "acc_volume", Some(&volume));
        }
        out.push_str(",\"halted\":false");
        text_member(&mut out, "business_date", &business_date);
        out.push_str("}}");
        Ok(out)
    }
}

fn text_member(out: &mut String, name: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    write_string(out, value);
}

fn number_member(out: &mut String, name: &str, value: Option<&str>) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    out.push_str(value.unwrap_or("null"));
}

/// When a row happened, and the day of that in the market's zone.
fn moment(date: &str, time: &str, zone: Tz) -> Result<(Timestamp, String), String> {
    let bad = || format!("`{}` is no date or time", format!("{date} {time}").trim());
    let day = match date.as_bytes() {
        // 20240131
        [_, _, _, _, _, _, _, _] if date.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..])
        }
        _ => date.replace('/', "-"),
    };
    let clock = |time: &str| match time.bytes().filter(|b| *b == b':').count() {
        1 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    let moment = match (date.is_empty(), time.is_empty()) {
        (false, true) if day.len() == 10 => Timestamp::parse_in(&format!("{day}T00:00:00"), zone),
        (false, true) => Timestamp::parse_in(&day, zone),
        (false, false) => Timestamp::parse_in(&format!("{day}T{}", clock(time)), zone),
        (true, false) if time.len() == 10 && time.contains(['-', '/']) => {
            Timestamp::parse_in(&format!("{}T00:00:00", time.replace('/', "-")), zone)
        }
        (true, false) => Timestamp::parse_in(time, zone).or_else(|| Timestamp::parse_epoch(time)),
        (true, true) => return Err("the row has no date".into()),
    };
    let moment = moment.ok_or_else(bad)?;
    Ok((moment, moment.in_zone(zone).date().format("%Y-%m-%d").to_string()))
}

/// A cell as an unscaled decimal; `None` where it is empty.
fn price(column: &str, text: &str) -> Result<Option<i128>, String> {
    match text {
        "" | "null" | "N/A" | "-" => Ok(None),
        text => decimal(text, PRECISION, SCALE).map(Some).map_err(|why| format!("`{column}` {why}")),
    }
}

/// A cell as the text of a whole number; `None` where it is empty.
fn volume(text: &str) -> Result<Option<String>, String> {
    match text {
        "" | "null" | "N/A" | "-" => Ok(None),
        text => match decimal(text, PRECISION, 0) {
            Ok(n) if n >= 0 => Ok(Some(n.to_string())),
            Ok(_) => Err(format!("`volume` is below 0: `{text}`")),
            Err(why) => Err(format!("`volume` {why}")),
        },
    }
}

/// A price without zeros that say nothing.
fn plain(unscaled: i128) -> String {
    let text = decimal_text(unscaled, SCALE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The change in percent of the previous close, in hundredths, halves away from zero; `None` where that is zero.
fn percent(change: i128, previous: i128) -> Option<i128> {
    if previous == 0 {
        return None;
    }
    let (number, divisor) = (change * 10_000, previous.abs());
    let rounded = (number.abs() * 2 + divisor) / (divisor * 2);
    Some(if (number < 0) != (previous < 0) { -rounded } else { rounded })
}

/// 2 up, 3 flat, 5 down, as `quote.trade` codes it. A file of prices knows nothing of limits (1, 4).
fn sign(change: i128) -> &'static str {
    match change {
        0 => "3",
        1.. => "2",
        _ => "5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
date,open,high,low,close,adjclose,volume
2000-01-03,1469.250000,1478.000000,1438.359985,1455.219971,1455.219971,931800000
2000-01-04,1455.219971,1455.219971,1397.430054,1399.420044,1399.420044,1009000000
2000-01-05,1399.420044,1413.270020,1377.680054,1402.109985,1402.109985,1085500000
";

    fn quotes(zone: &str) -> Quotes {
        Quotes {
            symbol: "SPX".into(),
            name: None,
            currency: "USD".into(),
            source: "feed".into(),
            zone: zone.parse().unwrap(),
            previous: None,
            last: None,
            repeats: 0,
        }
    }

    fn rows_in(zone: &str, file: &str) -> Vec<(u64, Result<String, String>)> {
        let mut rows = Rows::open(file.as_bytes(), quotes(zone)).unwrap();
        std::iter::from_fn(|| rows.next().unwrap())
            .map(|item| match item.content {
                Content::Event(text) => (item.line, Ok(String::from_utf8(text).unwrap())),
                Content::Bad(_, reason) | Content::Unsendable(reason) => (item.line, Err(reason)),
            })
            .collect()
    }

    fn events(zone: &str, file: &str) -> Vec<serde_json::Value> {
        rows_in(zone, file).into_iter().map(|(_, r)| serde_json::from_str(&r.unwrap()).unwrap()).collect()
    }

    #[test]
    fn daily_rows_become_trades_with_the_exact_change() {
        let texts: Vec<_> = rows_in("UTC", FILE).into_iter().map(|(_, r)| r.unwrap()).collect();
        assert_eq!(
            texts,
            [
                r#"{"specversion":"1.0","id":"SPX@2000-01-03T00:00:00.000Z","source":"feed","type":"quote.trade","time":"2000-01-03T00:00:00.000000Z","subject":"SPX","data":{"symbol":"SPX","currency":"USD","price":1455.219971,"change":null,"change_pct":null,"sign":null,"open":1469.25,"high":1478,"low":1438.359985,"volume":931800000,"acc_volume":931800000,"halted":false,"business_date":"2000-01-03"}}"#,
                r#"{"specversion":"1.0","id":"SPX@2000-01-04T00:00:00.000Z","source":"feed","type":"quote.trade","time":"2000-01-04T00:00:00.000000Z","subject":"SPX","data":{"symbol":"SPX","currency":"USD","price":1399.420044,"change":-55.799927,"change_pct":-3.83,"sign":5,"open":1455.219971,"high":1455.219971,"low":1397.430054,"volume":1009000000,"acc_volume":1009000000,"halted":false,"business_date":"2000-01-04"}}"#,
                r#"{"specversion":"1.0","id":"SPX@2000-01-05T00:00:00.000Z","source":"feed","type":"quote.trade","time":"2000-01-05T00:00:00.000000Z","subject":"SPX","data":{"symbol":"SPX","currency":"USD","price":1402.109985,"change":2.689941,"change_pct":0.19,"sign":2,"open":1399.420044,"high":1413.27002,"low":1377.680054,"volume":1085500000,"acc_volume":1085500000,"halted":false,"business_date":"2000-01-05"}}"#,
            ]
        );
    }

    #[test]
    fn dates_are_of_the_market_s_zone() {
        let event = &events("Asia/Seoul", "Date,Close\n2024-03-05,55700\n")[0];
        assert_eq!(event["time"], "2024-03-04T15:00:00.000000Z");
        assert_eq!(event["data"]["business_date"], "2024-03-05");
    }

    #[test]
    fn dates_and_times_are_read_in_the_usual_forms() {
        for (date, time, expected) in [
            ("2024-03-05", "", "2024-03-05T00:00:00.000Z"),
            ("20240305", "", "2024-03-05T00:00:00.000Z"),
            ("2024/03/05", "", "2024-03-05T00:00:00.000Z"),
            ("2024-03-05 09:30:00", "", "2024-03-05T09:30:00.000Z"),
            ("2024-03-05", "09:30", "2024-03-05T09:30:00.000Z"),
            ("2024-03-05", "09:30:01.5", "2024-03-05T09:30:01.500Z"),
            ("", "2024-03-05T09:30:00+09:00", "2024-03-05T00:30:00.000Z"),
            ("", "2024-03-05", "2024-03-05T00:00:00.000Z"),
            ("", "1709631000", "2024-03-05T09:30:00.000Z"),
        ] {
            let (moment, _) = moment(date, time, Tz::UTC).unwrap();
            assert_eq!(moment.to_string(), expected, "{date} {time}");
        }
        for (date, time) in [("", ""), ("03/05/2024", ""), ("2024-02-30", ""), ("soon", "")] {
            assert!(moment(date, time, Tz::UTC).is_err(), "{date} {time}");
        }
    }

    #[test]
    fn percents_are_rounded_half_away_from_zero() {
        for (change, previous, expected) in [
            (5, 100, 500),
            (1, 80_000, 0),
            (1, 20_000, 1),
            (-1, 20_000, -1),
            (-1, 20_001, 0),
            (-200, 55_900, -36),
            (0, 7, 0),
        ] {
            assert_eq!(percent(change, previous), Some(expected), "{change} of {previous}");
        }
        assert_eq!(percent(1, 0), None);
    }

    #[test]
    fn a_bad_row_is_told_by_its_line_and_does_not_count_as_the_row_before() {
        let file = "date,close\n2024-01-01,100\n2024-01-02,\n2024-01-03,1e9999\n2024-01-04,105\n2024-01-03,106\n";
        let rows = rows_in("UTC", file);
        let reasons: Vec<(u64, &str)> =
            rows.iter().filter_map(|(line, r)| Some((*line, r.as_ref().err()?.as_str()))).collect();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert_eq!(reasons[0], (3, "the row has no price"));
        assert!(reasons[1].1.starts_with("`close` "), "{reasons:?}");
        assert!(reasons[2].1.contains("oldest first"), "{reasons:?}");
        assert!(rows[3].1.as_ref().unwrap().contains("\"change\":5,\"change_pct\":5.00,"), "{rows:?}");
    }

    #[test]
    fn trades_at_one_time_are_different_events() {
        let events =
            events("UTC", "time,price\n2024-01-01T00:00:00Z,1\n2024-01-01T00:00:00Z,1\n2024-01-01T00:00:01Z,1\n");
        let ids: Vec<&str> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
        assert_eq!(
            ids,
            ["SPX@2024-01-01T00:00:00.000Z", "SPX@2024-01-01T00:00:00.000Z#1", "SPX@2024-01-01T00:00:01.000Z"]
        );
        assert_eq!(events[1]["data"]["sign"], 3);
    }

    #[test]
    fn headings_are_found_whatever_their_order_and_case() {
        let columns = Columns::find(["\u{feff}Volume", "CLOSE", " Date "].into_iter()).unwrap();
        assert_eq!((columns.volume, columns.close, columns.date), (Some(0), Some(1), Some(2)));
        for (heading, word) in
            [("open,close", "`date`"), ("date,open", "`close`"), ("date,close,price", "`price` is the second")]
        {
            let reason = Columns::find(heading.split(',')).unwrap_err();
            assert!(reason.contains(word), "{heading}: {reason}");
        }
    }

    #[test]
    fn volumes_are_whole_numbers() {
        assert_eq!(volume("931800000.0"), Ok(Some("931800000".into())));
        assert_eq!(volume(""), Ok(None));
        assert!(volume("1.5").is_err());
        assert!(volume("-1").is_err());
    }
}
