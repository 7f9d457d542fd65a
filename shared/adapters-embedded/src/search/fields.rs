//! The fields of the one tantivy index that holds all logical indices.
//!
//! A document's fields lie in a few JSON fields under their dotted paths: `keyword` (exact text and booleans, with columns), `number`
//! (numbers and dates, columns only: an exact match reads the column), `text` (terms of [`super::text`]) and `flat` (leaves of
//! `flat_object`, without columns, so that arbitrary keys cannot make arbitrarily many). A name here is part of the format on disk.

use super::text::WORDS;
use tantivy::Term;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, JsonObjectOptions, STORED, Schema, TextFieldIndexing, TextOptions,
};

/// Handles of the fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// Hash of index and id; says whether a document is there.
    pub key: Field,
    /// Name of the logical index.
    pub index: Field,
    /// Document id.
    pub id: Field,
    /// The document as it came.
    pub source: Field,
    /// Exact text and booleans.
    pub keyword: Field,
    /// Numbers and dates.
    pub number: Field,
    /// Words.
    pub text: Field,
    /// Leaves of flat objects.
    pub flat: Field,
    /// Paths of the `text` and `flat` values that are there, for `exists`.
    pub present: Field,
}

/// Column of the logical index name.
pub(super) const INDEX: &str = "_index";
/// Column of the document id.
pub(super) const ID: &str = "_id";
/// Name of [`Fields::keyword`].
pub(super) const KEYWORD: &str = "keyword";
/// Name of [`Fields::number`].
pub(super) const NUMBER: &str = "number";

/// The schema and its handles.
pub(super) fn schema() -> (Schema, Fields) {
    let exact = || {
        TextFieldIndexing::default()
            .set_tokenizer("raw")
            .set_fieldnorms(false)
            .set_index_option(IndexRecordOption::Basic)
    };
    let mut schema = Schema::builder();
    let key = schema.add_u64_field("_key", INDEXED);
    let index = schema.add_text_field(INDEX, TextOptions::default().set_indexing_options(exact()).set_fast("raw"));
    let id = schema.add_text_field(ID, FAST);
    let source = schema.add_text_field("_source", STORED);
    let json = || JsonObjectOptions::default().set_expand_dots_enabled();
    let keyword = schema.add_json_field(KEYWORD, json().set_indexing_options(exact()).set_fast("raw"));
    let number = schema.add_json_field(NUMBER, json().set_fast("raw"));
    // Tantivy keeps no lengths for parts of JSON fields, so scores go by frequencies alone.
    let words = exact().set_tokenizer(WORDS).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = schema.add_json_field("text", json().set_indexing_options(words));
    let flat = schema.add_json_field("flat", json().set_indexing_options(exact()));
    let present = schema.add_text_field("_present", TextOptions::default().set_indexing_options(exact()));
    (schema.build(), Fields { key, index, id, source, keyword, number, text, flat, present })
}

/// The term of a text under a path of a JSON field.
pub(super) fn text_term(field: Field, path: &str, text: &str) -> Term {
    let mut term = path_term(field, path);
    term.append_type_and_str(text);
    term
}

/// The begin of all terms under a path of a JSON field.
pub(super) fn path_term(field: Field, path: &str) -> Term {
    Term::from_field_json_path(field, &escape(path), true)
}

/// The name of the column of a path of a JSON field.
pub(super) fn column(field: &str, path: &str) -> String {
    format!("{field}.{}", escape(path))
}

/// Tantivy reads `\` in a path as an escape.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\")
}

/// Hash of what identifies a document (FNV-1a with a finishing mix); part of the format on disk. Equal hashes of different documents are
/// told apart by their columns.
pub(super) fn key(index: &str, id: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in index.bytes().chain([0]).chain(id.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
