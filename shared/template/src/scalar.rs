//! Scalars as CloudFormation takes them: a number or a flag may come as text, since every parameter is text.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;

/// A whole number, or its decimal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole(pub u64);

/// `true` or `false`, or their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flag(pub bool);

/// Text; a number or a flag counts as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub String);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                u64::try_from(value).map(Whole).map_err(|_| E::custom(format!("`{value}` is below zero")))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Whole, E> {
                value.parse().map(Whole).map_err(|_| E::custom(format!("`{value}` is no whole number")))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or `false`")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Flag, E> {
                match value {
                    "true" => Ok(Flag(true)),
                    "false" => Ok(Flag(false)),
                    other => Err(E::custom(format!("`{other}` is neither `true` nor `false`"))),
                }
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.to_owned()))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
        }
        deserializer.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn numbers_and_flags_may_come_as_text() {
        assert_eq!(from_value::<Whole>(json!("30")).unwrap(), Whole(30));
        assert_eq!(from_value::<Whole>(json!(30)).unwrap(), Whole(30));
        assert_eq!(from_value::<Flag>(json!("true")).unwrap(), Flag(true));
        assert_eq!(from_value::<Flag>(json!(false)).unwrap(), Flag(false));
        assert_eq!(from_value::<Text>(json!(6291456)).unwrap(), Text("6291456".into()));
        assert_eq!(from_value::<Text>(json!(true)).unwrap(), Text("true".into()));
    }

    #[test]
    fn what_is_no_scalar_of_the_kind_is_refused() {
        assert!(from_value::<Whole>(json!("3 s")).is_err());
        assert!(from_value::<Whole>(json!(-1)).is_err());
        assert!(from_value::<Whole>(json!(1.5)).is_err());
        assert!(from_value::<Flag>(json!("yes")).is_err());
        assert!(from_value::<Text>(json!(["a"])).is_err());
        assert!(from_value::<Text>(json!(null)).is_err());
    }
}
