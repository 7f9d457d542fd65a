use super::lock;
use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_ports::{Document, DocumentId, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Search, SearchRemoval};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Documents by index and id. Understands `match_all`, `term`, `range` up to a text, `bool` with `filter`, `size` and nothing else; knows the types `long`, `double` and `boolean`
/// well enough to refuse text in them.
#[derive(Debug, Default)]
pub struct MemorySearch(Mutex<Stored>);

#[derive(Debug, Clone, Default)]
struct Stored {
    templates: BTreeMap<String, IndexTemplate>,
    documents: BTreeMap<(String, String), Value>,
}

impl Clone for MemorySearch {
    /// Another one that holds the same.
    fn clone(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }
}

impl MemorySearch {
    /// No documents.
    pub fn new() -> Self {
        Self::default()
    }

    /// All documents as (index, id, source), sorted.
    pub fn documents(&self) -> Vec<(String, String, Value)> {
        let stored = lock(&self.0);
        stored.documents.iter().map(|((index, id), source)| (index.clone(), id.clone(), source.clone())).collect()
    }

    /// All templates, sorted by name.
    pub fn templates(&self) -> Vec<IndexTemplate> {
        lock(&self.0).templates.values().cloned().collect()
    }
}

#[async_trait]
impl Search for MemorySearch {
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError> {
        let mut stored = lock(&self.0);
        for template in templates {
            stored.templates.insert(template.name.clone(), template);
        }
        Ok(())
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        let mut stored = lock(&self.0);
        Ok(documents.into_iter().map(|document| stored.create(document)).collect())
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        let stored = lock(&self.0);
        let query = body.get("query").cloned().unwrap_or(json!({"match_all": {}}));
        let mut hits = Vec::new();
        for ((index, id), source) in &stored.documents {
            if pattern.split(',').any(|one| fits(one, index)) && meets(&query, source)? {
                hits.push(json!({"_index": index, "_id": id, "_score": 1.0, "_source": source}));
            }
        }
        let total = hits.len();
        hits.truncate(body.get("size").and_then(Value::as_u64).map_or(10, |size| size as usize));
        Ok(json!({
            "took": 0, "timed_out": false,
            "hits": {"total": {"value": total, "relation": "eq"}, "max_score": null, "hits": hits},
        }))
    }
}

#[async_trait]
impl SearchRemoval for MemorySearch {
    async fn remove(&self, documents: Vec<DocumentId>) -> Result<(), PortError> {
        let mut stored = lock(&self.0);
        for DocumentId { index, id } in documents {
            stored.documents.remove(&(index, id));
        }
        Ok(())
    }

    async fn indices(&self, pattern: &str) -> Result<Vec<String>, PortError> {
        let stored = lock(&self.0);
        let names = stored.documents.keys().map(|(index, _)| index).filter(|index| fits(pattern, index));
        Ok(names.cloned().collect::<BTreeSet<String>>().into_iter().collect())
    }

    async fn remove_index(&self, index: &str) -> Result<(), PortError> {
        lock(&self.0).documents.retain(|(of, _), _| of != index);
        Ok(())
    }
}

impl Stored {
    fn create(&mut self, document: Document) -> DocumentOutcome {
        if document.id.is_empty() || document.id.len() > 512 {
            return DocumentOutcome::Rejected(format!("the id has {} bytes; it takes 1 to 512", document.id.len()));
        }
        let source = match serde_json::from_str::<Value>(&document.source) {
            Ok(source) if source.is_object() => source,
            _ => return DocumentOutcome::Rejected("the source is not a JSON object".to_owned()),
        };
        let template = self.templates.values().find(|template| fits(&template.pattern, &document.index));
        if let Some(why) = template.and_then(|template| conflict(&template.mappings, &source, "")) {
            return DocumentOutcome::Rejected(why);
        }
        let key = (document.index, document.id);
        if self.documents.contains_key(&key) {
            return DocumentOutcome::Exists;
        }
        self.documents.insert(key, source);
        DocumentOutcome::Created
    }
}

/// Whether `name` fits a pattern with at most one `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
        None => pattern == name,
    }
}

fn conflict(mappings: &Value, source: &Value, path: &str) -> Option<String> {
    let properties = mappings.get("properties")?.as_object()?;
    properties.iter().find_map(|(field, mapping)| {
        let value = source.get(field).filter(|value| !value.is_null())?;
        let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        let parses = |text: &str| text.parse::<f64>().is_ok();
        let bad = match mapping.get("type").and_then(Value::as_str) {
            Some("long" | "double") => !(value.is_number() || value.as_str().is_some_and(parses)),
            Some("boolean") => !(value.is_boolean() || matches!(value.as_str(), Some("true" | "false"))),
            _ => return conflict(mapping, value, &path),
        };
        bad.then(|| format!("failed to parse field `{path}`"))
    })
}

fn meets(query: &Value, source: &Value) -> Result<bool, PortError> {
    let one = query.as_object().filter(|clauses| clauses.len() == 1).and_then(|clauses| clauses.iter().next());
    match one {
        Some((name, _)) if name == "match_all" => Ok(true),
        Some((name, terms)) if name == "term" => {
            let Some((field, wanted)) = terms.as_object().and_then(|terms| terms.iter().next()) else {
                return Err(PortError::new(ErrorKind::Invalid, "search.search", "`term` takes one field"));
            };
            let wanted = wanted.get("value").unwrap_or(wanted);
            let found = field.split('.').try_fold(source, |value, part| value.get(part));
            Ok(found == Some(wanted))
        }
        Some((name, range)) if name == "range" => {
            let Some((field, bounds)) = range.as_object().and_then(|range| range.iter().next()) else {
                return Err(PortError::new(ErrorKind::Invalid, "search.search", "`range` takes one field"));
            };
            let found = source.get(field).and_then(Value::as_str);
            Ok(found.zip(bounds.get("lte").and_then(Value::as_str)).is_some_and(|(found, most)| found <= most))
        }
        Some((name, clauses)) if name == "bool" => {
            let filters = clauses.get("filter").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            filters.iter().try_fold(true, |so_far, filter| Ok(meets(filter, source)? && so_far))
        }
        _ => Err(PortError::new(
            ErrorKind::Invalid,
            "search.search",
            "unknown query; it takes `match_all`, `term`, `range` and `bool`",
        )),
    }
}
