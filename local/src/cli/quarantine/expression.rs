//! jq expressions over JSON texts. They run here and not on the server: an expression may run for ever.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};

type Filter = jaq_core::Filter<data::JustLut<Val>>;

/// An expression that is ready to run.
pub struct Expression(Filter);

impl Expression {
    /// Reads an expression; an error says what in it is not understood.
    pub fn new(text: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let wrong = |what: String| format!("the expression is not understood: {what}");
        let modules = Loader::new(defs).load(&arena, File { code: text, path: () }).map_err(|errors| {
            wrong(errors.iter().map(|(_, error)| format!("{error:?}")).collect::<Vec<_>>().join("; "))
        })?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let names = errors
                .iter()
                .flat_map(|(_, undefined)| undefined.iter().map(|(name, _)| format!("`{name}` is not known")));
            wrong(names.collect::<Vec<_>>().join("; "))
        })?;
        Ok(Self(filter))
    }

    /// Applies it to a JSON value, or to each of several values one after the other. Each of them must give exactly one.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        let mut lines = Vec::new();
        for value in read::parse_many(text.as_bytes()) {
            let value = value.map_err(|e| format!("not JSON: {e}"))?;
            let ctx = Ctx::<data::JustLut<Val>>::new(&self.0.lut, Vars::new([]));
            let mut results = self.0.id.run((ctx, value)).map(unwrap_valr);
            match (results.next(), results.next()) {
                (Some(Ok(only)), None) => lines.push(only.to_string()),
                (Some(Err(e)), _) => return Err(e.to_string()),
                (None, _) => return Err("the expression gives nothing".into()),
                (Some(Ok(_)), Some(_)) => return Err("the expression gives more than one value".into()),
            }
        }
        if lines.is_empty() { Err("there is nothing to apply it to".into()) } else { Ok(lines.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_changed_and_numbers_keep_their_digits() {
        let expression = Expression::new(r#".data.status |= tonumber | .type = "http.access""#).unwrap();
        let text = r#"{"type":"x","data":{"status":"404","price":12345678901234567890.10}}"#;
        let changed = expression.apply(text).unwrap();
        assert_eq!(changed, r#"{"type":"http.access","data":{"status":404,"price":12345678901234567890.10}}"#);
    }

    #[test]
    fn each_line_is_changed() {
        assert_eq!(Expression::new(".a + 1").unwrap().apply("{\"a\":1}\n{\"a\":2}\n").unwrap(), "2\n3");
    }

    #[test]
    fn what_does_not_give_one_value_is_an_error() {
        let apply = |expression: &str, text: &str| Expression::new(expression).and_then(|e| e.apply(text)).unwrap_err();
        assert!(apply(".[", "{}").starts_with("the expression is not understood"));
        assert!(apply("nonsense", "{}").contains("`nonsense` is not known"));
        assert_eq!(apply("empty", "{}"), "the expression gives nothing");
        assert_eq!(apply(".[]", "[1,2]"), "the expression gives more than one value");
        assert!(apply(".", "{").starts_with("not JSON"));
        assert_eq!(apply(".", " "), "there is nothing to apply it to");
        assert!(apply(".a.b", r#"{"a":1}"#).contains("cannot index"));
    }
}
