//! `infra/redshift/tables.sql` and `views.sql` are made from the schema files: `UPDATE=1 cargo test --workspace --test redshift_sql` writes them.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use sluice_domain::redshift::{tables, views};
use sluice_domain::schema::Schema;
use std::path::Path;

#[test]
fn the_sql_for_redshift_is_that_of_the_schema_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = std::fs::read_dir(root.join("schemas")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let parse =
        |path: std::path::PathBuf| Schema::parse(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
    let schemas: Vec<Schema> = files.map(|path| parse(path).unwrap()).collect();
    for (name, sql) in [("tables.sql", tables(schemas.iter())), ("views.sql", views(schemas.iter()))] {
        let path = root.join("infra/redshift").join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &sql).unwrap();
        }
        let stale = "is out of date: run `UPDATE=1 cargo test --workspace --test redshift_sql`, look at the difference and commit it";
        assert!(std::fs::read_to_string(&path).unwrap() == sql, "infra/redshift/{name} {stale}");
    }
}
