//! Search in tantivy.
