//! What CloudFormation's functions come to on one machine.
//!
//! A `Ref` to a parameter is its value; a `Ref` to a resource, and every attribute of it, is its logical id, since that is the name
//! under which the runtime keeps the thing. Pseudo-parameters are constants.

use crate::TemplateError;
use crate::known::ATTRIBUTES;
use crate::syntax::within;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// How deep conditions may refer to conditions.
const MAX_CONDITION_DEPTH: usize = 32;

/// Pseudo-parameters and what they are on one machine.
const PSEUDO: [(&str, &str); 6] = [
    ("AWS::AccountId", "000000000000"),
    ("AWS::Partition", "aws"),
    ("AWS::Region", "local"),
    ("AWS::StackId", "sluice"),
    ("AWS::StackName", "sluice"),
    ("AWS::URLSuffix", "localhost"),
];

/// Everything that a name may stand for.
pub(crate) struct Names<'a> {
    /// Parameter → value (the default, or what the caller gives); `None` where there is no default.
    pub parameters: BTreeMap<String, Option<String>>,
    /// Resource → type, those left out by their condition too.
    pub resources: BTreeMap<String, String>,
    /// The resources that are left out by their condition.
    pub left_out: BTreeSet<String>,
    /// The section `Conditions`.
    pub conditions: &'a Map<String, Value>,
    /// The section `Mappings`.
    pub mappings: &'a Map<String, Value>,
    /// Conditions already decided; `None` while one is being decided.
    pub decided: RefCell<BTreeMap<String, Option<bool>>>,
}

impl Names<'_> {
    /// Resolves all functions in a value; `None` for `AWS::NoValue`.
    pub(crate) fn resolve(&self, value: &Value, path: &mut String) -> Result<Option<Value>, TemplateError> {
        match value {
            Value::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    list.extend(within(path, &format!("[{index}]"), |path| self.resolve(item, path))?);
                }
                Ok(Some(Value::Array(list)))
            }
            Value::Object(map) => match only_entry(map) {
                Some((name, argument)) if is_function(name) => {
                    within(path, name, |path| self.call(name, argument, path))
                }
                _ => {
                    let mut object = Map::with_capacity(map.len());
                    for (key, item) in map {
                        if let Some(item) = within(path, key, |path| self.resolve(item, path))? {
                            object.insert(key.clone(), item);
                        }
                    }
                    Ok(Some(Value::Object(object)))
                }
            },
            scalar => Ok(Some(scalar.clone())),
        }
    }

    fn call(&self, name: &str, argument: &Value, path: &mut String) -> Result<Option<Value>, TemplateError> {
        match name {
            "Ref" => {
                let target = self.text(argument, path)?;
                if target == "AWS::NoValue" {
                    return Ok(None);
                }
                Ok(Some(self.reference(&target, path)?.into()))
            }
            "Fn::GetAtt" => {
                let (id, attribute) = match argument {
                    Value::String(text) => {
                        text.split_once('.').map(|(id, attribute)| (id.to_owned(), attribute.to_owned()))
                    }
                    Value::Array(items) if items.len() == 2 => {
                        Some((self.text(&items[0], path)?, self.text(&items[1], path)?))
                    }
                    _ => None,
                }
                .ok_or_else(|| TemplateError::invalid(path.as_str(), "needs a resource and an attribute"))?;
                Ok(Some(self.attribute(&id, &attribute, path)?.into()))
            }
            "Fn::Sub" => Ok(Some(self.substitute(argument, path)?.into())),
            "Fn::Join" => {
                let [separator, items] = self.arguments::<2>(argument, path)?;
                let separator = self.text(separator, path)?;
                let parts = self.texts(items, path)?;
                Ok(Some(parts.join(&separator).into()))
            }
            "Fn::Split" => {
                let [separator, text] = self.arguments::<2>(argument, path)?;
                let separator = self.text(separator, path)?;
                if separator.is_empty() {
                    return Err(TemplateError::invalid(path.as_str(), "the separator is empty"));
                }
                let text = self.text(text, path)?;
                Ok(Some(Value::Array(text.split(separator.as_str()).map(Into::into).collect())))
            }
            "Fn::Select" => {
                let [index, items] = self.arguments::<2>(argument, path)?;
                let index = self.text(index, path)?;
                let Some(Value::Array(items)) = self.resolve(items, path)? else {
                    return Err(TemplateError::invalid(path.as_str(), "the second argument is not a list"));
                };
                let item = index.parse::<usize>().ok().and_then(|index| items.into_iter().nth(index));
                item.map(Some)
                    .ok_or_else(|| TemplateError::invalid(path.as_str(), format!("the list has no item `{index}`")))
            }
            "Fn::If" => {
                let [condition, yes, no] = self.arguments::<3>(argument, path)?;
                let Value::String(condition) = condition else {
                    return Err(TemplateError::invalid(
                        path.as_str(),
                        "the first argument is not the name of a condition",
                    ));
                };
                let (chosen, part) = if self.condition(condition, path)? { (yes, "[1]") } else { (no, "[2]") };
                within(path, part, |path| self.resolve(chosen, path))
            }
            "Fn::FindInMap" => {
                let [map, first, second] = self.arguments::<3>(argument, path)?;
                let (map, first, second) = (self.text(map, path)?, self.text(first, path)?, self.text(second, path)?);
                let found = self.mappings.get(&map).and_then(|map| map.get(&first)).and_then(|map| map.get(&second));
                found.cloned().map(Some).ok_or_else(|| {
                    TemplateError::unresolved(path.as_str(), format!("there is no mapping `{map}.{first}.{second}`"))
                })
            }
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => Ok(Some(self.decide_call(name, argument, path)?.into())),
            other => Err(TemplateError::unknown_name(parent(path, other), "function", other)),
        }
    }

    /// The value of a parameter or pseudo-parameter, or the logical id of a resource.
    fn reference(&self, target: &str, path: &str) -> Result<String, TemplateError> {
        if let Some((_, value)) = PSEUDO.iter().find(|(name, _)| *name == target) {
            return Ok((*value).to_owned());
        }
        if let Some(value) = self.parameters.get(target) {
            return value.clone().ok_or_else(|| {
                TemplateError::unresolved(path, format!("parameter `{target}` has no default, which one machine needs"))
            });
        }
        self.resource(target, path)?;
        Ok(target.to_owned())
    }

    /// The type of a resource.
    fn resource(&self, id: &str, path: &str) -> Result<&str, TemplateError> {
        if self.left_out.contains(id) {
            return Err(TemplateError::unresolved(path, format!("resource `{id}` is left out by its condition")));
        }
        self.resources
            .get(id)
            .map(String::as_str)
            .ok_or_else(|| TemplateError::unresolved(path, format!("nothing in the template is called `{id}`")))
    }

    fn attribute(&self, id: &str, attribute: &str, path: &str) -> Result<String, TemplateError> {
        let kind = self.resource(id, path)?;
        let known = ATTRIBUTES.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, attributes)| attributes);
        if known.contains(&attribute) {
            return Ok(id.to_owned());
        }
        Err(TemplateError::unknown_name(path, "attribute", format!("{id}.{attribute}")).knowing(known.iter().copied()))
    }

    fn substitute(&self, argument: &Value, path: &mut String) -> Result<String, TemplateError> {
        let (template, own) = match argument {
            Value::String(template) => (template.as_str(), None),
            Value::Array(items) => match items.as_slice() {
                [Value::String(template), Value::Object(own)] => (template.as_str(), Some(own)),
                _ => return Err(TemplateError::invalid(path.as_str(), "needs a text, or a text and its variables")),
            },
            _ => return Err(TemplateError::invalid(path.as_str(), "needs a text, or a text and its variables")),
        };
        let mut answer = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(start) = rest.find("${") {
            answer.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                return Err(TemplateError::invalid(path.as_str(), "a `${` has no `}`"));
            };
            let name = &rest[start + 2..start + length];
            rest = &rest[start + length + 1..];
            if let Some(literal) = name.strip_prefix('!') {
                answer.push_str(&format!("${{{literal}}}"));
            } else if let Some(value) = own.and_then(|own| own.get(name)) {
                answer.push_str(&self.text(value, path)?);
            } else if let Some((id, attribute)) = name.split_once('.') {
                answer.push_str(&self.attribute(id, attribute, path)?);
            } else {
                answer.push_str(&self.reference(name, path)?);
            }
        }
        answer.push_str(rest);
        Ok(answer)
    }

    /// Whether a condition of the section `Conditions` holds with the values of the parameters.
    pub(crate) fn condition(&self, name: &str, path: &str) -> Result<bool, TemplateError> {
        let decided = self.decided.borrow().get(name).copied();
        match decided {
            Some(Some(answer)) => return Ok(answer),
            Some(None) => return Err(TemplateError::invalid(path, format!("condition `{name}` refers to itself"))),
            None => {}
        }
        let Some(rule) = self.conditions.get(name) else {
            return Err(TemplateError::unresolved(path, format!("there is no condition `{name}`")));
        };
        if self.decided.borrow().values().filter(|answer| answer.is_none()).count() >= MAX_CONDITION_DEPTH {
            return Err(TemplateError::invalid(
                path,
                format!("conditions refer to conditions more than {MAX_CONDITION_DEPTH} deep"),
            ));
        }
        self.decided.borrow_mut().insert(name.to_owned(), None);
        let answer = self.decide(rule, &mut format!("Conditions.{name}"))?;
        self.decided.borrow_mut().insert(name.to_owned(), Some(answer));
        Ok(answer)
    }

    fn decide(&self, rule: &Value, path: &mut String) -> Result<bool, TemplateError> {
        let Some((name, argument)) = rule.as_object().and_then(only_entry) else {
            return Err(TemplateError::invalid(path.as_str(), "is not a condition"));
        };
        within(path, name, |path| self.decide_call(name, argument, path))
    }

    fn decide_call(&self, name: &str, argument: &Value, path: &mut String) -> Result<bool, TemplateError> {
        match name {
            "Condition" => match argument {
                Value::String(name) => self.condition(name, path),
                _ => Err(TemplateError::invalid(path.as_str(), "is not the name of a condition")),
            },
            "Fn::Equals" => {
                let [left, right] = self.arguments::<2>(argument, path)?;
                Ok(self.text(left, path)? == self.text(right, path)?)
            }
            "Fn::Not" => {
                let [rule] = self.arguments::<1>(argument, path)?;
                Ok(!within(path, "[0]", |path| self.decide(rule, path))?)
            }
            "Fn::And" | "Fn::Or" => {
                let Value::Array(rules) = argument else {
                    return Err(TemplateError::invalid(path.as_str(), "needs a list"));
                };
                let mut answers = Vec::with_capacity(rules.len());
                for (index, rule) in rules.iter().enumerate() {
                    answers.push(within(path, &format!("[{index}]"), |path| self.decide(rule, path))?);
                }
                Ok(if name == "Fn::And" { answers.iter().all(|a| *a) } else { answers.iter().any(|a| *a) })
            }
            other => Err(TemplateError::unknown_name(parent(path, other), "condition function", other)),
        }
    }

    fn arguments<'v, const N: usize>(&self, argument: &'v Value, path: &str) -> Result<[&'v Value; N], TemplateError> {
        let items = argument.as_array().map(|items| items.iter().collect::<Vec<_>>());
        items
            .and_then(|items| items.try_into().ok())
            .ok_or_else(|| TemplateError::invalid(path, format!("needs a list of {N}")))
    }

    /// A value that comes to text.
    fn text(&self, value: &Value, path: &mut String) -> Result<String, TemplateError> {
        match self.resolve(value, path)? {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(flag)) => Ok(flag.to_string()),
            _ => Err(TemplateError::invalid(path.as_str(), "a text is needed here")),
        }
    }

    fn texts(&self, value: &Value, path: &mut String) -> Result<Vec<String>, TemplateError> {
        let Some(Value::Array(items)) = self.resolve(value, path)? else {
            return Err(TemplateError::invalid(path.as_str(), "a list is needed here"));
        };
        items.iter().map(|item| self.text(item, path)).collect()
    }
}

fn only_entry(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    if map.len() == 1 { map.iter().next().map(|(key, value)| (key.as_str(), value)) } else { None }
}

fn is_function(name: &str) -> bool {
    name == "Ref" || name.starts_with("Fn::")
}

/// The path without its last part, which is the name of a function.
fn parent(path: &str, last: &str) -> String {
    path.strip_suffix(last).map_or(path, |path| path.trim_end_matches('.')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax;
    use serde_json::json;

    /// Resolves the value `V` of a small template with parameters, conditions, mappings and a few resources.
    fn resolve(value: &str) -> Result<Option<Value>, TemplateError> {
        let conditions = "
            IsProd: !Equals [!Ref Stage, prod]
            IsDev: !Not [!Condition IsProd]
            Both: !And [!Condition IsProd, !Condition IsDev]
            Either: !Or [!Condition IsProd, !Condition IsDev]
            Loop: !Not [!Condition Loop]
            Odd: !Select [0, [a]]
            Lost: !Condition Nowhere
            ";
        let conditions = syntax::parse(conditions).unwrap();
        let mappings = syntax::parse("Sizes: {dev: {memory: 512}}").unwrap();
        let names = Names {
            parameters: BTreeMap::from([("Stage".into(), Some("dev".into())), ("Bare".into(), None)]),
            resources: BTreeMap::from([
                ("Queue".into(), "AWS::SQS::Queue".into()),
                ("Function".into(), "AWS::Serverless::Function".into()),
                ("Optional".into(), "AWS::SQS::Queue".into()),
            ]),
            left_out: BTreeSet::from(["Optional".into()]),
            conditions: conditions.as_object().unwrap(),
            mappings: mappings.as_object().unwrap(),
            decided: RefCell::default(),
        };
        names.resolve(&syntax::parse(value)?, &mut String::from("V"))
    }

    fn value(text: &str) -> Value {
        resolve(text).unwrap().unwrap()
    }

    fn error(text: &str) -> String {
        resolve(text).unwrap_err().to_string()
    }

    #[test]
    fn a_ref_is_the_value_of_a_parameter_or_the_id_of_a_resource() {
        assert_eq!(value("!Ref Stage"), json!("dev"));
        assert_eq!(value("!Ref Queue"), json!("Queue"));
        assert_eq!(value("!Ref AWS::StackName"), json!("sluice"));
        assert_eq!(value("!GetAtt Queue.Arn"), json!("Queue"));
        assert_eq!(value("{'Fn::GetAtt': [Function, Arn]}"), json!("Function"));
        assert_eq!(value("{'Fn::GetAtt': Function.Arn}"), json!("Function"));
    }

    #[test]
    fn no_value_takes_its_key_away() {
        assert_eq!(value("{a: !Ref AWS::NoValue, b: [!Ref AWS::NoValue, 1]}"), json!({"b": [1]}));
    }

    #[test]
    fn sub_fills_in_names_attributes_and_its_own_variables() {
        assert_eq!(value("!Sub '${AWS::StackName}-${Stage}-${Queue.Arn}-${!Raw}'"), json!("sluice-dev-Queue-${Raw}"));
        assert_eq!(value("!Sub ['${A}/${Stage}', {A: !Ref Queue}]"), json!("Queue/dev"));
        assert_eq!(value("!Sub 'no names'"), json!("no names"));
    }

    #[test]
    fn join_select_split_and_find_in_map_come_to_their_value() {
        assert_eq!(value("!Join ['-', [a, !Ref Stage, 3]]"), json!("a-dev-3"));
        assert_eq!(value("!Select [1, !Split ['/', 'x/y/z']]"), json!("y"));
        assert_eq!(value("!FindInMap [Sizes, !Ref Stage, memory]"), json!(512));
    }

    #[test]
    fn if_takes_the_branch_that_the_defaults_choose() {
        assert_eq!(value("!If [IsProd, big, small]"), json!("small"));
        assert_eq!(value("!If [IsDev, !Ref Queue, x]"), json!("Queue"));
        assert_eq!(value("[!If [Both, 1, 2], !If [Either, 1, 2]]"), json!([2, 1]));
        assert_eq!(value("{a: !If [IsProd, 1, !Ref AWS::NoValue]}"), json!({}));
        // The other branch may name what only exists under its condition.
        assert_eq!(value("!If [IsDev, 1, !GetAtt Queue.Nonsense]"), json!(1));
    }

    #[test]
    fn a_name_that_leads_nowhere_says_where_it_stands() {
        assert_eq!(error("{a: [x, !Ref Nope]}"), "V.a[1].Ref: nothing in the template is called `Nope`");
        assert_eq!(error("!Sub 'x-${Nope}'"), "V.Fn::Sub: nothing in the template is called `Nope`");
        assert_eq!(error("!GetAtt Nope.Arn"), "V.Fn::GetAtt: nothing in the template is called `Nope`");
        assert_eq!(
            error("!GetAtt Queue.Length"),
            "V.Fn::GetAtt: unknown attribute `Queue.Length` (known here: Arn, QueueName, QueueUrl)"
        );
        assert_eq!(error("!GetAtt Optional.Arn"), "V.Fn::GetAtt: resource `Optional` is left out by its condition");
        assert_eq!(error("!Ref Bare"), "V.Ref: parameter `Bare` has no default, which one machine needs");
        assert_eq!(error("!If [Nope, 1, 2]"), "V.Fn::If: there is no condition `Nope`");
        assert_eq!(error("!If [Lost, 1, 2]"), "Conditions.Lost.Condition: there is no condition `Nowhere`");
        assert_eq!(
            error("!FindInMap [Sizes, prod, memory]"),
            "V.Fn::FindInMap: there is no mapping `Sizes.prod.memory`"
        );
    }

    #[test]
    fn a_function_with_wrong_arguments_says_so() {
        assert_eq!(error("!Join [a]"), "V.Fn::Join: needs a list of 2");
        assert_eq!(error("!Join [a, b]"), "V.Fn::Join: a list is needed here");
        assert_eq!(error("!Select [4, [a]]"), "V.Fn::Select: the list has no item `4`");
        assert_eq!(error("!Select [0, a]"), "V.Fn::Select: the second argument is not a list");
        assert_eq!(error("!Split ['', a]"), "V.Fn::Split: the separator is empty");
        assert_eq!(error("!Sub [a]"), "V.Fn::Sub: needs a text, or a text and its variables");
        assert_eq!(error("!Sub 7"), "V.Fn::Sub: needs a text, or a text and its variables");
        assert_eq!(error("!Sub '${Stage'"), "V.Fn::Sub: a `${` has no `}`");
        assert_eq!(error("!Ref [a]"), "V.Ref: a text is needed here");
        assert_eq!(error("{'Fn::GetAtt': Queue}"), "V.Fn::GetAtt: needs a resource and an attribute");
        assert_eq!(error("!If [[IsProd], 1, 2]"), "V.Fn::If: the first argument is not the name of a condition");
        assert_eq!(error("!If [Odd, 1, 2]"), "Conditions.Odd: unknown condition function `Fn::Select`");
    }

    #[test]
    fn a_function_that_one_machine_cannot_answer_is_an_error() {
        assert_eq!(error("{a: {'Fn::ImportValue': x}}"), "V.a: unknown function `Fn::ImportValue`");
    }

    #[test]
    fn a_condition_that_refers_to_itself_is_an_error_and_not_a_loop() {
        assert_eq!(
            error("!If [Loop, 1, 2]"),
            "Conditions.Loop.Fn::Not[0].Condition: condition `Loop` refers to itself"
        );
    }
}
