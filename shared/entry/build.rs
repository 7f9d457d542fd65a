//! Bundles the schema files of `schemas/` with the binary, so that adding a file is all it takes to add a type.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../schemas");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut code = String::from("&[");
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().and_then(|n| n.to_str()).ok_or("a schema file has no name")?;
        write!(code, "({name:?}, include_str!({:?})),", fs::canonicalize(file)?)?;
    }
    code.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("schemas.rs"), code)?;
    Ok(())
}
