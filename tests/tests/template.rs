//! Rules over `template.yaml` and the sample events: what CloudFormation would accept and the platform must not have.
//!
//! A rule is a function that answers its violations. Each is shown to fail on a template that breaks it.

// `clippy.toml` allows these in test functions only, not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use sluice_domain::alert::Rule;
use sluice_domain::message::unpack;
use sluice_domain::time::Timestamp;
use sluice_entry::settings::{SETTINGS, World};
use sluice_stages::quarantine::Quarantined;
use sluice_template::{Topology, Trigger};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text() -> String {
    fs::read_to_string(root().join("template.yaml")).unwrap()
}

#[track_caller]
fn parse(text: &str) -> Topology {
    Topology::parse(text).unwrap_or_else(|error| panic!("template.yaml: {error}"))
}

fn real() -> Topology {
    parse(&text())
}

/// The real template with some of its text replaced, each piece once.
#[track_caller]
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(text(), |text, (from, to)| {
        assert!(text.contains(from), "template.yaml has no `{from}`");
        text.replacen(from, to, 1)
    })
}

#[track_caller]
fn holds(violations: Vec<String>) {
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The violations are these, compared by how each begins.
#[track_caller]
fn fails(violations: Vec<String>, expected: &[&str]) {
    let same = violations.len() == expected.len()
        && violations.iter().zip(expected).all(|(violation, expected)| violation.starts_with(expected));
    assert!(same, "expected: {expected:#?}\n     got: {violations:#?}");
}

// ── Rules over the wiring ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Function, queue, window and whether failures are reported one by one, of every consumer.
fn consumers(topology: &Topology) -> Vec<(&str, &str, Duration, bool)> {
    let mut all = Vec::new();
    for (id, function) in &topology.functions {
        for trigger in &function.triggers {
            if let Trigger::Queue { queue, window, partial_failures, .. } = trigger {
                all.push((id.as_str(), queue.as_str(), *window, *partial_failures));
            }
        }
    }
    all
}

/// Queues that take what could not be worked on or delivered.
fn dead_letter_queues(topology: &Topology) -> BTreeSet<&str> {
    let of_queues = topology.queues.values().filter_map(|queue| queue.dead_letter.as_ref()).map(|d| d.queue.as_str());
    of_queues.chain(topology.subscriptions.values().filter_map(|s| s.dead_letter.as_deref())).collect()
}

fn consumed_queues_have_dead_letters(topology: &Topology) -> Vec<String> {
    let without = |queue: &&str| topology.queues[*queue].dead_letter.is_none();
    let consumed: BTreeSet<&str> = consumers(topology).into_iter().map(|(_, queue, ..)| queue).collect();
    consumed.into_iter().filter(without).map(|queue| format!("{queue} has no dead-letter queue")).collect()
}

fn consumers_report_partial_failures(topology: &Topology) -> Vec<String> {
    let without = consumers(topology).into_iter().filter(|(.., partial)| !partial);
    without.map(|(function, queue, ..)| format!("{function} fails {queue} batch by batch")).collect()
}

fn visibility_covers_six_timeouts_and_the_window(topology: &Topology) -> Vec<String> {
    let mut violations = Vec::new();
    for (function, queue, window, _) in consumers(topology) {
        let least = topology.functions[function].timeout * 6 + window;
        let visibility = topology.queues[queue].visibility;
        if visibility < least {
            violations.push(format!("{queue} hides messages for {visibility:?}, {function} needs {least:?}"));
        }
    }
    violations
}

fn messages_get_at_least_five_tries(topology: &Topology) -> Vec<String> {
    let few = topology.queues.iter().filter_map(|(id, queue)| {
        let tries = queue.dead_letter.as_ref()?.max_receive_count;
        (tries < 5).then(|| format!("{id} gives up after {tries} tries"))
    });
    few.collect()
}

fn queues_keep_messages_4_days_and_dead_letters_14(topology: &Topology) -> Vec<String> {
    let dead = dead_letter_queues(topology);
    let wrong = topology.queues.iter().filter_map(|(id, queue)| {
        let days = if dead.contains(id.as_str()) { 14 } else { 4 };
        (queue.retention != DAY * days)
            .then(|| format!("{id} keeps messages {:?} and not {days} days", queue.retention))
    });
    wrong.collect()
}

fn subscriptions_are_raw_and_have_their_own_dead_letters(topology: &Topology) -> Vec<String> {
    let mut violations = Vec::new();
    let of_queues = topology.queues.values().filter_map(|queue| queue.dead_letter.as_ref());
    let mut taken: BTreeSet<&str> = of_queues.map(|dead_letter| dead_letter.queue.as_str()).collect();
    for (id, subscription) in &topology.subscriptions {
        if !subscription.raw {
            violations.push(format!("{id} is not raw"));
        }
        match subscription.dead_letter.as_deref() {
            None => violations.push(format!("{id} has no dead-letter queue")),
            Some(queue) if !taken.insert(queue) => violations.push(format!("{id} shares {queue} with another")),
            Some(_) => {}
        }
    }
    violations
}

fn each_queue_has_one_consumer(topology: &Topology) -> Vec<String> {
    let dead = dead_letter_queues(topology);
    let wrong = topology.queues.keys().filter(|id| !dead.contains(id.as_str())).filter_map(|id| {
        let consumers = topology.consumers(id);
        (consumers.len() != 1).then(|| format!("{id} is consumed by {consumers:?}"))
    });
    wrong.collect()
}

/// One machine needs no permissions, so only a rule sees that one is missing.
fn what_aws_must_be_allowed_is_allowed(topology: &Topology) -> Vec<String> {
    let mut violations = Vec::new();
    let routed: BTreeSet<&str> = topology.routes.iter().map(|route| route.function.as_str()).collect();
    for function in routed {
        let gateway = "apigateway.amazonaws.com";
        if !topology.permissions.values().any(|p| p.function == function && p.principal == gateway) {
            violations.push(format!("{gateway} may not call {function}"));
        }
    }
    for (id, subscription) in &topology.subscriptions {
        for queue in std::iter::once(&subscription.queue).chain(&subscription.dead_letter) {
            if !topology.queues_with_policy.contains(queue) {
                violations.push(format!("{id} may not send to {queue}"));
            }
        }
    }
    violations
}

/// Queues that are consumed, their dead letters and the functions: who is told when one of them is in trouble.
fn what_can_fail_has_an_alarm(topology: &Topology) -> Vec<String> {
    let dead = dead_letter_queues(topology);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for queue in topology.queues.keys() {
        let is_dead = dead.contains(queue.as_str());
        wanted.push((
            queue,
            if is_dead { "ApproximateNumberOfMessagesVisible" } else { "ApproximateAgeOfOldestMessage" },
        ));
    }
    wanted.extend(topology.functions.keys().flat_map(|id| [(id.as_str(), "Errors"), (id.as_str(), "Throttles")]));
    // What a function answers by 5xx is no error of its own.
    wanted.push(("HttpApi", "5xx"));
    wanted.push(("ApiFunction", "LedgerProblems"));
    // What tells of all others must not be alone with its own trouble.
    let tells = [
        "NotifyFunction",
        "AlertsQueue",
        "AlertsDeadLetterQueue",
        "AlertsSubscriptionDeadLetterQueue",
        "AlarmSubscriptionDeadLetterQueue",
    ];
    let missing = wanted.into_iter().filter(|(subject, metric)| {
        let topics: &[&str] =
            if tells.contains(subject) { &["AlarmTopic", "DirectAlarmTopic"] } else { &["AlarmTopic"] };
        !topology.alarms.values().any(|a| a.subject == *subject && a.metric == *metric && a.topics == topics)
    });
    missing.map(|(subject, metric)| format!("nobody is told of {metric} of {subject}")).collect()
}

fn one_verb_names_a_stage_everywhere(topology: &Topology) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, function) in &topology.functions {
        if *id != format!("{}Function", camel_case(&function.verb)) {
            violations.push(format!("{id} runs the stage `{}`", function.verb));
        }
        if function.code_uri != format!("functions/{}", function.verb) {
            violations.push(format!("{id} is built from `{}`", function.code_uri));
        }
    }
    for (id, queue) in &topology.queues {
        let stem = id.strip_suffix("Queue").unwrap_or_default();
        if stem.is_empty() {
            violations.push(format!("{id} does not end with `Queue`"));
        }
        if let Some(dead_letter) = &queue.dead_letter
            && dead_letter.queue != format!("{stem}DeadLetterQueue")
        {
            violations.push(format!("{id} has its dead letters in {}", dead_letter.queue));
        }
    }
    violations
}

/// Properties that one machine ignores and AWS must have.
fn data_is_encrypted_and_can_be_restored(topology: &Topology) -> Vec<String> {
    let mut places = Vec::new();
    for id in topology.buckets.keys() {
        for name in ["BucketEncryption", "PublicAccessBlockConfiguration", "VersioningConfiguration"] {
            places.push(format!("Resources.{id}.Properties.{name}"));
        }
        places.extend([format!("Resources.{id}Policy"), format!("Resources.{id}.DeletionPolicy")]);
    }
    for id in topology.tables.keys() {
        for name in ["PointInTimeRecoverySpecification", "SSESpecification"] {
            places.push(format!("Resources.{id}.Properties.{name}"));
        }
        places.push(format!("Resources.{id}.DeletionPolicy"));
    }
    places.extend(topology.queues.keys().map(|id| format!("Resources.{id}.Properties.SqsManagedSseEnabled")));
    for id in topology.functions.keys() {
        places.push(format!("Resources.{id}.Properties.Role"));
        places.push(format!("Resources.{}LogGroup", id.trim_end_matches("Function")));
    }
    places.retain(|place| !topology.ignored.contains(place));
    places.into_iter().map(|place| format!("{place} is missing")).collect()
}

// ── Rules over settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// `time_zone` or `TIME_ZONE` → `TimeZone`.
fn camel_case(name: &str) -> String {
    let words = name.split(['_', '-']).filter_map(|word| {
        let first = word.get(..1)?;
        Some(first.to_uppercase() + &word[1..].to_lowercase())
    });
    words.collect()
}

/// A setting is one thing with one name: the variable `SLUICE_TIME_ZONE` is the parameter `TimeZone`, with a description.
fn settings_are_parameters_one_to_one(topology: &Topology) -> Vec<String> {
    let mut violations = Vec::new();
    let mut used = BTreeSet::new();
    for (id, function) in &topology.functions {
        for (variable, value) in &function.environment {
            let Some(name) = variable.strip_prefix("SLUICE_") else {
                violations.push(format!("{id}: {variable} does not begin with `SLUICE_`"));
                continue;
            };
            // What the template fills in is no one's to set.
            let filled_in = SETTINGS.iter().any(|s| s.world != World::Both && s.environment_variable() == *variable);
            let name = camel_case(name);
            match topology.parameters.get(&name) {
                _ if filled_in => {}
                None => violations.push(format!("{id}: {variable} has no parameter `{name}`")),
                Some(parameter) if parameter.value.as_ref() != Some(value) => {
                    violations.push(format!("{id}: {variable} is not fed by the parameter `{name}`"));
                }
                Some(_) => {
                    used.insert(name);
                }
            }
        }
    }
    for (name, parameter) in &topology.parameters {
        if parameter.description.len() < 10 {
            violations.push(format!("parameter {name} has no description"));
        }
        if !used.contains(name) && !parameter.description.contains("(AWS only)") {
            violations.push(format!("parameter {name} feeds no setting and is not marked `(AWS only)`"));
        }
        if parameter.default.is_none() {
            violations.push(format!("parameter {name} has no default, so nobody can just run it"));
        }
    }
    violations
}

/// A default stands in a public file: it must not be a secret, or look like one.
fn defaults_are_no_secrets(topology: &Topology) -> Vec<String> {
    let mut violations = Vec::new();
    let check = |place: String, name: &str, value: &str, violations: &mut Vec<String>| {
        let name = name.to_ascii_lowercase();
        let named = ["secret", "password", "passwd", "token", "credential", "apikey", "privatekey", "approvalkey"];
        let by_name = named.iter().any(|word| name.replace('_', "").contains(word)) && !value.is_empty();
        let letters = value.chars().filter(char::is_ascii_alphabetic).count();
        let digits = value.chars().filter(char::is_ascii_digit).count();
        let random = value.len() >= 20 && letters >= 5 && digits >= 5 && !value.contains([' ', '.', ':']);
        if by_name || random || value.starts_with("AKIA") || value.contains("-----BEGIN") {
            violations.push(format!("{place} looks like a secret"));
        }
    };
    for (name, parameter) in &topology.parameters {
        check(format!("default of {name}"), name, parameter.default.as_deref().unwrap_or_default(), &mut violations);
    }
    for (id, function) in &topology.functions {
        // The name of a resource that keeps a secret is none.
        let is_resource = |value: &String| topology.ignored.contains(&format!("Resources.{value}"));
        for (name, value) in function.environment.iter().filter(|(_, value)| !is_resource(value)) {
            check(format!("{name} of {id}"), name, value, &mut violations);
        }
    }
    violations
}

// ── Rules over the text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A line without its comment, and whether it has one.
fn split_comment(line: &str) -> (&str, bool) {
    match line.split_once(" #") {
        Some((code, _)) => (code, true),
        None if line.trim_start().starts_with('#') => ("", true),
        None => (line, false),
    }
}

/// A `*` in an action, resource or principal has a comment behind it or on the line above. All objects below a prefix of one bucket
/// (`${LakeBucket.Arn}/lake/*`) need none: that is the finest grain there is.
fn wide_rights_are_explained(text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let mut above_is_comment = false;
    // Indentation of the key whose list is being read.
    let mut list_of: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let (code, commented) = split_comment(line);
        let indent = line.len() - line.trim_start().len();
        let is_item = code.trim_start().starts_with("- ");
        if list_of.is_some_and(|key| !code.trim().is_empty() && (indent < key || (indent == key && !is_item))) {
            list_of = None;
        }
        let key =
            ["Action:", "Resource:", "Principal:", "NotAction:", "NotResource:"].iter().find_map(|key| code.find(key));
        let value = match key {
            Some(at) => {
                list_of = Some(indent);
                Some(&code[at..])
            }
            None => list_of.map(|_| code),
        };
        if let Some(value) = value
            && value.contains('*')
            && !commented
            && !above_is_comment
            && !is_below_a_prefix(value)
        {
            violations.push(format!("line {}: `{}` has no comment", number + 1, line.trim()));
        }
        above_is_comment = line.trim_start().starts_with('#');
    }
    violations
}

/// `… ${LakeBucket.Arn}/lake/*`
fn is_below_a_prefix(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    let Some((_, rest)) = value.split_once("Bucket.Arn}/") else { return false };
    rest.strip_suffix("/*").is_some_and(|prefix| !prefix.is_empty() && !prefix.contains('*'))
}

/// The bucket's lifecycle rules remove nothing below `lake/` that is there: each rule that removes more than old versions is bound to another
/// prefix.
fn lifecycle_never_touches_the_lake(text: &str) -> Vec<String> {
    let mut rules: Vec<(usize, String)> = Vec::new();
    let mut inside: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let (code, _) = split_comment(line);
        let indent = line.len() - line.trim_start().len();
        if code.trim().is_empty() {
            continue;
        }
        if inside.is_some_and(|key| indent <= key) {
            inside = None;
        }
        if code.trim() == "LifecycleConfiguration:" {
            inside = Some(indent);
        } else if inside.is_some() {
            if code.trim_start().starts_with("- ") {
                rules.push((number + 1, String::new()));
            }
            if let Some((_, rule)) = rules.last_mut() {
                rule.push_str(code.trim().trim_start_matches("- "));
                rule.push('\n');
            }
        }
    }
    let wrong = rules.into_iter().filter(|(_, rule)| {
        let of_what_is_there = |line: &&str| !line.starts_with("Noncurrent");
        let removes = rule
            .lines()
            .filter(of_what_is_there)
            .any(|line| ["Expiration", "Transition"].iter().any(|word| line.contains(word)));
        let prefix = rule.lines().find_map(|line| line.strip_prefix("Prefix:")).map(str::trim).unwrap_or_default();
        let prefix = prefix.trim_matches(['"', '\'']);
        removes && ("lake/".starts_with(prefix) || prefix.starts_with("lake/"))
    });
    wrong.map(|(line, _)| format!("line {line}: the rule reaches `lake/`")).collect()
}

// ── Rules over files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn functions_have_a_package(topology: &Topology, root: &Path) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, function) in &topology.functions {
        let folder = root.join(&function.code_uri);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if !manifest.lines().any(|line| line == format!("name = \"{}\"", function.verb)) {
            violations.push(format!("{id}: {}/Cargo.toml names no package `{}`", function.code_uri, function.verb));
        }
        if !folder.join("src/main.rs").is_file() {
            violations.push(format!("{id}: {}/src/main.rs is missing", function.code_uri));
        }
    }
    violations
}

/// The sample events of a function: file name and JSON; an event that is no JSON is `null`.
fn samples(root: &Path, verb: &str) -> BTreeMap<String, Value> {
    let Ok(folder) = fs::read_dir(root.join("events").join(verb)) else { return BTreeMap::new() };
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    files
        .map(|path| {
            let json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap_or_default();
            (path.file_name().unwrap().to_string_lossy().into_owned(), json)
        })
        .collect()
}

/// Every function has samples, and every sample is an event that this template would bring to its function.
fn functions_have_sample_events(topology: &Topology, root: &Path) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, function) in &topology.functions {
        let samples = samples(root, &function.verb);
        if samples.is_empty() {
            violations.push(format!("{id} has no sample event in events/{}", function.verb));
        }
        for (name, event) in &samples {
            if let Err(reason) = reaches(topology, id, event) {
                violations.push(format!("events/{}/{name}: {reason}", function.verb));
            }
        }
        for trigger in &function.triggers {
            let wanted = match trigger {
                Trigger::Queue { .. } => vec!["two-messages.json", "one-bad.json"],
                Trigger::Schedule { .. } => vec!["tick.json"],
            };
            let missing = wanted.into_iter().filter(|name| !samples.is_empty() && !samples.contains_key(*name));
            violations.extend(missing.map(|name| format!("{id} has no events/{}/{name}", function.verb)));
        }
    }
    let folders = fs::read_dir(root.join("events")).map(|entries| entries.map(|entry| entry.unwrap().file_name()));
    for folder in folders.into_iter().flatten() {
        let verb = folder.to_string_lossy();
        if topology.function_of(&verb).is_none() {
            violations.push(format!("events/{verb} belongs to no function"));
        }
    }
    violations
}

/// Whether this event would reach the function: by a route, a queue or the clock.
fn reaches(topology: &Topology, id: &str, event: &Value) -> Result<(), String> {
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).map(str::to_owned).ok_or(format!("`{pointer}` is no text"))
    };
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        for record in records {
            let queue = text(record, "/eventSourceARN")?;
            let name = queue.rsplit([':', '-']).next().unwrap_or_default();
            if !topology.consumers(name).contains(&id) {
                return Err(format!("the queue `{queue}` does not lead to {id}"));
            }
            for pointer in ["/messageId", "/receiptHandle", "/body", "/md5OfBody", "/awsRegion"] {
                text(record, pointer)?;
            }
            for number in ["ApproximateReceiveCount", "SentTimestamp", "ApproximateFirstReceiveTimestamp"] {
                let value = text(record, &format!("/attributes/{number}"))?;
                value.parse::<u64>().map_err(|_| format!("`{number}` is no number in text"))?;
            }
            if text(record, "/eventSource")? != "aws:sqs" || !record["messageAttributes"].is_object() {
                return Err("a record is not from SQS".to_owned());
            }
        }
        return if records.is_empty() { Err("has no records".to_owned()) } else { Ok(()) };
    }
    if event.get("routeKey").is_some() {
        let (method, path) = (text(event, "/requestContext/http/method")?, text(event, "/rawPath")?);
        let found = topology.route(&method, &path).ok_or(format!("no route takes {method} {path}"))?;
        if found.function != id {
            return Err(format!("{method} {path} leads to {}", found.function));
        }
        for (pointer, wanted) in [
            ("/version", "2.0"),
            ("/routeKey", found.route_key.as_str()),
            ("/requestContext/routeKey", found.route_key.as_str()),
            ("/requestContext/http/path", path.as_str()),
            ("/requestContext/stage", "$default"),
        ] {
            if text(event, pointer)? != wanted {
                return Err(format!("`{pointer}` is not `{wanted}`"));
            }
        }
        let parameters: BTreeMap<String, String> = match event.get("pathParameters") {
            None => BTreeMap::new(),
            Some(value) => serde_json::from_value(value.clone()).map_err(|error| error.to_string())?,
        };
        if parameters != found.path_parameters {
            return Err(format!("`pathParameters` are not {:?}", found.path_parameters));
        }
        let small = |headers: &Value| headers.as_object().is_some_and(|h| h.keys().all(|n| *n == n.to_lowercase()));
        return if small(&event["headers"]) { Ok(()) } else { Err("header names are not in small letters".to_owned()) };
    }
    let ticks = topology.functions[id]
        .triggers
        .iter()
        .any(|trigger| matches!(trigger, Trigger::Schedule { input, .. } if input == event));
    if ticks { Ok(()) } else { Err(format!("is no event that reaches {id}")) }
}

// ── The real template holds each rule, and a broken one shows that the rule can fail ────────────────────────────────────────────────

#[test]
fn every_consumed_queue_has_a_dead_letter_queue() {
    holds(consumed_queues_have_dead_letters(&real()));
    let broken = edited(&[(
        "      RedrivePolicy:\n        deadLetterTargetArn: !GetAtt IndexDeadLetterQueue.Arn\n        maxReceiveCount: 24\n",
        "",
    )]);
    fails(consumed_queues_have_dead_letters(&parse(&broken)), &["IndexQueue has no dead-letter queue"]);
}

#[test]
fn every_consumer_reports_failures_message_by_message() {
    holds(consumers_report_partial_failures(&real()));
    let broken = edited(&[("            FunctionResponseTypes: [ReportBatchItemFailures]\n", "")]);
    fails(consumers_report_partial_failures(&parse(&broken)), &["ConvertFunction fails ConvertQueue"]);
}

#[test]
fn every_message_stays_hidden_for_six_timeouts_and_the_window() {
    holds(visibility_covers_six_timeouts_and_the_window(&real()));
    let broken = edited(&[("VisibilityTimeout: 400", "VisibilityTimeout: 379")]);
    fails(visibility_covers_six_timeouts_and_the_window(&parse(&broken)), &["ConvertQueue hides messages for 379s"]);
    let just = edited(&[("VisibilityTimeout: 400", "VisibilityTimeout: 380")]);
    holds(visibility_covers_six_timeouts_and_the_window(&parse(&just)));
}

#[test]
fn every_message_gets_at_least_five_tries() {
    holds(messages_get_at_least_five_tries(&real()));
    let broken = edited(&[("maxReceiveCount: 24", "maxReceiveCount: 4")]);
    fails(messages_get_at_least_five_tries(&parse(&broken)), &["ConvertQueue gives up after 4 tries"]);
}

#[test]
fn queues_keep_messages_for_4_days_and_dead_letters_for_14() {
    holds(queues_keep_messages_4_days_and_dead_letters_14(&real()));
    let broken = edited(&[("MessageRetentionPeriod: 345600", "MessageRetentionPeriod: 1209600")]);
    fails(queues_keep_messages_4_days_and_dead_letters_14(&parse(&broken)), &["ConvertQueue keeps"]);
    let broken = edited(&[("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600")]);
    fails(queues_keep_messages_4_days_and_dead_letters_14(&parse(&broken)), &["ConvertDeadLetterQueue keeps"]);
}

#[test]
fn quarantine_keeps_records_for_as_long_as_the_api_says() {
    let rule = format!("Prefix: quarantine/\n            ExpirationInDays: {}\n", sluice_wiring_aws::QUARANTINE_DAYS);
    assert!(text().contains(&rule), "{rule}");
}

#[test]
fn every_subscription_is_raw_and_has_its_own_dead_letter_queue() {
    holds(subscriptions_are_raw_and_have_their_own_dead_letters(&real()));
    let broken = edited(&[("RawMessageDelivery: true", "RawMessageDelivery: false")]);
    fails(subscriptions_are_raw_and_have_their_own_dead_letters(&parse(&broken)), &["ConvertSubscription is not raw"]);
    let own = "deadLetterTargetArn: !GetAtt ConvertSubscriptionDeadLetterQueue.Arn";
    let broken = edited(&[(own, "deadLetterTargetArn: !GetAtt ConvertDeadLetterQueue.Arn")]);
    let shared = ["ConvertSubscription shares ConvertDeadLetterQueue"];
    fails(subscriptions_are_raw_and_have_their_own_dead_letters(&parse(&broken)), &shared);
    let broken = edited(&[(&format!("      RedrivePolicy:\n        {own}\n"), "")]);
    let without = ["ConvertSubscription has no dead-letter queue"];
    fails(subscriptions_are_raw_and_have_their_own_dead_letters(&parse(&broken)), &without);
}

#[test]
fn every_queue_has_one_consumer() {
    holds(each_queue_has_one_consumer(&real()));
    let broken = edited(&[("Queue: !GetAtt IndexQueue.Arn", "Queue: !GetAtt ConvertQueue.Arn")]);
    let expected =
        ["ConvertQueue is consumed by [\"ConvertFunction\", \"IndexFunction\"]", "IndexQueue is consumed by []"];
    fails(each_queue_has_one_consumer(&parse(&broken)), &expected);
}

#[test]
fn aws_is_allowed_what_the_wiring_needs() {
    holds(what_aws_must_be_allowed_is_allowed(&real()));
    let broken = edited(&[("FunctionName: !Ref ApiFunction", "FunctionName: !Ref IndexFunction")]);
    fails(what_aws_must_be_allowed_is_allowed(&parse(&broken)), &["apigateway.amazonaws.com may not call ApiFunction"]);
    let broken = edited(&[("Queues: [!Ref AlertsQueue]", "Queues: [!Ref QuarantineQueue]")]);
    fails(
        what_aws_must_be_allowed_is_allowed(&parse(&broken)),
        &["AlarmSubscription may not send to AlertsQueue", "AlertsSubscription may not send to AlertsQueue"],
    );
}

#[test]
fn somebody_is_told_when_something_fails() {
    holds(what_can_fail_has_an_alarm(&real()));
    for (from, to, expected) in [
        (
            "Value: !GetAtt ConvertDeadLetterQueue.QueueName",
            "Value: !GetAtt IndexDeadLetterQueue.QueueName",
            "nobody is told of ApproximateNumberOfMessagesVisible of ConvertDeadLetterQueue",
        ),
        (
            "MetricName: ApproximateAgeOfOldestMessage",
            "MetricName: NumberOfMessagesSent",
            "nobody is told of ApproximateAgeOfOldestMessage of ConvertQueue",
        ),
        ("MetricName: Throttles", "MetricName: Duration", "nobody is told of Throttles of IngestFunction"),
        ("MetricName: 5xx", "MetricName: 4xx", "nobody is told of 5xx of HttpApi"),
        ("MetricName: LedgerProblems", "MetricName: Stored", "nobody is told of LedgerProblems of ApiFunction"),
        (
            "AlarmActions: [!Ref AlarmTopic]",
            "AlarmActions: []",
            "nobody is told of ApproximateAgeOfOldestMessage of ConvertQueue",
        ),
        (
            "AlarmActions: [!Ref AlarmTopic, !Ref DirectAlarmTopic]",
            "AlarmActions: [!Ref AlarmTopic]",
            "nobody is told of ApproximateAgeOfOldestMessage of AlertsQueue",
        ),
    ] {
        fails(what_can_fail_has_an_alarm(&parse(&edited(&[(from, to)]))), &[expected]);
    }
}

#[test]
fn the_bill_counts_the_alarms_that_there_are() {
    let prices: toml::Table = fs::read_to_string(root().join("infra/prices.toml")).unwrap().parse().unwrap();
    assert_eq!(prices["work"]["alarms"].as_float(), Some(real().alarms.len() as f64));
}

#[test]
fn sam_and_cfn_lint_have_nothing_to_say() {
    let runs: [(&str, &[&str]); 2] =
        [("sam", &["validate", "--lint", "--template", "template.yaml"]), ("cfn-lint", &["template.yaml"])];
    for (name, arguments) in runs {
        let Some(mut tool) = sluice_tests::tool(name).unwrap() else { return };
        let output = tool.args(arguments).current_dir(root()).env("AWS_DEFAULT_REGION", "us-east-1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
}

#[test]
fn without_search_nothing_of_it_is_left() {
    let with = |search: &str| {
        let values = BTreeMap::from([("Search".to_owned(), search.to_owned())]);
        Topology::parse_with(&text(), &values).unwrap_or_else(|error| panic!("Search={search}: {error}"))
    };
    let none = with("none");
    assert!(none.function_of("index").is_none());
    assert!(
        none.queues.keys().chain(none.subscriptions.keys()).chain(none.alarms.keys()).all(|id| !id.contains("Index"))
    );
    let api = &none.functions["ApiFunction"].environment;
    assert!(!api["SLUICE_QUEUES"].contains("Index"), "{}", api["SLUICE_QUEUES"]);
    assert_eq!(api["SLUICE_STAGES_OFF"], "index", "the ledger does not wait for it");
    assert_eq!((api["SLUICE_SEARCH_DOMAIN"].as_str(), api["SLUICE_SEARCH_ENDPOINT"].as_str()), ("", ""));
    holds(what_can_fail_has_an_alarm(&none));
    holds(each_queue_has_one_consumer(&none));
    for search in ["domain", "endpoint"] {
        assert!(with(search).function_of("index").is_some());
    }
}

#[test]
fn with_a_console_its_bucket_is_closed_and_every_route_goes_through_the_distribution() {
    let with = |console: &str| {
        let values = BTreeMap::from([("Console".to_owned(), console.to_owned())]);
        Topology::parse_with(&text(), &values).unwrap_or_else(|error| panic!("Console={console}: {error}"))
    };
    let without = with("no");
    assert!(without.buckets.keys().all(|id| !id.contains("Console")));
    let console = with("yes");
    assert!(console.buckets.contains_key("ConsoleBucket"));
    holds(data_is_encrypted_and_can_be_restored(&console));
    for id in ["ApiFunction", "IngestFunction"] {
        assert_eq!(without.functions[id].environment["SLUICE_ORIGIN_SECRET"], "", "nobody is believed");
        let secret = &console.functions[id].environment["SLUICE_ORIGIN_SECRET"];
        assert_eq!(secret, "{{resolve:secretsmanager:ConsoleOriginSecret}}", "{id}");
    }
    let text = text();
    let patterns: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("- PathPattern: ")).collect();
    let routes: BTreeSet<&str> = console.routes.iter().map(|route| route.pattern.as_str()).collect();
    for route in &routes {
        let route = route.replace("{proxy+}", "*");
        let is_covered = |pattern: &&str| {
            **pattern == route || pattern.strip_suffix('*').is_some_and(|beginning| route.starts_with(beginning))
        };
        assert!(patterns.iter().any(is_covered), "{route} is asked of the bucket: {patterns:?}");
    }
    // Nothing that is asked of the functions is kept, and each passes the function that says who asks.
    let behaviours = text.split("- PathPattern: ").skip(1).map(|one| one.lines().take(8).collect::<String>());
    for behaviour in behaviours {
        for part in ["4135ea2d-6df8-44a3-9df3-4b5a84be39ad", "b689b0a8-53d0-40ab-baf2-68738e2966ac", "ConsoleClient."] {
            assert!(behaviour.contains(part), "{part} is not in {behaviour}");
        }
    }
}

/// The stages of samconfig.toml with the parameters that they give.
fn stages() -> BTreeMap<String, BTreeMap<String, String>> {
    let config: toml::Table = fs::read_to_string(root().join("samconfig.toml")).unwrap().parse().unwrap();
    let stages = config.iter().filter(|(_, stage)| stage.get("deploy").is_some());
    let parameters = |stage: &toml::Value| {
        let given = stage["global"]["parameters"]["parameter_overrides"].as_array().unwrap();
        let pairs = given.iter().map(|pair| pair.as_str().unwrap().split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    stages.map(|(name, stage)| (name.clone(), parameters(stage))).collect()
}

#[test]
fn every_stage_of_the_deployment_is_one_that_the_template_takes() {
    let stages = stages();
    assert_eq!(stages.keys().collect::<Vec<_>>(), ["dev", "prod"]);
    for (name, values) in stages {
        let topology = Topology::parse_with(&text(), &values).unwrap_or_else(|error| panic!("{name}: {error}"));
        holds(what_can_fail_has_an_alarm(&topology));
        holds(visibility_covers_six_timeouts_and_the_window(&topology));
    }
}

#[test]
fn the_names_for_an_emulator_are_variables_of_their_functions() {
    let names: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(&fs::read(root().join("infra/local-env.json")).unwrap()).unwrap();
    let topology = real();
    assert_eq!(names.keys().collect::<Vec<_>>(), topology.functions.keys().collect::<Vec<_>>());
    for (function, variables) in names {
        let filled_in =
            |name: &str| SETTINGS.iter().any(|s| s.world != World::Both && s.environment_variable() == name);
        let of_template = topology.functions[&function].environment.keys().map(String::as_str);
        let expected = std::iter::once("AWS_ENDPOINT_URL").chain(of_template.filter(|name| filled_in(name)));
        assert_eq!(variables.keys().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{function}");
    }
}

#[test]
fn the_console_knows_every_queue() {
    let topology = real();
    let given = &topology.functions["ApiFunction"].environment["SLUICE_QUEUES"];
    let mut given: Vec<&str> = given.split(',').map(|pair| pair.split_once('=').unwrap().0).collect();
    given.sort_unstable();
    assert_eq!(given, topology.queues.keys().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn one_verb_names_a_stage() {
    holds(one_verb_names_a_stage_everywhere(&real()));
    let broken = edited(&[("CodeUri: functions/index", "CodeUri: stages/indexing")]);
    let expected = ["IndexFunction runs the stage `indexing`", "IndexFunction is built from `stages/indexing`"];
    fails(one_verb_names_a_stage_everywhere(&parse(&broken)), &expected);
    let broken = text().replace("IndexDeadLetterQueue", "LostQueue");
    fails(one_verb_names_a_stage_everywhere(&parse(&broken)), &["IndexQueue has its dead letters in LostQueue"]);
    let broken = text().replace("IndexSubscriptionDeadLetterQueue", "IndexLost");
    fails(one_verb_names_a_stage_everywhere(&parse(&broken)), &["IndexLost does not end with `Queue`"]);
}

#[test]
fn what_is_stored_on_aws_is_encrypted_and_can_be_restored() {
    holds(data_is_encrypted_and_can_be_restored(&real()));
    let broken = edited(&[
        ("      VersioningConfiguration: { Status: Enabled }\n", ""),
        ("      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true }\n", ""),
        ("      Role: !GetAtt ConvertRole.Arn\n", ""),
    ]);
    let expected = [
        "Resources.LakeBucket.Properties.VersioningConfiguration is missing",
        "Resources.StateTable.Properties.PointInTimeRecoverySpecification is missing",
        "Resources.ConvertFunction.Properties.Role is missing",
    ];
    fails(data_is_encrypted_and_can_be_restored(&parse(&broken)), &expected);
}

#[test]
fn every_setting_is_a_parameter_with_a_description() {
    holds(settings_are_parameters_one_to_one(&real()));
    let broken = edited(&[
        ("        SLUICE_LOG_LEVEL: !Ref LogLevel\n", "        SLUICE_LOG_LEVEL: !Ref TimeZone\n        LEVEL: info\n"),
        (
            "Description: \"Most rows in the answer to one SQL query. The answer says if more were left out.\"",
            "Description: Rows.",
        ),
        ("  # What only AWS needs.\n", "  Colour:\n    Type: String\n    Description: The colour of the thing.\n"),
    ]);
    let violations = settings_are_parameters_one_to_one(&parse(&broken));
    for expected in [
        "ApiFunction: SLUICE_LOG_LEVEL is not fed by the parameter `LogLevel`",
        "ConvertFunction: LEVEL does not begin with `SLUICE_`",
        "parameter SqlMaxRows has no description",
        "parameter LogLevel feeds no setting and is not marked `(AWS only)`",
        "parameter Colour has no default, so nobody can just run it",
    ] {
        assert!(violations.iter().any(|violation| violation == expected), "{expected} is not in {violations:#?}");
    }
    let broken = edited(&[("SLUICE_TIME_ZONE: !Ref TimeZone", "SLUICE_ZONE: !Ref TimeZone")]);
    let violations = settings_are_parameters_one_to_one(&parse(&broken));
    assert!(violations.contains(&"NotifyFunction: SLUICE_ZONE has no parameter `Zone`".to_owned()), "{violations:#?}");
}

#[test]
fn no_default_looks_like_a_secret() {
    holds(defaults_are_no_secrets(&real()));
    let secret = |name: &str, value: &str| {
        let parameter = format!("  {name}:\n    Type: String\n    Default: \"{value}\"\n");
        defaults_are_no_secrets(&parse(&edited(&[("  # What only AWS needs.\n", &parameter)])))
    };
    fails(secret("SlackToken", "x"), &["default of SlackToken looks like a secret"]);
    // Made of pieces, so that no scanner takes this file for a leak.
    fails(secret("Slack", &format!("{}{}", "AKIA", "ABCDEFGH")), &["default of Slack looks like a secret"]);
    fails(secret("Slack", &"a1".repeat(12)), &["default of Slack looks like a secret"]);
    holds(secret("SlackToken", ""));
    holds(secret("SlackUrl", "https://hooks.example.com/v1/2026/11/21"));
    let broken = edited(&[("SLUICE_BUCKET: !Ref LakeBucket", "SLUICE_SMTP_PASSWORD: tiger")]);
    let violations = defaults_are_no_secrets(&parse(&broken));
    assert!(
        violations.contains(&"SLUICE_SMTP_PASSWORD of ApiFunction looks like a secret".to_owned()),
        "{violations:?}"
    );
}

#[test]
fn a_star_in_a_right_is_explained() {
    holds(wide_rights_are_explained(&text()));
    let number = |text: &str, piece: &str| text.lines().position(|line| line.contains(piece)).unwrap() + 1;
    for (from, to) in [
        ("Resource: !GetAtt IndexQueue.Arn", "Resource: \"*\""),
        ("Resource: !GetAtt IndexQueue.Arn", "Resource: !Sub arn:aws:sqs:*:*:IndexQueue"),
        ("Resource: !GetAtt IndexQueue.Arn", "Resource:\n              - a\n              - \"*\""),
        ("Action: sns:Publish", "Action: sns:*"),
        ("Resource: !Sub ${LakeBucket.Arn}/lake/*", "Resource: !Sub ${LakeBucket.Arn}/*"),
        ("Principal: { Service: sns.amazonaws.com }", "Principal: \"*\""),
        ("- !Sub ${LakeBucket.Arn}/* # Every object: none is open to plain HTTP.", "- !Sub ${LakeBucket.Arn}/*"),
    ] {
        let broken = edited(&[(from, to)]);
        let line = number(&broken, to.lines().last().unwrap().trim());
        fails(wide_rights_are_explained(&broken), &[&format!("line {line}: ")]);
    }
    holds(wide_rights_are_explained(&edited(&[("Action: sns:Publish", "Action: sns:* # There is no finer grain.")])));
}

#[test]
fn no_lifecycle_rule_reaches_the_lake() {
    holds(lifecycle_never_touches_the_lake(&text()));
    for prefix in ["Prefix: lake/", "Prefix: lake/web_event/", "Prefix: la", "Prefix: \"\"", "# No prefix."] {
        let broken = edited(&[("Prefix: query-results/", prefix)]);
        let violations = lifecycle_never_touches_the_lake(&broken);
        assert_eq!(violations.len(), 1, "{prefix}: {violations:?}");
    }
}

#[test]
fn every_function_has_its_package() {
    holds(functions_have_a_package(&real(), &root()));
    let empty = tempfile::tempdir().unwrap();
    fs::create_dir_all(empty.path().join("functions/index/src")).unwrap();
    fs::write(empty.path().join("functions/index/src/main.rs"), "").unwrap();
    fs::write(empty.path().join("functions/index/Cargo.toml"), "name = \"indexing\"\n").unwrap();
    let violations = functions_have_a_package(&real(), empty.path());
    assert_eq!(violations.len(), real().functions.len() * 2 - 1, "{violations:#?}");
    assert!(violations.contains(&"IndexFunction: functions/index/Cargo.toml names no package `index`".to_owned()));
}

#[test]
fn every_function_has_sample_events_that_reach_it() {
    holds(functions_have_sample_events(&real(), &root()));
    let empty = tempfile::tempdir().unwrap();
    let violations = functions_have_sample_events(&real(), empty.path());
    assert_eq!(violations.len(), real().functions.len(), "{violations:#?}");
    assert!(violations[0].starts_with("ApiFunction has no sample event in events/api"), "{violations:?}");
}

#[test]
fn a_sample_that_would_not_reach_its_function_is_seen() {
    let topology = real();
    let sample =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(root().join("events").join(path)).unwrap()).unwrap() };
    let broken = |path: &str, pointer: &str, value: Value| {
        let mut event = sample(path);
        *event.pointer_mut(pointer).unwrap() = value;
        event
    };
    for (id, event, reason) in [
        ("ApiFunction", sample("ingest/one-event.json"), "POST /v1/events leads to IngestFunction"),
        ("IndexFunction", sample("convert/two-messages.json"), "the queue `"),
        ("IndexFunction", sample("detect/tick.json"), "is no event that reaches IndexFunction"),
        ("IngestFunction", broken("ingest/one-event.json", "/version", "1.0".into()), "`/version` is not `2.0`"),
        (
            "IngestFunction",
            broken("ingest/one-event.json", "/routeKey", "GET /".into()),
            "`/routeKey` is not `POST /v1",
        ),
        ("ApiFunction", broken("api/search.json", "/pathParameters/proxy", "x".into()), "`pathParameters` are not"),
        ("ApiFunction", broken("api/search.json", "/rawPath", "/v2/search".into()), "no route takes POST /v2/search"),
        ("IndexFunction", broken("index/one-bad.json", "/Records/1/body", 7.into()), "`/body` is no text"),
        (
            "IndexFunction",
            broken("index/one-bad.json", "/Records/0/attributes/SentTimestamp", "now".into()),
            "`SentTime",
        ),
        ("IndexFunction", broken("index/one-bad.json", "/Records", Value::Array(vec![])), "has no records"),
        ("IngestFunction", Value::Null, "is no event that reaches IngestFunction"),
    ] {
        let said = reaches(&topology, id, &event).unwrap_err();
        assert!(said.starts_with(reason), "expected: {reason}\n     got: {said}");
    }
}

/// Bodies of a sample from a queue.
fn bodies(path: &str) -> Vec<(String, Value)> {
    let event: Value = serde_json::from_slice(&fs::read(root().join("events").join(path)).unwrap()).unwrap();
    let records = event["Records"].as_array().unwrap().clone();
    records.into_iter().map(|record| (record["body"].as_str().unwrap().to_owned(), record)).collect()
}

#[test]
fn sample_messages_can_be_unpacked_and_say_what_they_hold() {
    for verb in ["convert", "index", "detect", "notify"] {
        for (body, record) in bodies(&format!("{verb}/two-messages.json")) {
            let unpacked = unpack(&body).unwrap_or_else(|error| panic!("{verb}: {error}"));
            let events = unpacked.events().unwrap();
            let mut types: BTreeMap<String, u64> = BTreeMap::new();
            for event in &events {
                let event = event.as_ref().unwrap_or_else(|(raw, error)| panic!("{verb}: {error} in {raw}"));
                *types.entry(event.event_type.to_string()).or_default() += 1;
            }
            assert_eq!(unpacked.header.count, events.len() as u64, "{verb}");
            assert_eq!(unpacked.header.types, types, "{verb}");
            let areas = record["messageAttributes"]["areas"]["stringValue"].as_str().unwrap();
            assert_eq!(serde_json::from_str::<Vec<String>>(areas).unwrap(), unpacked.header.areas, "{verb}");
        }
    }
    assert!(
        bodies("convert/two-messages.json").iter().any(|(body, _)| body.contains("\"zstd\":")),
        "both forms are shown"
    );
}

#[test]
fn one_message_of_each_bad_sample_is_bad() {
    for verb in ["convert", "index", "detect", "notify"] {
        let bad = bodies(&format!("{verb}/one-bad.json")).iter().filter(|(body, _)| unpack(body).is_err()).count();
        assert_eq!(bad, 1, "{verb}");
    }
}

#[test]
fn sample_quarantine_records_can_be_read_but_for_the_bad_one() {
    for (path, good) in [("quarantine/two-messages.json", 2), ("quarantine/one-bad.json", 1)] {
        let bodies = bodies(path);
        assert_eq!(bodies.len(), 2, "{path}");
        assert_eq!(bodies.iter().filter(|(body, _)| Quarantined::parse(body).is_ok()).count(), good, "{path}");
    }
}

#[test]
fn the_sample_rule_is_a_rule() {
    let body = samples(&root(), "api")["rules-add.json"]["body"].as_str().unwrap().to_owned();
    Rule::parse(&body, Timestamp::default(), || "new".to_owned()).unwrap();
}

#[test]
fn the_alerts_queue_gets_only_messages_with_alerts() {
    let topology = real();
    let filter = &topology.subscriptions["AlertsSubscription"].filter;
    let areas =
        |areas: &[&str]| BTreeMap::from([("areas".to_owned(), areas.iter().map(|a| (*a).to_owned()).collect())]);
    assert!(filter.matches(&areas(&["alert", "game"])));
    assert!(!filter.matches(&areas(&["game", "quote"])));
    let alarms = &topology.subscriptions["AlarmSubscription"];
    assert_eq!((alarms.topic.as_str(), alarms.queue.as_str(), alarms.raw), ("AlarmTopic", "AlertsQueue", true));
    for all in ["ConvertSubscription", "IndexSubscription", "DetectSubscription"] {
        assert!(topology.subscriptions[all].filter.matches(&BTreeMap::new()), "{all}");
    }
}
