//! Bundles the schema files of `schemas/` and the reports of `infra/reports/` with the binary, so that adding a file is all it takes to add
//! a type or a report.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    bundle("schemas", "json", "schemas.rs")?;
    bundle("infra/reports", "sql", "reports.rs")
}

/// Writes the files of a folder that end so as a list of (name, text), sorted by name.
fn bundle(folder: &str, end: &str, list: &str) -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").join(folder);
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == end));
    files.sort();
    let mut code = String::from("&[");
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().and_then(|n| n.to_str()).ok_or("a file has no name")?;
        write!(code, "({name:?}, include_str!({:?})),", fs::canonicalize(file)?)?;
    }
    code.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join(list), code)?;
    Ok(())
}
