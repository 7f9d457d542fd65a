//! What must hold when everything has come to rest.

use crate::backend::{header, now};
use crate::call::QueueName;
use crate::lines::{label, name, name_in};
use crate::scenario::{self, Naming};
use crate::simulation::{Simulation, rows};
use sluice_domain::alert::{Alert, FIRED, Trade};
use sluice_domain::message;
use sluice_ports::Catalog as _;
use sluice_stages::commit::PROPERTY;
use sluice_stages::compact::REPEATED;
use sluice_stages::groups::{recorded_files, recorded_tables};
use sluice_stages::ledger::{self, Sink};
use sluice_stages::quarantine::Quarantined;
use std::collections::{BTreeMap, BTreeSet};

type Counted = BTreeMap<String, usize>;

/// What the topic took, which is what every sink has to hold.
#[derive(Default)]
struct Truth {
    /// Names of the events of each batch.
    batches: BTreeMap<String, Vec<String>>,
    /// By name, the different ids of the events.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// Alerts that the first rule fires, and those of the later one.
    alerts: [BTreeSet<String>; 2],
    /// Events of all publishes.
    accepted: u64,
}

/// Everything, or what does not hold.
pub fn check(simulation: &Simulation) -> Result<(), String> {
    let truth = Truth::of(simulation)?;
    truth.check_clients(simulation)?;
    if simulation.uses(QueueName::Convert) {
        truth.check_lake(simulation)?;
    }
    if simulation.uses(QueueName::Index) {
        truth.check_search(simulation)?;
    }
    if simulation.uses(QueueName::Detect) {
        truth.check_alerts(simulation)?;
    }
    truth.check_ledger(simulation)
}

impl Truth {
    fn of(simulation: &Simulation) -> Result<Self, String> {
        let lists = scenario::watchlists();
        let mut truth = Self::default();
        for published in &simulation.backend.published {
            let unpacked = message::unpack(&published.body).map_err(|e| e.to_string())?;
            let events = unpacked.events().map_err(|e| e.to_string())?;
            let mut names = Vec::with_capacity(events.len());
            for event in events {
                let event = event.map_err(|(raw, e)| format!("{e}: {raw}"))?;
                let name = name(&event);
                truth.ids.entry(name.clone()).or_default().insert(event.id.to_string());
                names.push(name);
                let trade = if event.event_type == "quote.trade" { Trade::read(&event).ok().flatten() } else { None };
                for (alerts, list) in truth.alerts.iter_mut().zip(lists) {
                    let fired = trade.iter().flat_map(|trade| list.fired_by(trade).map(move |fired| (trade, fired)));
                    alerts
                        .extend(fired.map(|(t, (rule, direction))| Alert::new(rule, t, direction, event.received).id));
                }
            }
            let header = header(published);
            truth.accepted += header.count;
            let before = truth.batches.insert(header.batch.clone(), names.clone());
            if before.is_some_and(|before| before != names) {
                return Err(format!("batch `{}` was published with other events", header.batch));
            }
        }
        Ok(truth)
    }

    /// In how many batches each event is.
    fn rows(&self) -> Counted {
        count(self.batches.values().flatten().cloned())
    }

    fn check_clients(&self, simulation: &Simulation) -> Result<(), String> {
        let all_rows = self.rows();
        let mut senders: BTreeMap<&str, usize> = BTreeMap::new();
        for label in simulation.sent.iter().flat_map(|sent| &sent.labels) {
            *senders.entry(label).or_default() += 1;
        }
        for (number, sent) in simulation.sent.iter().enumerate() {
            if simulation.answered[number] == 0 {
                return Err(format!("request {number} was never taken"));
            }
            if sent.changes {
                continue;
            }
            for label in &sent.labels {
                let (rows, senders) = (all_rows.get(label).copied().unwrap_or(0), senders[label.as_str()]);
                let is_kept = if sent.naming == Naming::Anonymous { rows >= senders } else { rows == senders };
                if !is_kept {
                    return Err(format!("`{label}` was sent by {senders} requests and is in {rows} batches"));
                }
            }
        }
        Ok(())
    }

    fn check_lake(&self, simulation: &Simulation) -> Result<(), String> {
        let table = simulation.backend.table.as_ref();
        let mut found = Counted::new();
        for lake_table in now(recorded_tables(table)).map_err(|e| e.to_string())? {
            for file in now(recorded_files(table, &lake_table)).map_err(|e| e.to_string())? {
                let bytes = simulation.backend.objects.bytes(&file.key);
                let bytes = bytes.ok_or_else(|| format!("`{}` is recorded and not there", file.key))?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if text.lines().count() as u64 != file.rows {
                    return Err(format!("`{}` does not have {} rows", file.key, file.rows));
                }
                if file.counted.values().sum::<u64>() != file.rows {
                    return Err(format!("the rows of `{}` are counted as {:?}", file.key, file.counted));
                }
                text.lines().for_each(|line| *found.entry(name_in(line).to_owned()).or_default() += 1);
            }
        }
        let kept = quarantined(simulation);
        compare("rows of the lake", &self.rows(), &found, &kept)?;
        let groups = rows(table, "group");
        let listed = groups.iter().filter(|group| group.value["state"] == "committed");
        let listed = listed.flat_map(|item| item.value["batches"].as_array().into_iter().flatten());
        let listed = count(listed.filter_map(|batch| batch.as_str().map(str::to_owned)));
        let once: Counted = self.batches.keys().map(|batch| (batch.clone(), 1)).collect();
        compare("committed groups of a batch", &once, &listed, &BTreeSet::new())?;
        if simulation.uses(QueueName::Commit) {
            check_tables(simulation, &found)?;
        }
        let stored: usize = found.values().sum();
        let report = now(ledger::report(table, &BTreeMap::from([(Sink::Lake, Some(0))]))).map_err(|e| e.to_string())?;
        match report.total.sinks[&Sink::Lake].stored {
            counted if usize::try_from(counted) == Ok(stored) => Ok(()),
            counted => Err(format!("the lake has {stored} rows and {counted} are counted")),
        }
    }

    fn check_search(&self, simulation: &Simulation) -> Result<(), String> {
        let documents = simulation.backend.search.documents();
        let found = count(documents.iter().map(|(_, _, source)| {
            let text = source.to_string();
            label(&text).map_or_else(|| source["id"].as_str().unwrap_or_default().to_owned(), str::to_owned)
        }));
        let expected = self.ids.iter().map(|(name, ids)| (name.clone(), ids.len())).collect();
        compare("search documents", &expected, &found, &BTreeSet::new())
    }

    fn check_alerts(&self, simulation: &Simulation) -> Result<(), String> {
        let of = |partition| rows(&simulation.backend.table, partition);
        if let Some(open) = of("plan-open").first() {
            return Err(format!("the plan of batch `{}` stays open", open.key.sort));
        }
        let done = of("plan").into_iter().filter(|row| row.value["state"] == "done").map(|row| row.key.sort);
        let once: Counted = self.batches.keys().map(|batch| (batch.clone(), 1)).collect();
        compare("plans of a batch", &once, &count(done), &BTreeSet::new())?;
        let [first, later] = &self.alerts;
        let alerts = of("alert");
        let decided: BTreeSet<String> = alerts.iter().map(|row| row.key.sort.clone()).collect();
        if let Some(id) = first.difference(&decided).next() {
            return Err(format!("alert `{id}` was not decided"));
        }
        if let Some(id) =
            decided.iter().find(|id| !(first.contains(*id) || simulation.has_later_rule && later.contains(*id)))
        {
            return Err(format!("alert `{id}` was decided and nothing fired it"));
        }
        let mails = simulation.backend.mail.sent();
        for row in alerts {
            let alert: Alert = serde_json::from_value(row.value["alert"].clone()).map_err(|e| e.to_string())?;
            if row.version != 1 {
                return Err(format!("alert `{}` was decided {} times", alert.id, row.version));
            }
            if !self.batches.contains_key(&alert.batch_id()) {
                return Err(format!("alert `{}` was decided and not published", alert.id));
            }
            if !simulation.uses(QueueName::Alerts) {
                continue;
            }
            for channel in &alert.channels {
                let sluice_domain::alert::Channel::Email { to } = channel;
                let of_alert = mails.iter().filter(|mail| mail.to == *to && mail.message_id.starts_with(&alert.id));
                let copies: Vec<&str> = of_alert.map(|mail| mail.message_id.as_str()).collect();
                let is_one_message = copies.windows(2).all(|pair| pair[0] == pair[1]);
                if copies.is_empty() || !is_one_message || (copies.len() > 1 && !simulation.notify_disturbed) {
                    return Err(format!("alert `{}` reached `{to}` as {copies:?}", alert.id));
                }
            }
        }
        let fired = simulation.backend.published.iter().map(header).filter(|header| header.types.contains_key(FIRED));
        match fired.map(|header| header.batch).collect::<BTreeSet<_>>().len() {
            published if published == decided.len() => Ok(()),
            published => Err(format!("{published} alerts were published and {} decided", decided.len())),
        }
    }

    fn check_ledger(&self, simulation: &Simulation) -> Result<(), String> {
        let sink = |queue: &QueueName| match queue {
            QueueName::Convert => Some((Sink::Lake, Some(0))),
            QueueName::Index => Some((Sink::Search, Some(0))),
            QueueName::Detect => Some((Sink::Detect, Some(0))),
            QueueName::Alerts | QueueName::Quarantine | QueueName::Commit => None,
        };
        let sinks = simulation.backend.queues().iter().filter_map(sink).collect();
        let report = now(ledger::report(simulation.backend.table.as_ref(), &sinks)).map_err(|e| e.to_string())?;
        if u64::try_from(report.total.accepted) != Ok(self.accepted) {
            return Err(format!("{} events are counted as accepted, {} were", report.total.accepted, self.accepted));
        }
        for (event_type, counts) in &report.types {
            if let Some((sink, n)) = counts.sinks.iter().find(|(_, n)| n.in_flight != 0) {
                return Err(format!(
                    "the ledger of `{event_type}` does not add up at {sink:?}: {n:?} of {}",
                    counts.accepted
                ));
            }
        }
        Ok(())
    }
}

/// Every row of the lake is in exactly one file of its table.
fn check_tables(simulation: &Simulation, rows: &Counted) -> Result<(), String> {
    if simulation.has_open_files() {
        return Err("files are recorded that no table has".into());
    }
    let (catalog, objects) = (&simulation.backend.catalog, &simulation.backend.objects);
    let (mut found, mut removed) = (Counted::new(), 0);
    for table in catalog.tables() {
        let settled = crate::simulation::rows(&simulation.backend.table, &format!("filed-rows#{table}"));
        let settled: u64 = settled.iter().filter_map(|row| row.value["rows"].as_u64()).sum();
        let has: u64 = catalog.live(&table).iter().map(|file| file.rows).sum();
        let head = now(catalog.load(&table)).map_err(|e| e.to_string())?;
        let properties = head.map(|head| head.properties).unwrap_or_default();
        let repeated = properties.get(REPEATED).and_then(|rows| rows.parse::<u64>().ok()).unwrap_or(0);
        if settled != has + repeated {
            return Err(format!(
                "the table `{table}` has {has} rows, {repeated} were repeated, and {settled} are counted as settled"
            ));
        }
        removed += repeated;
        for file in catalog.live(&table) {
            let bytes =
                objects.bytes(&file.key).ok_or_else(|| format!("`{}` is in a table and not there", file.key))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.lines().for_each(|line| *found.entry(name_in(line).to_owned()).or_default() += 1);
        }
        let number = properties.get(PROPERTY).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        let record = simulation.backend.table.value("commit", &table).and_then(|record| record["number"].as_u64());
        if record.unwrap_or(0) != number {
            return Err(format!("the table `{table}` has commit {number}, and its record is {record:?}"));
        }
    }
    if removed == 0 {
        return compare("rows of the tables", rows, &found, &BTreeSet::new());
    }
    // Of what has been repeated one row is left, and of the rest all.
    let missing: u64 = rows.iter().map(|(name, n)| (n - found.get(name).copied().unwrap_or(0).min(*n)) as u64).sum();
    match found
        .keys()
        .chain(rows.keys())
        .find(|name| found.get(*name).copied().unwrap_or(0) == 0 || found[*name] > rows[*name])
    {
        Some(name) => Err(format!(
            "`{name}` is {:?} times in the tables, and was stored {:?} times",
            found.get(name),
            rows.get(name)
        )),
        None if missing != removed => Err(format!("{missing} rows are missing, and {removed} were removed")),
        None => Ok(()),
    }
}

/// Labels of the events whose bytes are in quarantine.
fn quarantined(simulation: &Simulation) -> BTreeSet<String> {
    let objects = &simulation.backend.objects;
    let keys = objects.keys().into_iter().filter(|key| key.starts_with("quarantine/"));
    let records = keys.filter_map(|key| Quarantined::parse(std::str::from_utf8(&objects.bytes(&key)?).ok()?).ok());
    records.filter_map(|record| label(&String::from_utf8_lossy(&record.bytes)).map(str::to_owned)).collect()
}

fn count(names: impl Iterator<Item = String>) -> Counted {
    names.fold(Counted::new(), |mut counted, name| {
        *counted.entry(name).or_default() += 1;
        counted
    })
}

/// Each name as often as expected; what is in quarantine may be missing, since the schema may have changed since it was accepted.
fn compare(what: &str, expected: &Counted, found: &Counted, kept: &BTreeSet<String>) -> Result<(), String> {
    for name in expected.keys().chain(found.keys()) {
        let (expected, found) = (expected.get(name).copied().unwrap_or(0), found.get(name).copied().unwrap_or(0));
        if found > expected || (found < expected && !kept.contains(name)) {
            return Err(format!("{what} `{name}`: expected {expected}, found {found}"));
        }
    }
    Ok(())
}
