//! Gives events a `source` and a `type` where they name none, in their text: all else stays as it was, to the byte.

use sluice_domain::json::{self, Value};
use std::borrow::Cow;

/// What to give to events that name none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fill {
    /// `source`
    pub source: Option<String>,
    /// `type`
    pub event_type: Option<String>,
}

impl Fill {
    /// The event's text with what it lacks. Text that is no JSON object stays as it is: the server says what is wrong with it.
    pub fn apply<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let given: Vec<(&str, &str)> = [("source", &self.source), ("type", &self.event_type)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        if given.is_empty() {
            return Cow::Borrowed(text);
        }
        let Some(plain) = std::str::from_utf8(text).ok() else { return Cow::Borrowed(text) };
        let Ok(node) = json::parse_str(plain) else { return Cow::Borrowed(text) };
        let Some(object) = node.as_object() else { return Cow::Borrowed(text) };
        let mut missing = String::new();
        // Where a `null` stands for a missing attribute, it is replaced: a second one of the same name would be an error.
        let mut nulls: Vec<(usize, String)> = Vec::new();
        for (name, value) in given {
            let mut quoted = String::new();
            json::write_string(&mut quoted, value);
            match object.get(name) {
                None => missing.push_str(&format!("\"{name}\":{quoted},")),
                Some(found) if found.value == Value::Null => {
                    nulls.push((found.raw.as_ptr() as usize - plain.as_ptr() as usize, quoted));
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() && nulls.is_empty() {
            return Cow::Borrowed(text);
        }
        if object.0.is_empty() {
            missing.pop();
        }
        let open = plain.find('{').unwrap_or_default() + 1;
        nulls.sort_by_key(|(at, _)| *at);
        let mut out = String::with_capacity(plain.len() + missing.len() + 64);
        out.push_str(&plain[..open]);
        out.push_str(&missing);
        let mut from = open;
        for (at, quoted) in nulls {
            out.push_str(&plain[from..at]);
            out.push_str(&quoted);
            from = at + "null".len();
        }
        out.push_str(&plain[from..]);
        Cow::Owned(out.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> String {
        let fill = Fill { source: Some("my \"shop\"".into()), event_type: Some("a.b".into()) };
        String::from_utf8(fill.apply(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn events_that_name_none_get_them() {
        assert_eq!(fill(r#"{"n":1.50}"#), r#"{"source":"my \"shop\"","type":"a.b","n":1.50}"#);
        assert_eq!(fill(r#" { } "#), r#" {"source":"my \"shop\"","type":"a.b" } "#);
        assert_eq!(fill(r#"{"type":"x.y"}"#), r#"{"source":"my \"shop\"","type":"x.y"}"#);
    }

    #[test]
    fn events_that_name_them_stay_as_they_are() {
        for text in [r#"{"source":"s","type":"t", "data":{"n":1e2}}"#, r#"{"sou\u0072ce":"s","\u0074ype":""}"#] {
            assert_eq!(fill(text), text);
        }
    }

    #[test]
    fn the_names_inside_of_data_do_not_count() {
        let text = r#"{"data":{"source":"s","type":"t"}}"#;
        assert_eq!(fill(text), r#"{"source":"my \"shop\"","type":"a.b","data":{"source":"s","type":"t"}}"#);
    }

    #[test]
    fn null_is_replaced_and_not_doubled() {
        let text = r#"{"n":null,"type": null ,"x":"null","source":null}"#;
        assert_eq!(fill(text), r#"{"n":null,"type": "a.b" ,"x":"null","source":"my \"shop\""}"#);
    }

    #[test]
    fn text_that_is_no_event_stays_as_it_is() {
        for text in ["[1]", "7", "{", r#"{"a":1,"a":2}"#, "", r#"{"a":01}"#] {
            assert_eq!(fill(text), text);
        }
        assert_eq!(Fill::default().apply(b"{}").as_ref(), b"{}");
    }
}
