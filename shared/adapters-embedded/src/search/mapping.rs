//! Index templates: how the fields of an index are read. They are kept in `templates.json`, replaced as a whole.

use serde_json::{Map, Value};
use sluice_ports::{ErrorKind, IndexTemplate, PortError};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path as FilePath;
use std::sync::Arc;

/// A dotted field path.
pub(super) type Path = Arc<str>;

/// Strings with more characters (UTF-16, as OpenSearch counts) are kept in the source and not indexed as keywords: a quarter of the bytes of
/// Lucene's longest term, as OpenSearch's documentation advises for `ignore_above`.
pub(super) const IGNORE_ABOVE: usize = 8_191;

const DEFINE: &str = "search.define";

/// A field of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// From the root, dotted; empty for the root.
    pub path: Path,
    /// What its values are.
    pub kind: Kind,
    /// Whether fields below it that the mapping does not name are found too: the template's `dynamic`.
    pub dynamic: bool,
}

/// What the values of a field are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Exact text up to a length; `words` if it is searched by words too (a `text` sub-field).
    Keyword { ignore_above: usize, words: bool },
    /// Text searched by words; `exact` if it is a keyword too (a `keyword` sub-field).
    Text { exact: bool },
    /// 64-bit integer.
    Long,
    /// 64-bit floating point.
    Double,
    /// True or false.
    Boolean,
    /// Date.
    Date,
    /// IP address.
    Ip,
    /// An object whose leaves are searched as keywords and have no columns.
    Flat,
    /// An object.
    Object(HashMap<String, Node>),
    /// An object that is only stored.
    Stored,
}

/// A field of another type over the same values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubField {
    /// The field that it belongs to.
    parent: Path,
    /// Whether it is searched by words; else it is a keyword.
    words: bool,
}

impl Node {
    /// The node at a dotted path below this one; stops at the first that is no object.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        let Kind::Object(children) = &self.kind else { return Some(self) };
        if let Some(child) = children.get(path) {
            return Some(child);
        }
        let (head, tail) = path.split_once('.')?;
        children.get(head)?.find(tail)
    }

    fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Node)) {
        visit(self);
        if let Kind::Object(children) = &self.kind {
            children.values().for_each(|child| child.each(visit));
        }
    }
}

/// All templates, read for use.
#[derive(Debug, Default)]
pub(super) struct Templates {
    by_name: BTreeMap<String, IndexTemplate>,
    /// Longest pattern first, so that the closest one is met first.
    roots: Vec<(String, Arc<Node>)>,
    /// Path of each multi-field.
    sub_fields: HashMap<String, SubField>,
}

impl Templates {
    /// These and more; `None` if nothing changes.
    pub(super) fn with(&self, more: Vec<IndexTemplate>) -> Result<Option<Self>, PortError> {
        let mut by_name = self.by_name.clone();
        for template in more {
            by_name.insert(template.name.clone(), template);
        }
        if by_name == self.by_name { Ok(None) } else { Self::read(by_name).map(Some) }
    }

    /// Reads the file; none is no templates.
    pub(super) fn load(file: &FilePath) -> Result<Self, PortError> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(super::failure::io("search.open", "templates.json", error)),
        };
        let corrupt =
            |why: String| PortError::new(ErrorKind::Corrupt, "search.open", format!("`templates.json` {why}"));
        let stored: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(format!("cannot be read: {error}")))?;
        let mut by_name = BTreeMap::new();
        for (name, template) in stored {
            let pattern = template
                .get("pattern")
                .and_then(Value::as_str)
                .ok_or_else(|| corrupt(format!("lacks the pattern of `{name}`")))?;
            let mappings = template.get("mappings").cloned().unwrap_or_default();
            by_name.insert(name.clone(), IndexTemplate { name, pattern: pattern.to_owned(), mappings });
        }
        Self::read(by_name)
    }

    /// Replaces the file: readers see the old one or the new one, also after a power cut.
    pub(super) fn save(&self, file: &FilePath) -> Result<(), PortError> {
        let stored: Map<String, Value> = self
            .by_name
            .values()
            .map(|t| (t.name.clone(), serde_json::json!({"pattern": t.pattern, "mappings": t.mappings})))
            .collect();
        let text = Value::Object(stored).to_string();
        let temporary = file.with_extension("json.new");
        let write = || {
            let mut out = std::fs::File::create(&temporary)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&temporary, file)?;
            match file.parent() {
                Some(dir) => std::fs::File::open(dir)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|error| super::failure::io(DEFINE, "templates.json", error))
    }

    /// The mapping of an index, from the template with the longest pattern that fits.
    pub(super) fn root(&self, index: &str) -> Option<Arc<Node>> {
        self.roots.iter().find(|(pattern, _)| fits(pattern, index)).map(|(_, root)| root.clone())
    }

    /// The path under which a field of a query is indexed: a multi-field (`title.keyword`) lies under the field that it belongs to.
    /// Fields that no template names have a `keyword` multi-field, as dynamic strings have in OpenSearch.
    pub(super) fn resolve<'a>(&'a self, path: &'a str) -> &'a str {
        if let Some(sub_field) = self.sub_fields.get(path) {
            return &sub_field.parent;
        }
        match path.strip_suffix(".keyword") {
            Some(parent) if !self.is_mapped(path) => parent,
            _ => path,
        }
    }

    /// Paths that are searched by words.
    pub(super) fn text_paths(&self) -> Vec<Path> {
        self.paths(|kind| matches!(kind, Kind::Text { .. } | Kind::Keyword { words: true, .. }))
    }

    /// Whether a multi-field is searched by words; `None` of a field that is none.
    pub(super) fn sub_field_words(&self, path: &str) -> Option<bool> {
        self.sub_fields.get(path).map(|sub_field| sub_field.words)
    }

    /// Paths of objects whose leaves are keywords.
    pub(super) fn flat_paths(&self) -> Vec<Path> {
        self.paths(|kind| matches!(kind, Kind::Flat))
    }

    fn paths(&self, wanted: impl Fn(&Kind) -> bool) -> Vec<Path> {
        let mut paths = Vec::new();
        for (_, root) in &self.roots {
            root.each(&mut |node| {
                if wanted(&node.kind) {
                    paths.push(node.path.clone());
                }
            });
        }
        paths.sort();
        paths.dedup();
        paths
    }

    fn is_mapped(&self, path: &str) -> bool {
        // A path below a flat object is mapped as well: its leaves have whatever names they have.
        self.roots
            .iter()
            .filter_map(|(_, root)| root.find(path))
            .any(|node| *node.path == *path || node.kind == Kind::Flat)
    }

    fn read(by_name: BTreeMap<String, IndexTemplate>) -> Result<Self, PortError> {
        let mut roots = Vec::new();
        let mut sub_fields = HashMap::new();
        for template in by_name.values() {
            let dynamic = is_dynamic(&template.mappings);
            let kind = object(&template.mappings, "", dynamic, &mut sub_fields).map_err(|why| {
                PortError::new(ErrorKind::Invalid, DEFINE, format!("template `{}`: {why}", template.name))
            })?;
            roots.push((template.pattern.clone(), Arc::new(Node { path: Path::from(""), kind, dynamic })));
        }
        roots.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        Ok(Self { by_name, roots, sub_fields })
    }
}

/// Whether `name` fits a pattern of literal text and `*`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, "")) => name.starts_with(head),
        Some(_) => super::pattern::Pattern::wildcard(&pattern.replace('?', "\\?")).fits(name),
    }
}

/// Whether a template says that fields which it does not name are found.
fn is_dynamic(mappings: &Value) -> bool {
    match mappings.get("dynamic") {
        None => true,
        Some(Value::String(text)) => text != "false",
        Some(dynamic) => *dynamic != Value::Bool(false),
    }
}

fn object(
    mapping: &Value,
    path: &str,
    dynamic: bool,
    sub_fields: &mut HashMap<String, SubField>,
) -> Result<Kind, String> {
    let mut children = HashMap::new();
    let properties = match mapping.get("properties") {
        None => return Ok(Kind::Object(children)),
        Some(properties) => {
            properties.as_object().ok_or_else(|| format!("`properties` of `{path}` is not an object"))?
        }
    };
    for (name, mapping) in properties {
        if name.is_empty() {
            return Err(format!("a field of `{path}` has no name"));
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let kind = field(mapping, &path, dynamic, sub_fields)?;
        children.insert(name.clone(), Node { path: Path::from(path), kind, dynamic });
    }
    Ok(Kind::Object(children))
}

fn field(
    mapping: &Value,
    path: &str,
    dynamic: bool,
    sub_fields: &mut HashMap<String, SubField>,
) -> Result<Kind, String> {
    if mapping.get("enabled") == Some(&Value::Bool(false)) {
        return Ok(Kind::Stored);
    }
    let name = match mapping.get("type") {
        None => "object",
        Some(name) => name.as_str().ok_or_else(|| format!("`type` of `{path}` is not text"))?,
    };
    let ignore_above = |mapping: &Value| {
        let given = mapping.get("ignore_above").and_then(Value::as_u64);
        given.map_or(IGNORE_ABOVE, |chars| usize::try_from(chars).unwrap_or(usize::MAX)).min(IGNORE_ABOVE)
    };
    let mut words = false;
    let mut exact = false;
    if let Some(fields) = mapping.get("fields").and_then(Value::as_object) {
        for (name, mapping) in fields {
            let by_words = match mapping.get("type").and_then(Value::as_str) {
                Some("keyword" | "wildcard") => false,
                Some("text" | "match_only_text") => true,
                other => {
                    return Err(format!(
                        "sub-field `{path}.{name}` has the type `{}`; it takes `text` or `keyword`",
                        other.unwrap_or("")
                    ));
                }
            };
            (exact, words) = (exact || !by_words, words || by_words);
            sub_fields.insert(format!("{path}.{name}"), SubField { parent: Path::from(path), words: by_words });
        }
    }
    Ok(match name {
        "object" | "nested" => object(mapping, path, dynamic, sub_fields)?,
        "keyword" | "wildcard" | "constant_keyword" => Kind::Keyword { ignore_above: ignore_above(mapping), words },
        "text" | "match_only_text" => Kind::Text { exact },
        "long" | "integer" | "short" | "byte" | "unsigned_long" => Kind::Long,
        "double" | "float" | "half_float" | "scaled_float" => Kind::Double,
        "boolean" => Kind::Boolean,
        "date" | "date_nanos" => Kind::Date,
        "ip" => Kind::Ip,
        "flat_object" | "flattened" => Kind::Flat,
        other => return Err(format!("field `{path}` has the unknown type `{other}`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(name: &str, pattern: &str, mappings: Value) -> IndexTemplate {
        IndexTemplate { name: name.to_owned(), pattern: pattern.to_owned(), mappings }
    }

    fn templates(list: Vec<IndexTemplate>) -> Templates {
        Templates::default().with(list).unwrap().unwrap()
    }

    #[test]
    fn the_longest_pattern_wins() {
        let all = templates(vec![
            template("all", "a-*", json!({"properties": {"x": {"type": "keyword"}}})),
            template("close", "a-b-*", json!({"properties": {"x": {"type": "long"}}})),
        ]);
        assert_eq!(all.root("a-b-2026").unwrap().find("x").unwrap().kind, Kind::Long);
        assert!(matches!(all.root("a-c").unwrap().find("x").unwrap().kind, Kind::Keyword { .. }));
        assert!(all.root("b").is_none());
    }

    #[test]
    fn sub_fields_lie_under_their_field() {
        let all = templates(vec![template(
            "t",
            "*",
            json!({"properties": {
                "title": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
                "search": {"properties": {"keyword": {"type": "keyword"}}},
                "extra": {"type": "flat_object"},
            }}),
        )]);
        assert_eq!(all.resolve("title.raw"), "title");
        assert_eq!(all.resolve("search.keyword"), "search.keyword");
        assert_eq!(all.resolve("extra.keyword"), "extra.keyword");
        assert_eq!(all.resolve("unmapped.keyword"), "unmapped");
        assert_eq!(all.root("x").unwrap().find("title").unwrap().kind, Kind::Text { exact: true });
    }

    #[test]
    fn an_unknown_type_names_its_field() {
        let error = Templates::default()
            .with(vec![template("t", "*", json!({"properties": {"a": {"properties": {"b": {"type": "geo_point"}}}}}))])
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert_eq!(error.detail, "template `t`: field `a.b` has the unknown type `geo_point`");
    }

    #[test]
    fn templates_survive_on_disk_and_the_same_again_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("templates.json");
        let one = template("t", "x-*", json!({"properties": {"a": {"type": "date"}}}));
        let all = templates(vec![one.clone()]);
        all.save(&file).unwrap();
        let back = Templates::load(&file).unwrap();
        assert_eq!(back.by_name, all.by_name);
        assert!(back.with(vec![one]).unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("templates.json");
        std::fs::write(&file, "{").unwrap();
        assert_eq!(Templates::load(&file).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
