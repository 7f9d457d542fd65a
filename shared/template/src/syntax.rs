//! YAML text → JSON value in which CloudFormation's short tags (`!Ref X`) have their long form (`{"Ref": "X"}`).

use crate::TemplateError;
use serde_json::{Map, Value};
use serde_yaml_ng::Value as Yaml;

/// Tags whose long form is the name itself; all others get `Fn::` in front.
const PLAIN: [&str; 2] = ["Ref", "Condition"];

/// Tags that CloudFormation has and this crate resolves.
const TAGS: [&str; 13] =
    ["And", "Condition", "Equals", "FindInMap", "GetAtt", "If", "Join", "Not", "Or", "Ref", "Select", "Split", "Sub"];

pub(crate) fn parse(text: &str) -> Result<Value, TemplateError> {
    let yaml: Yaml = serde_yaml_ng::from_str(text).map_err(|error| {
        let message = error.to_string();
        let line = error.location().map(|location| location.line());
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        TemplateError::Syntax { line, message }
    })?;
    convert(yaml, &mut String::new())
}

/// Appends `.key` or `[index]` to a path for the time of one call.
pub(crate) fn within<T>(path: &mut String, part: &str, work: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    if !path.is_empty() && !part.starts_with('[') {
        path.push('.');
    }
    path.push_str(part);
    let answer = work(path);
    path.truncate(length);
    answer
}

fn convert(yaml: Yaml, path: &mut String) -> Result<Value, TemplateError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => {
            let json = if let Some(whole) = number.as_i64() {
                Some(whole.into())
            } else if let Some(whole) = number.as_u64() {
                Some(whole.into())
            } else {
                number.as_f64().and_then(serde_json::Number::from_f64)
            };
            Value::Number(
                json.ok_or_else(|| TemplateError::invalid(path.as_str(), format!("`{number}` is no number")))?,
            )
        }
        Yaml::Sequence(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                list.push(within(path, &format!("[{index}]"), |path| convert(item, path))?);
            }
            Value::Array(list)
        }
        Yaml::Mapping(pairs) => {
            let mut map = Map::with_capacity(pairs.len());
            for (key, value) in pairs {
                let Yaml::String(key) = key else {
                    return Err(TemplateError::invalid(path.as_str(), "a key is not a text"));
                };
                let value = within(path, &key, |path| convert(value, path))?;
                map.insert(key, value);
            }
            Value::Object(map)
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            if !TAGS.contains(&name) {
                return Err(TemplateError::unknown_name(path.as_str(), "tag", format!("!{name}")).knowing(TAGS));
            }
            let key = if PLAIN.contains(&name) { name.to_owned() } else { format!("Fn::{name}") };
            let argument = within(path, &key, |path| convert(tagged.value, path))?;
            let argument = match argument {
                // `!GetAtt Queue.Arn`: the attribute may hold dots, the logical id cannot.
                Value::String(text) if name == "GetAtt" => match text.split_once('.') {
                    Some((id, attribute)) => Value::Array(vec![id.into(), attribute.into()]),
                    None => {
                        return Err(TemplateError::invalid(
                            path.as_str(),
                            format!("`!GetAtt {text}` names no attribute"),
                        ));
                    }
                },
                other => other,
            };
            Value::Object(Map::from_iter([(key, argument)]))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_tags_get_their_long_form() {
        let value = parse(
            "a: !Ref X\nb: !GetAtt Q.Arn\nc: !Sub 'x-${Y}'\nd: !If [C, !Ref A, !GetAtt [B, Arn]]\ne: !Condition C\n",
        )
        .unwrap();
        assert_eq!(
            value,
            json!({
                "a": {"Ref": "X"},
                "b": {"Fn::GetAtt": ["Q", "Arn"]},
                "c": {"Fn::Sub": "x-${Y}"},
                "d": {"Fn::If": ["C", {"Ref": "A"}, {"Fn::GetAtt": ["B", "Arn"]}]},
                "e": {"Condition": "C"},
            })
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(matches!(&error, TemplateError::Syntax { line: Some(line), .. } if *line >= 2), "{error:?}");
        assert!(error.to_string().starts_with("line "), "{error}");
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let error = parse("a: 1\na: 2\n").unwrap_err();
        assert!(error.to_string().contains("duplicate"), "{error}");
    }

    #[test]
    fn a_tag_that_is_not_known_names_its_place() {
        let error = parse("Resources:\n  A:\n    - x\n    - !Cidr [a]\n").unwrap_err();
        assert!(error.to_string().starts_with("Resources.A[1]: unknown tag `!Cidr`"), "{error}");
    }

    #[test]
    fn a_get_att_without_attribute_is_an_error() {
        assert_eq!(parse("a: !GetAtt Q").unwrap_err().to_string(), "a: `!GetAtt Q` names no attribute");
    }

    #[test]
    fn keys_that_are_no_text_and_numbers_that_are_none_are_errors() {
        assert_eq!(parse("a:\n  1: x\n").unwrap_err().to_string(), "a: a key is not a text");
        assert_eq!(parse("a: .nan\n").unwrap_err().to_string(), "a: `.nan` is no number");
    }
}
