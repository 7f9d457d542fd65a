//! The schema files that are bundled with the binary.

use sluice_domain::schema::{Registry, SchemaError};

/// Bundled schema files as (name, text), sorted by name.
pub const BUNDLED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/schemas.rs"));

/// The registry of the bundled files and of `own` ones, as (name, text). A file of one's own replaces the bundled one of its type.
pub fn registry(own: &[(String, String)]) -> Result<Registry, SchemaError> {
    Registry::load(BUNDLED.iter().copied().chain(own.iter().map(|(name, text)| (name.as_str(), text.as_str()))))
}
