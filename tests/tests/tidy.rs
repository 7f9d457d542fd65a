//! Rules about the repository itself: which crate may know which, and what every function must have.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use anyhow::Context as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Package → packages of this workspace that it depends on, without those that only tests use.
fn dependencies() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let name = |p: &Value| p["name"].as_str().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = packages.iter().map(name).collect();
    Ok(packages
        .iter()
        .map(|p| {
            let uses = p["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|d| d["kind"] != "dev")
                .map(name)
                .filter(|n| own.contains(n));
            (name(p), uses.collect())
        })
        .collect())
}

const FUNCTIONS: [&str; 9] =
    ["api", "commit", "compact", "convert", "detect", "index", "ingest", "notify", "quarantine"];

/// What a package may depend on.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    Some(match package {
        "sluice-domain" | "sluice-ports" => &[],
        "sluice-stages" => &["sluice-domain", "sluice-ports"],
        "sluice-columnar" => &["sluice-domain"],
        "sluice-adapters-http" | "sluice-adapters-opensearch" | "sluice-statement" | "sluice-testkit" => {
            &["sluice-ports"]
        }
        "sluice-adapters-iceberg" => &["sluice-domain", "sluice-ports"],
        "sluice-adapters-aws" => &["sluice-adapters-iceberg", "sluice-ports", "sluice-statement"],
        "sluice-adapters-embedded" => &["sluice-ports", "sluice-statement"],
        "sluice-simulation" => &["sluice-domain", "sluice-ports", "sluice-stages", "sluice-testkit"],
        "sluice-entry" => &["sluice-domain", "sluice-ports", "sluice-stages"],
        "sluice-fuzz" => &["sluice-columnar", "sluice-domain", "sluice-stages", "sluice-statement"],
        "sluice-wiring" => &[
            "sluice-adapters-embedded",
            "sluice-adapters-http",
            "sluice-adapters-iceberg",
            "sluice-columnar",
            "sluice-domain",
            "sluice-entry",
            "sluice-ports",
            "sluice-stages",
            "sluice-template",
        ],
        "sluice-wiring-aws" => &[
            "sluice-adapters-aws",
            "sluice-adapters-http",
            "sluice-adapters-iceberg",
            "sluice-adapters-opensearch",
            "sluice-columnar",
            "sluice-domain",
            "sluice-entry",
            "sluice-ports",
            "sluice-stages",
        ],
        "sluice" => {
            &["sluice-domain", "sluice-entry", "sluice-ports", "sluice-stages", "sluice-template", "sluice-wiring"]
        }
        p if FUNCTIONS.contains(&p) => &["sluice-wiring-aws"],
        "sluice-tests" | "sluice-bench" => return None,
        _ => &[],
    })
}

fn violations(dependencies: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (package, uses) in dependencies {
        let Some(allowed) = allowed(package) else { continue };
        found.extend(uses.iter().filter(|u| !allowed.contains(&u.as_str())).map(|u| format!("{package} → {u}")));
    }
    found
}

#[test]
fn crates_depend_only_in_the_direction_of_the_arrows() {
    let dependencies = dependencies().unwrap();
    assert!(dependencies.len() > 10, "{dependencies:?}");
    assert_eq!(violations(&dependencies), [] as [String; 0]);
}

#[test]
fn an_arrow_in_the_wrong_direction_is_found() {
    let wrong = BTreeMap::from([
        ("sluice-ports".to_owned(), BTreeSet::from(["sluice-domain".to_owned()])),
        ("convert".to_owned(), BTreeSet::from(["ingest".to_owned()])),
    ]);
    assert_eq!(violations(&wrong), ["convert → ingest", "sluice-ports → sluice-domain"]);
}

/// Every crate that a package links.
fn linked(package: &str) -> BTreeSet<String> {
    let arguments =
        ["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn a_function_links_only_what_it_calls() {
    // The engines of one machine, and second libraries for what there is one for.
    let nowhere = ["aws-config", "aws-lc-sys", "datafusion", "native-tls", "openssl-sys", "rusqlite", "tantivy"];
    let somewhere = [
        ("parquet", ["api", "commit", "compact", "convert"].as_slice()),
        ("iceberg", &["api", "commit", "compact"]),
        ("sqlparser", &["api"]),
        ("opensearch", &["api", "compact", "index"]),
        ("aws-sdk-sesv2", &["api", "notify"]),
        ("aws-sdk-sns", &["api", "detect", "ingest", "notify"]),
        ("aws-sdk-athena", &["api"]),
    ];
    for function in FUNCTIONS {
        let linked = linked(function);
        assert!(linked.contains("lambda_runtime") && linked.len() > 50, "{function}: {linked:?}");
        for library in nowhere {
            assert!(!linked.contains(library), "`{function}` links `{library}`");
        }
        for (library, by) in &somewhere {
            assert_eq!(linked.contains(*library), by.contains(&function), "`{library}` in `{function}`");
        }
    }
}

#[test]
fn every_function_is_a_package_of_its_verb() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<String> = std::fs::read_dir(root.join("functions"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, FUNCTIONS);
    let packages = dependencies().unwrap();
    assert!(FUNCTIONS.iter().all(|f| packages.contains_key(*f)));
}

#[test]
fn names_that_sort_by_kind_are_not_used() {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if ["utils", "util", "common", "helpers", "helper", "manager", "types", "misc"].contains(&stem.as_str()) {
                found.push(path.display().to_string());
            }
            if path.is_dir() && stem != "target" && !stem.starts_with('.') {
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    for part in ["shared", "local", "functions", "tests", "simulation", "bench", "docs"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part), &mut found);
    }
    assert_eq!(found, [] as [String; 0]);
}

#[test]
fn the_template_and_the_list_of_settings_say_the_same() {
    use sluice_entry::settings::{SETTINGS, World};
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let topology =
        sluice_template::Topology::parse(&std::fs::read_to_string(root.join("template.yaml")).unwrap()).unwrap();
    let given: BTreeSet<&str> =
        topology.functions.values().flat_map(|f| f.environment.keys().map(String::as_str)).collect();
    for setting in SETTINGS {
        let variable = setting.environment_variable();
        // On AWS it follows from the parameter `Search`.
        let is_derived = setting.key == "stages_off";
        let is_given = setting.world != World::OneMachine || is_derived;
        assert_eq!(given.contains(variable.as_str()), is_given, "{variable} in template.yaml");
        if setting.world == World::Both {
            let parameter = &topology.parameters[&setting.parameter()];
            assert_eq!(parameter.default.as_deref(), setting.default, "default of {variable}");
        }
    }
    let declared: BTreeSet<String> = SETTINGS.iter().map(|s| s.environment_variable()).collect();
    let undeclared: Vec<&&str> = given.iter().filter(|v| !declared.contains(**v)).collect();
    assert_eq!(undeclared, [] as [&&str; 0]);
}
