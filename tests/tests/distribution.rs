//! The console on AWS, as far as it can be tried without CloudFront: what its functions make of a request, run by Node, and what lies in
//! the bucket, in an emulated account. `deploy.rs` makes the distribution there; no emulator serves one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_tests::ministack::{Ministack, REGION};
use sluice_tests::{skipped, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a CloudFront function of the template makes of an event; `None` where there is no Node, which is said.
fn run(function: &str, event: &Value) -> Option<Value> {
    let template = fs::read_to_string(root().join("template.yaml")).unwrap();
    let (_, resource) = template.split_once(&format!("\n  {function}:\n")).unwrap();
    let (_, code) = resource.split_once("      FunctionCode: |\n").unwrap();
    let code: Vec<&str> = code.lines().take_while(|line| line.starts_with("        ")).collect();
    let program = format!("{}\nconsole.log(JSON.stringify(handler({event})))", code.join("\n"));
    let Ok(output) = Command::new("node").arg("-e").arg(program).output() else {
        skipped("no Node, which runs CloudFront's functions").unwrap();
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn paths_without_a_file_are_the_start_page() {
    for (path, page) in [
        ("/", "/index.html"),
        ("/monitor", "/index.html"),
        ("/explore/search", "/index.html"),
        ("/index.html", "/index.html"),
        ("/assets/app-1a2b3c.js", "/assets/app-1a2b3c.js"),
        ("/no-such-file.js", "/no-such-file.js"),
    ] {
        let Some(made) = run("ConsolePages", &json!({"request": {"uri": path, "headers": {}}})) else { return };
        assert_eq!(made["uri"], page, "{path}");
    }
}

#[test]
fn what_a_client_says_of_itself_is_written_over() {
    let headers = json!({
        "host": {"value": "console.example"}, "true-client-ip": {"value": "10.0.0.1"},
        "x-forwarded-host": {"value": "evil.example"}, "authorization": {"value": "Bearer k"},
    });
    let event = json!({"viewer": {"ip": "2001:db8::7"}, "request": {"uri": "/v1/events", "headers": headers}});
    let Some(made) = run("ConsoleClient", &event) else { return };
    assert_eq!(made["uri"], "/v1/events");
    let expected = json!({
        "host": {"value": "console.example"}, "true-client-ip": {"value": "2001:db8::7"},
        "x-forwarded-host": {"value": "console.example"}, "authorization": {"value": "Bearer k"},
    });
    assert_eq!(made["headers"], expected);
}

#[test]
fn the_headers_of_the_template_are_those_that_the_entry_reads() {
    let template = fs::read_to_string(root().join("template.yaml")).unwrap();
    let front = fs::read_to_string(root().join("shared/entry/src/front.rs")).unwrap();
    for (in_template, in_front) in [
        ("HeaderName: x-sluice-origin", "SECRET: &str = \"x-sluice-origin\""),
        ("headers['true-client-ip']", "CLIENT: &str = \"true-client-ip\""),
        ("headers['x-forwarded-host']", "HOST: &str = \"x-forwarded-host\""),
    ] {
        assert!(template.contains(in_template) && front.contains(in_front), "{in_template}, {in_front}");
    }
}

#[test]
fn pages_lie_in_the_bucket_with_their_types_and_for_as_long_as_they_may_be_kept() {
    let Some(ministack) = Ministack::start().unwrap() else { return };
    let account = ministack.account();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("assets")).unwrap();
    for name in ["index.html", "theme.js", "icon.svg", "assets/app-1a2b.js", "assets/app-1a2b.css", "assets/a-3c.woff2"]
    {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut python = tool("python")?.ok_or_else(|| anyhow::anyhow!("there is no Python"))?;
        python.args(arguments).envs(account.environment()).env("AWS_DEFAULT_REGION", REGION);
        Ok::<_, anyhow::Error>(python.output()?)
    };
    let script = root().join("infra/upload_console.py").display().to_string();
    let from = folder.path().display().to_string();
    let make = "
import boto3, sys
place = {'LocationConstraint': sys.argv[1]}
boto3.client('s3').create_bucket(Bucket='console', CreateBucketConfiguration=place)";
    let made = run(&["-c", make, REGION]).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let upload = ["--bucket", "console", "--folder", &from];
    let said = run(&[[script.as_str()].as_slice(), &upload].concat()).unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("6 files of the console are in console"));
    let ask = "
import boto3, json
s3, found = boto3.client('s3'), {}
for one in s3.list_objects_v2(Bucket='console')['Contents']:
    head = s3.get_object(Bucket='console', Key=one['Key'])
    found[one['Key']] = [head['ContentType'], head['CacheControl'], head['Body'].read().decode()]
print(json.dumps(found))";
    let found: Value = serde_json::from_slice(&run(&["-c", ask]).unwrap().stdout).unwrap();
    let (year, never) = ("public, max-age=31536000, immutable", "no-cache");
    let expected = json!({
        "index.html": ["text/html; charset=utf-8", never, "index.html"],
        "theme.js": ["text/javascript; charset=utf-8", never, "theme.js"],
        "icon.svg": ["image/svg+xml; charset=utf-8", never, "icon.svg"],
        "assets/app-1a2b.js": ["text/javascript; charset=utf-8", year, "assets/app-1a2b.js"],
        "assets/app-1a2b.css": ["text/css; charset=utf-8", year, "assets/app-1a2b.css"],
        "assets/a-3c.woff2": ["font/woff2", year, "assets/a-3c.woff2"],
    });
    assert_eq!(found, expected);

    fs::write(folder.path().join("a.blob"), "?").unwrap();
    let refused = run(&[[script.as_str()].as_slice(), &upload].concat()).unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("`a.blob` is of a type that is not known"), "{why}");
    fs::remove_file(folder.path().join("index.html")).unwrap();
    let refused = run(&[[script.as_str()].as_slice(), &upload].concat()).unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("has no index.html"), "{why}");
}
