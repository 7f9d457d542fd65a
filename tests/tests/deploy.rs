//! The real template in an emulated account: deployed by `sam deploy`, used through its HTTP API, looked at by other programs, and held
//! against the one-machine runtime.
//!
//! The functions are those of this build, put where `sam build` would have put them. A machine that has to run an account, its functions and
//! an OpenSearch server on two cores makes functions run out of their time now and then, as it happens on AWS too. So the test does what
//! a client and an operator do there: a request that got no answer is sent again, and what a function gave back is waited for, which is a
//! matter of minutes on the emulator's clock. What is asserted in the end is exact.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_domain::demo;
use sluice_domain::event::Shared;
use sluice_domain::message::{self, Entry};
use sluice_domain::time::Timestamp;
use sluice_tests::grafana::{self, Asks, Range};
use sluice_tests::ministack::{Account, Ministack, REGION};
use sluice_tests::opensearch::OpenSearchServer;
use sluice_tests::trino::{Trino, glue_catalog};
use sluice_tests::{Server, binary, eventually_within, send_raw, sluice_text, tool};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const STACK: &str = "sluice-test";
/// Day of the sample events.
const DAY: &str = "2026-11-20";
/// How long the stack may take for what is asked of it.
const PATIENCE: Duration = Duration::from_secs(600);
/// What does not move for this long has been given back, and waits for the end of its visibility time-out.
const STUCK: Duration = Duration::from_secs(15);
/// Longer than any queue's visibility time-out.
const VISIBLE_AGAIN: Duration = Duration::from_secs(401);
/// How often a call is tried to which the gateway gave no answer of the function.
const TRIES: usize = 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The stack as it was deployed.
struct Deployed {
    ministack: Ministack,
    account: Account,
    /// Data folder for the command line; nothing is in it.
    folder: tempfile::TempDir,
    /// Logical id → physical id.
    resources: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
    key: String,
    /// Where its search is; `None` where this machine lacks what the server needs, which is said.
    search: Option<OpenSearchServer>,
}

impl Deployed {
    /// Deploys the template with the functions of this build; `None` where there is no emulator, which is said.
    fn start() -> anyhow::Result<Option<Self>> {
        let Some(ministack) = Ministack::start()? else {
            return Ok(None);
        };
        let Some(mut sam) = tool("sam")? else {
            return Ok(None);
        };
        let search = OpenSearchServer::start(&[])?;
        // Requests of the HTTP API say nothing of an account, and so reach the emulator's first one.
        let mut account = ministack.account();
        account.access_key = "000000000000".to_owned();
        let folder = tempfile::tempdir()?;
        let built = folder.path().join("built");
        std::fs::create_dir_all(&built)?;
        for file in ["template.yaml", "samconfig.toml"] {
            std::fs::copy(root().join(file), built.join(file))?;
        }
        for verb in ["api", "commit", "compact", "convert", "detect", "index", "ingest", "notify", "quarantine"] {
            let code = built.join("functions").join(verb);
            std::fs::create_dir_all(&code)?;
            // What is left of a development build without its debug information is small enough to be handed about.
            let stripped = Command::new("strip")
                .arg("-o")
                .arg(code.join("bootstrap"))
                .arg(binary().with_file_name(verb))
                .status()?;
            anyhow::ensure!(
                stripped.success(),
                "cannot strip `{verb}`: build it with `cargo build --workspace --bins`"
            );
        }
        let search_parameters = match &search {
            Some(server) => format!("Search=endpoint SearchSign=none SearchEndpoint={}", server.url()),
            None => "Search=none".to_owned(),
        };
        let output = sam
            .args(["deploy", "--config-env", "dev", "--template-file", "template.yaml", "--stack-name", STACK])
            .arg("--parameter-overrides")
            .arg(format!("CreateMailIdentity=yes MailFrom=alerts@sluice.example Console=yes {search_parameters}"))
            .current_dir(&built)
            .envs(account.environment())
            .env("AWS_DEFAULT_REGION", REGION)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let mut deployed = Self {
            ministack,
            account,
            folder,
            resources: BTreeMap::new(),
            outputs: BTreeMap::new(),
            key: String::new(),
            search,
        };
        let found = deployed.ask(
            "
cf = boto3.client('cloudformation')
stack = cf.describe_stacks(StackName=argv[0])['Stacks'][0]
resources = cf.describe_stack_resources(StackName=argv[0])['StackResources']
secret = [r['PhysicalResourceId'] for r in resources if r['LogicalResourceId'] == 'AdminKeySecret'][0]
answer = {
    'outputs': {o['OutputKey']: o['OutputValue'] for o in stack['Outputs']},
    'resources': {r['LogicalResourceId']: r['PhysicalResourceId'] for r in resources},
    'key': boto3.client('secretsmanager').get_secret_value(SecretId=secret)['SecretString'],
}",
            &[STACK],
        )?;
        deployed.resources = serde_json::from_value(found["resources"].clone())?;
        deployed.outputs = serde_json::from_value(found["outputs"].clone())?;
        deployed.key = found["key"].as_str().unwrap_or_default().to_owned();
        Ok(Some(deployed))
    }

    /// Asks the account by a Python program that sets `answer`; `boto3`, `json` and `argv` are at hand.
    fn ask(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let program = format!("import boto3, json, sys\nargv = sys.argv[1:]\n{program}\nprint(json.dumps(answer))");
        let Some(mut python) = tool("python")? else { anyhow::bail!("there is no Python") };
        let output = python
            .arg("-c")
            .arg(program)
            .args(arguments)
            .envs(self.account.environment())
            .env("AWS_DEFAULT_REGION", REGION)
            .output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What `worlds.py` finds.
    fn compare(&self, asked: &Value) -> anyhow::Result<Value> {
        let Some(mut python) = tool("python")? else { anyhow::bail!("there is no Python") };
        let output = python
            .arg(root().join("tests/worlds.py"))
            .arg(asked.to_string())
            .envs(self.account.environment())
            .env("AWS_DEFAULT_REGION", REGION)
            .output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Path of the HTTP API on the emulator, whose own names (`ID.execute-api.…`) not every system resolves.
    fn api_path(&self) -> String {
        format!("/_aws/execute-api/{}/$default", self.resources["HttpApi"])
    }

    /// Runs the command line against the deployed HTTP API.
    fn sluice(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let url = format!("{}{}", self.ministack.url, self.api_path());
        let all: Vec<&str> = ["--url", &url, "--key", &self.key].into_iter().chain(arguments.iter().copied()).collect();
        sluice_text(&self.folder.path().join("none"), &all)
    }

    /// One call of the HTTP API, again where the gateway got no answer from the function.
    fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> anyhow::Result<(u16, Value)> {
        let headers = [("content-type", content_type), ("authorization", &format!("Bearer {}", self.key) as &str)];
        let mut tries = 1;
        loop {
            let reply = send_raw(&self.ministack.url, method, &format!("{}{path}", self.api_path()), &headers, body)?;
            if tries == TRIES || !matches!(reply.status, 429 | 500 | 502..=504) {
                return Ok((reply.status, reply.json()));
            }
            tries += 1;
        }
    }

    fn ask_json(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.request("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// Messages in each queue, in sight or not, by logical id.
    fn depths(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let queues: Vec<String> = self
            .resources
            .iter()
            .filter(|(id, _)| id.ends_with("Queue"))
            .map(|(id, url)| format!("{id}={url}"))
            .collect();
        let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
        let found = self.ask(
            "
sqs, answer = boto3.client('sqs'), {}
names = ['ApproximateNumberOfMessages', 'ApproximateNumberOfMessagesNotVisible', 'ApproximateNumberOfMessagesDelayed']
for pair in argv:
    name, url = pair.split('=', 1)
    answer[name] = sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)['Attributes'].values())",
            &queues,
        )?;
        Ok(serde_json::from_value(found)?)
    }

    /// Waits until every queue but these is empty. What a function gave back is hidden for its queue's visibility time-out: where nothing
    /// moves, the emulator's clock goes on by that.
    fn settle(&self, but: &[&str]) -> anyhow::Result<()> {
        let mut depths = BTreeMap::new();
        let mut moved = Instant::now();
        eventually_within(PATIENCE, "the queues are empty", || {
            let now = self.depths()?;
            if now != depths {
                (depths, moved) = (now, Instant::now());
            } else if moved.elapsed() > STUCK {
                eprintln!("nothing moves, so it is {} s later: {depths:?}", VISIBLE_AGAIN.as_secs());
                self.ministack.advance(VISIBLE_AGAIN);
                moved = Instant::now();
            }
            Ok(depths.iter().all(|(id, depth)| *depth == 0 || but.contains(&id.as_str())))
        })
        .map_err(|e| e.context(format!("{depths:?}")))
    }

    /// Rows and distinct ids of each table, by PyIceberg, which finds the tables in Glue and their files in the bucket.
    fn rows(&self) -> anyhow::Result<BTreeMap<String, (u64, u64)>> {
        let found = self.ask(
            "
sys.path.insert(0, argv[1])
from worlds import glue
catalog = glue()
ids = {name[1]: catalog.load_table(name).scan(selected_fields=('id',)).to_arrow()['id'].to_pylist() for name in catalog.list_tables(argv[0])}
answer = {table: [len(all), len(set(all))] for table, all in ids.items()}",
            &[&self.outputs["Database"], &root().join("tests").to_string_lossy()],
        )?;
        Ok(serde_json::from_value(found)?)
    }

    /// The mails that SES took in this account.
    fn mails(&self) -> anyhow::Result<Vec<Value>> {
        let reply = send_raw(&self.ministack.url, "GET", "/_ministack/ses/messages", &[], b"")?.json();
        Ok(reply["messages"][&self.account.access_key].as_array().cloned().unwrap_or_default())
    }
}

#[test]
fn events_take_the_whole_way_through_the_deployed_stack_as_they_do_on_one_machine() {
    let Some(stack) = Deployed::start().unwrap() else {
        return;
    };
    the_console_is_filled_and_its_distribution_is_believed(&stack);
    a_day_of_sample_events_arrives(&stack);
    the_two_worlds_agree(&stack);
    let trino = Trino::start().unwrap();
    if let Some(trino) = &trino {
        trino_rewrites_the_tables(&stack, trino);
    }
    one_poisoned_message_fails_alone(&stack);
    if let Some(trino) = &trino {
        trino_counts_what_pyiceberg_counts(&stack, trino);
    }
}

/// Uploads pages by the stack's outputs, and asks as the distribution does, which the emulator makes and does not serve.
fn the_console_is_filled_and_its_distribution_is_believed(stack: &Deployed) {
    let pages = tempfile::tempdir().unwrap();
    std::fs::write(pages.path().join("index.html"), "<!doctype html>").unwrap();
    let mut upload = tool("python").unwrap().unwrap();
    upload.arg(root().join("infra/upload_console.py")).args(["--stack", STACK, "--folder"]).arg(pages.path());
    let said = upload.envs(stack.account.environment()).env("AWS_DEFAULT_REGION", REGION).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let found = stack
        .ask(
            "
cloudfront, functions = boto3.client('cloudfront'), boto3.client('lambda')
config = cloudfront.get_distribution_config(Id=argv[1])['DistributionConfig']
api = [origin for origin in config['Origins']['Items'] if origin['Id'] == 'api'][0]
variables = lambda name: functions.get_function_configuration(FunctionName=name)['Environment']['Variables']
answer = {
    'page': boto3.client('s3').get_object(Bucket=argv[0], Key='index.html')['Body'].read().decode(),
    'forgotten': cloudfront.list_invalidations(DistributionId=argv[1])['InvalidationList']['Quantity'],
    'sent': api['CustomHeaders']['Items'][0]['HeaderValue'],
    'known': [variables(name)['SLUICE_ORIGIN_SECRET'] for name in argv[2:]],
}",
            &[
                &stack.outputs["ConsoleBucket"],
                &stack.outputs["ConsoleDistribution"],
                &stack.resources["ApiFunction"],
                &stack.resources["IngestFunction"],
            ],
        )
        .unwrap();
    assert_eq!((&found["page"], &found["forgotten"]), (&json!("<!doctype html>"), &json!(1)));
    let secret = found["sent"].as_str().unwrap();
    assert!(secret.len() == 43 && found["known"] == json!([secret, secret]), "{found}");
    // The emulator's own clients are at 127.0.0.1, which gets the metrics without a key.
    let metrics = |headers: &[(&str, &str)]| {
        let path = format!("{}/metrics", stack.api_path());
        let ask = || send_raw(&stack.ministack.url, "GET", &path, headers, b"").unwrap().status;
        (0..TRIES).map(|_| ask()).find(|status| !matches!(status, 429 | 500 | 502..=504))
    };
    let elsewhere = ("true-client-ip", "203.0.113.7");
    assert_eq!(metrics(&[]), Some(200));
    assert_eq!(metrics(&[elsewhere]), Some(200), "nobody is believed without the secret");
    assert_eq!(metrics(&[elsewhere, ("x-sluice-origin", "wrong")]), Some(200));
    assert_eq!(metrics(&[elsewhere, ("x-sluice-origin", secret)]), Some(401));
}

/// Sends the demo's day and finds it in the lake, in search and in the inbox.
fn a_day_of_sample_events_arrives(stack: &Deployed) {
    // The first call of a function waits for its start.
    assert_eq!(stack.request("GET", "/v1/rules", "", b"").unwrap().0, 200);
    stack.sluice(&["demo", "--day", DAY]).unwrap();
    stack.settle(&[]).unwrap();
    let expected: BTreeMap<String, u64> =
        demo::EXPECTED.by_type.iter().map(|(name, count)| (name.replace('.', "_"), *count as u64)).collect();
    let rows = stack.rows().unwrap();
    for (table, count) in &expected {
        assert_eq!(rows.get(table), Some(&(*count, *count)), "{table} by PyIceberg");
    }
    let (status, reply) = stack.request("GET", "/v1/tables", "", b"").unwrap();
    assert_eq!(status, 200, "{reply}");
    for table in reply["tables"].as_array().unwrap() {
        let name = table["name"].as_str().unwrap();
        assert_eq!(table["rows"], rows.get(name).map_or(0, |(rows, _)| *rows), "{name} by the catalog");
    }
    let mails = demo::EXPECTED.alerts.len();
    assert_eq!(rows["alert_fired"], (mails as u64, mails as u64));
    assert_eq!(stack.mails().unwrap().len(), mails, "{:#?}", stack.mails().unwrap());
    // The emulator's Athena does not read Iceberg tables: what is seen here is that it is asked, and answers.
    let sql = json!({"sql": "SELECT 42 AS answer"});
    let (status, reply) = stack.ask_json("/v1/sql", &sql).unwrap();
    assert_eq!(
        (status, &reply["columns"][0]["name"], &reply["rows"]),
        (200, &json!("answer"), &json!([[42]])),
        "{reply}"
    );
    let (status, reply) = stack.request("GET", "/v1/status", "", b"").unwrap();
    assert_eq!((status, &reply["ledger"]["adds_up"]), (200, &json!(true)), "{reply:#}");
    if stack.search.is_some() {
        let query = json!({"size": 0, "query": {"term": {"type": "http.access"}}});
        let (status, reply) = stack.ask_json("/v1/search", &query).unwrap();
        assert_eq!((status, &reply["hits"]["total"]["value"]), (200, &json!(expected["http_access"])), "{reply}");
    }
}

/// Feeds both worlds what [`mixed`] makes, beside the demo's day, and compares all that came of it.
fn the_two_worlds_agree(stack: &Deployed) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).unwrap();
    sluice_text(&data, &["demo", "--day", DAY]).unwrap();
    let (lines, rejected) = mixed();
    assert_eq!(lines.len(), 10_000);
    for request in lines.chunks(500) {
        let body = request.join("\n");
        let (status, here) = server.post("/v1/events", "application/x-ndjson", body.as_str()).unwrap();
        assert_eq!(status, 202, "{here}");
        let (status, there) = stack.request("POST", "/v1/events", "application/x-ndjson", body.as_bytes()).unwrap();
        assert_eq!(status, 202, "{there}");
        assert_eq!((&here["accepted"], &here["errors"]), (&there["accepted"], &there["errors"]));
    }
    server.settle().unwrap();
    stack.settle(&[]).unwrap();
    let asked = json!({
        "data": data, "local": server.url, "key": server.key, "bucket": stack.outputs["Bucket"],
        "database": stack.outputs["Database"],
        "mails": format!("{}/_ministack/ses/messages", stack.ministack.url), "account": stack.account.access_key,
        "opensearch": stack.search.as_ref().map(OpenSearchServer::url),
    });
    let mut compared = json!({});
    // OpenSearch finds what it created within a second.
    eventually_within(Duration::from_secs(60), "the two worlds agree", || {
        compared = stack.compare(&asked)?;
        let kinds = compared.as_object().into_iter().flat_map(|kinds| kinds.values());
        Ok(kinds.into_iter().all(|kind| kind["only_local"] == json!([]) && kind["only_aws"] == json!([])))
    })
    .map_err(|e| e.context(format!("{compared:#}")))
    .unwrap();
    let alerts = compared["mails"]["aws"].as_u64().unwrap();
    assert!(alerts > demo::EXPECTED.alerts.len() as u64, "the other days have jumps too: {compared:#}");
    let stored = demo::EXPECTED.events as u64 + lines.len() as u64 - rejected + alerts;
    assert_eq!((&compared["rows"]["aws"], &compared["rejections"]["aws"]), (&json!(stored), &json!(rejected)));
    if stack.search.is_some() {
        assert_eq!(compared["documents"]["aws"], stored, "{compared:#}");
    }
}

/// Ten thousand lines of NDJSON, and how many of them are rejected: two of the demo's days in the order of their times, and among them in each
/// hundred an event without a schema, and one that cannot be accepted.
fn mixed() -> (Vec<String>, u64) {
    let days = ["2026-11-10", "2026-11-11"].map(|day| Timestamp::parse_rfc3339(&format!("{day}T12:00:00Z")).unwrap());
    let mut events = days.into_iter().flat_map(demo::day);
    let mut rejected = 0;
    let lines = (0..10_000).map(|n| match n % 100 {
        17 => json!({"id": format!("order-{n}"), "source": "shop", "type": "shop.order", "time": "2026-11-10T08:00:00.123Z",
            "data": {"total": n, "note": "가벼운 운동화 \"x\"", "lines": [1, {"price": 12.50}]}})
        .to_string(),
        71 => {
            rejected += 1;
            match n % 400 / 100 {
                0 => r#"{"id": "1", "source": "shop", "type": "http.access", "data": {"method": "GET", "path": "/", "status": "abc"}}"#.into(),
                1 => format!(r#"{{"id": "{n}", "type": "#),
                2 => json!({"id": n.to_string(), "type": "web.event", "data": {}}).to_string(),
                _ => json!({"id": n.to_string(), "source": "s", "type": "web.event", "time": "yesterday"}).to_string(),
            }
        }
        _ => events.next().unwrap(),
    });
    (lines.collect(), rejected)
}

/// The engine behind Athena makes few files of many; what the stack stores afterwards is appended to those.
fn trino_rewrites_the_tables(stack: &Deployed, trino: &Trino) {
    let Account { url, access_key, secret_key, .. } = &stack.account;
    trino.add_catalog("deployed", &glue_catalog(url, REGION, access_key, secret_key)).unwrap();
    let tables = trino_counts_what_pyiceberg_counts(stack, trino);
    let files = || -> u64 {
        let of = |table: &String| {
            let sql = format!("SELECT count(*) FROM deployed.{}.\"{table}$files\"", stack.outputs["Database"]);
            trino.query(&sql).unwrap()[0][0].as_u64().unwrap()
        };
        tables.iter().map(of).sum()
    };
    let before = files();
    for table in &tables {
        trino.query(&format!("ALTER TABLE deployed.{}.{table} EXECUTE optimize", stack.outputs["Database"])).unwrap();
    }
    assert!(files() < before, "{before} files are as many as before");
    trino_counts_what_pyiceberg_counts(stack, trino);
    // What the dashboards ask of Athena, it answers.
    let from = Timestamp::parse_rfc3339(&format!("{DAY}T00:00:00Z")).unwrap().micros() / 1_000_000;
    for question in grafana::questions(Range { from, to: from + 86_400 }).unwrap() {
        let Asks::Athena(sql) = question.asks else { continue };
        let sql = tables.iter().fold(sql, |sql, table| {
            sql.replace(&format!("FROM {table}"), &format!("FROM deployed.{}.{table}", stack.outputs["Database"]))
        });
        let rows = trino.query(&sql).unwrap_or_else(|e| panic!("{}: {e}", question.place));
        assert!(!rows.is_empty(), "{}: {sql}", question.place);
    }
}

/// Answers the tables.
fn trino_counts_what_pyiceberg_counts(stack: &Deployed, trino: &Trino) -> Vec<String> {
    let tables = stack.rows().unwrap();
    for (table, (rows, ids)) in &tables {
        let sql = format!("SELECT count(*), count(DISTINCT id) FROM deployed.{}.{table}", stack.outputs["Database"]);
        assert_eq!(trino.query(&sql).unwrap(), [[json!(rows), json!(ids)]], "{table}");
    }
    tables.into_keys().collect()
}

/// Ten messages come as one batch; the batch of one of them is held by a process that never comes back and whose lease does not end.
fn one_poisoned_message_fails_alone(stack: &Deployed) {
    let (before, _) = stack.rows().unwrap()["game_start"];
    let event = |n: usize| {
        let id = format!("poison-{n}");
        let text = json!({"id": id, "source": "s", "type": "game.start", "time": format!("{DAY}T10:00:00Z"), "specversion": "1.0",
            "data": {"play_id": id, "clicked_at": format!("{DAY}T10:00:00Z")}});
        Entry { event_type: "game.start".into(), text: text.to_string() }
    };
    let received = Timestamp::parse_rfc3339(&format!("{DAY}T10:00:01Z")).unwrap();
    let shared = Shared { received, client_ip: None, user_agent: None };
    let bodies: Vec<String> =
        (0..10).map(|n| message::pack(&format!("poison-{n}"), &shared, &[event(n)]).unwrap().body).collect();
    stack
        .ask(
            "
item = lambda pk, sk, value: {'pk': {'S': pk}, 'sk': {'S': sk}, 'v': {'M': value}, 'n': {'N': '1'}}
table = boto3.client('dynamodb')
table.put_item(TableName=argv[0], Item=item('group', 'held', {'state': {'S': '\"pending\"'}, 'lease_until_us': {'N': '4102444800000000'}}))
table.put_item(TableName=argv[0], Item=item('batch', 'poison-7', {'group': {'S': '\"held\"'}, 'publish': {'S': '\"poison-7\"'}}))
entries = [{'Id': str(n), 'MessageBody': body} for n, body in enumerate(json.loads(argv[2]))]
answer = boto3.client('sqs').send_message_batch(QueueUrl=argv[1], Entries=entries).get('Failed', [])",
            &[&stack.outputs["Table"], &stack.resources["ConvertQueue"], &json!(bodies).to_string()],
        )
        .unwrap();
    eventually_within(PATIENCE, "the nine others are stored", || {
        Ok(stack.rows()?["game_start"] == (before + 9, before + 9))
    })
    .unwrap();
    eventually_within(PATIENCE, "the poisoned one is in the dead-letter queue", || {
        let depths = stack.depths()?;
        if depths["ConvertDeadLetterQueue"] == 0 {
            // It is hidden for the queue's visibility time-out after each try.
            stack.ministack.advance(VISIBLE_AGAIN);
        }
        Ok(depths["ConvertDeadLetterQueue"] == 1)
    })
    .unwrap();
    stack.settle(&["ConvertDeadLetterQueue"]).unwrap();
    assert_eq!(stack.rows().unwrap()["game_start"], (before + 9, before + 9), "no neighbour was stored again");
}
