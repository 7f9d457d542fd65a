use std::collections::BTreeMap;

/// Which messages of a topic a subscription gets (an SNS filter policy over message attributes).
///
/// Source: Amazon SNS Developer Guide, "Subscription filter policies". Of its operators, exact strings, `prefix` and `exists` are known;
/// another one is an error, since a filter that is half understood would lose messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Attribute name → patterns. Every attribute must match; an attribute matches if any of its values fits any of its patterns.
    pub attributes: BTreeMap<String, Vec<Pattern>>,
}

/// What one value of an attribute may look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The value is this text.
    Exact(String),
    /// The value begins with this text.
    Prefix(String),
    /// The attribute is there (`true`) or is not there (`false`).
    Exists(bool),
}

impl Filter {
    /// Whether a message with these attributes (name → values) passes. No patterns at all let everything pass.
    pub fn matches(&self, attributes: &BTreeMap<String, Vec<String>>) -> bool {
        self.attributes.iter().all(|(name, patterns)| {
            let values = attributes.get(name);
            patterns.iter().any(|pattern| match (pattern, values) {
                (Pattern::Exists(wanted), values) => *wanted == values.is_some(),
                (Pattern::Exact(text), Some(values)) => values.iter().any(|value| value == text),
                (Pattern::Prefix(text), Some(values)) => values.iter().any(|value| value.starts_with(text.as_str())),
                (_, None) => false,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(n, vs)| ((*n).to_owned(), vs.iter().map(|v| (*v).to_owned()).collect())).collect()
    }

    fn filter(pairs: &[(&str, &[Pattern])]) -> Filter {
        Filter { attributes: pairs.iter().map(|(n, ps)| ((*n).to_owned(), ps.to_vec())).collect() }
    }

    #[test]
    fn an_exact_pattern_passes_an_array_that_holds_the_word() {
        let alerts = filter(&[("areas", &[Pattern::Exact("alert".into())])]);
        assert!(alerts.matches(&attributes(&[("areas", &["game", "alert"])])));
        assert!(!alerts.matches(&attributes(&[("areas", &["game", "alerts"])])));
        assert!(!alerts.matches(&attributes(&[("other", &["alert"])])));
        assert!(!alerts.matches(&attributes(&[])));
    }

    #[test]
    fn every_attribute_must_match_and_any_pattern_of_one_is_enough() {
        let both = filter(&[
            ("areas", &[Pattern::Exact("game".into()), Pattern::Exact("web".into())]),
            ("kind", &[Pattern::Prefix("a".into())]),
        ]);
        assert!(both.matches(&attributes(&[("areas", &["web"]), ("kind", &["abc"])])));
        assert!(!both.matches(&attributes(&[("areas", &["web"]), ("kind", &["xbc"])])));
        assert!(!both.matches(&attributes(&[("areas", &["web"])])));
    }

    #[test]
    fn exists_asks_only_for_the_name() {
        assert!(filter(&[("a", &[Pattern::Exists(true)])]).matches(&attributes(&[("a", &[])])));
        assert!(filter(&[("a", &[Pattern::Exists(false)])]).matches(&attributes(&[("b", &["x"])])));
        assert!(!filter(&[("a", &[Pattern::Exists(false)])]).matches(&attributes(&[("a", &["x"])])));
    }

    #[test]
    fn an_empty_filter_passes_everything() {
        assert!(Filter::default().matches(&attributes(&[])));
    }
}
