//! Relations between the fields of one event, which JSON Schema has no words for.
//!
//! - `x-max-field: "whole"` on an integer: it is at most the integer `whole` of the same data.
//! - `x-percent-of: ["part", "whole"]` on a number: the server computes it as part / whole × 100, and as 0 where the whole is 0. The part has
//!   `x-max-field: "whole"` and `minimum: 0`, so that the result is 0 to 100.
//! - `x-judge: "square-blitz"` on a string: in events of this source the server says there why the play cannot have been ([`crate::game`]),
//!   where it cannot. The file has the integers `total_squares`, `clicked_count` and `duration_ms`, and `reaction_ms`, a list of integers.
//!
//! A relation says nothing where one of its fields is absent.

use super::{Cell, Column, ColumnKind, Violation, violation};
use crate::game::{self, Play};
use crate::json::{Node, Object};
use serde_json::{Map, Value as Json};

/// The relations of a schema; columns by their position.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Relations {
    at_most: Vec<AtMost>,
    percents: Vec<Percent>,
    judges: Vec<Judge>,
}

/// The field that says why a play is doubted, and where the play stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judge {
    field: usize,
    total_squares: usize,
    clicked_count: usize,
    reaction_ms: usize,
    duration_ms: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AtMost {
    field: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Percent {
    field: usize,
    part: usize,
    whole: usize,
}

impl Relations {
    /// Reads the relations of a schema file's properties; an error is the place below `/properties` and what is wrong.
    pub(super) fn parse(properties: &Map<String, Json>, columns: &[Column]) -> Result<Self, (String, String)> {
        let mut relations = Self::default();
        let position = |name: &str| columns.iter().position(|c| c.name == name);
        let integer = |name: &Json| position(name.as_str()?).filter(|i| columns[*i].kind == ColumnKind::Integer);
        let annotated = |keyword: &'static str| {
            properties
                .iter()
                .filter_map(move |(name, p)| Some((position(name)?, format!("/{name}/{keyword}"), p.get(keyword)?)))
        };
        for (field, at, limit) in annotated("x-max-field") {
            let limit = integer(limit).filter(|limit| *limit != field && columns[field].kind == ColumnKind::Integer);
            let limit =
                limit.ok_or_else(|| (at, "stands at an integer and names another one of this file".to_owned()))?;
            relations.at_most.push(AtMost { field, limit });
        }
        for (field, at, of) in annotated("x-percent-of") {
            let named = match of.as_array().map(Vec::as_slice) {
                Some([part, whole]) => integer(part).zip(integer(whole)),
                _ => None,
            };
            let bounded = |(part, whole): &(usize, usize)| {
                let minimum = columns[*part].bounds.minimum;
                minimum.is_some_and(|m| m >= 0.0) && relations.at_most.contains(&AtMost { field: *part, limit: *whole })
            };
            let named = named.filter(bounded).filter(|_| columns[field].kind == ColumnKind::Number);
            let (part, whole) = named.ok_or_else(|| {
                let what = "stands at a number and names two integers, [part, whole], the part with `minimum` 0 and the whole as its `x-max-field`";
                (at, what.to_owned())
            })?;
            relations.percents.push(Percent { field, part, whole });
        }
        for (field, at, rules) in annotated("x-judge") {
            let judge = || {
                let integer = |name: &str| position(name).filter(|i| columns[*i].kind == ColumnKind::Integer);
                let integers = ColumnKind::List(Box::new(ColumnKind::Integer));
                Some(Judge {
                    field,
                    total_squares: integer("total_squares")?,
                    clicked_count: integer("clicked_count")?,
                    reaction_ms: position("reaction_ms").filter(|i| columns[*i].kind == integers)?,
                    duration_ms: integer("duration_ms")?,
                })
            };
            let is_known = rules.as_str() == Some(game::SOURCE) && columns[field].kind == ColumnKind::Text;
            let judge = judge().filter(|_| is_known).ok_or_else(|| {
                let what = format!("stands at a string and is `{}`, beside the fields of a play", game::SOURCE);
                (at, what)
            })?;
            relations.judges.push(judge);
        }
        Ok(relations)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at_most.is_empty() && self.percents.is_empty() && self.judges.is_empty()
    }

    /// Checks data whose fields each fit their own column; `integer` answers the integer of a column that was sent.
    pub(super) fn check(&self, columns: &[Column], integer: impl Fn(usize) -> Option<i64>) -> Result<(), Violation> {
        for AtMost { field, limit } in &self.at_most {
            if let (Some(value), Some(most)) = (integer(*field), integer(*limit))
                && value > most
            {
                let what = format!("is {value}, more than `{}`, which is {most}", columns[*limit].name);
                return Err(violation(&columns[*field].name, what));
            }
        }
        Ok(())
    }

    /// The numbers that the server computes from data that fits: columns and values. `integer` as in [`Self::check`].
    pub(super) fn compute(&self, integer: impl Fn(usize) -> Option<i64>) -> impl Iterator<Item = (usize, f64)> {
        self.percents.iter().filter_map(move |p| Some((p.field, percent(integer(p.part)?, integer(p.whole)?))))
    }

    /// Why the play in an event of this source cannot have been: columns and reasons; nothing without the counts. `integers` answers those of a
    /// list that was sent.
    pub(super) fn doubts(
        &self,
        source: &str,
        integer: impl Fn(usize) -> Option<i64>,
        integers: impl Fn(usize) -> Vec<i64>,
    ) -> impl Iterator<Item = (usize, String)> {
        let judges = if source == game::SOURCE { self.judges.as_slice() } else { &[] };
        judges.iter().filter_map(move |judge| {
            let play = Play {
                total_squares: integer(judge.total_squares)?,
                clicked_count: integer(judge.clicked_count)?,
                reaction_ms: integers(judge.reaction_ms),
                duration_ms: integer(judge.duration_ms),
            };
            Some((judge.field, play.doubts()?))
        })
    }
}

/// The integer of a column in checked data.
pub(super) fn integer(column: &Column, data: &Object<'_>) -> Option<i64> {
    match column.read(data.get(&column.name)?) {
        Ok(Cell::Integer(n)) => Some(n),
        _ => None,
    }
}

/// The integers of a list that was sent.
pub(super) fn integers(column: &Column, node: &Node<'_>) -> Vec<i64> {
    let number = |cell| if let Cell::Integer(n) = cell { Some(n) } else { None };
    match column.read(node) {
        Ok(Cell::List(cells)) => cells.into_iter().filter_map(number).collect(),
        _ => Vec::new(),
    }
}

/// `part` of `whole` in percent, 0 to 100 for a part of 0 to `whole`.
fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    // Whole percents exactly: 57 of 100 is 57 and not 56.99999999999999.
    let (hundredfold, whole) = (i128::from(part) * 100, i128::from(whole));
    (hundredfold / whole) as f64 + (hundredfold % whole) as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use crate::schema::Schema;
    use proptest::prelude::*;

    const FILE: &str = r#"{"type":"object","x-type":"game.result","x-sort":"time","properties":{
        "total":{"type":"integer","minimum":0,"x-column-id":101},
        "hit":{"type":"integer","minimum":0,"x-max-field":"total","x-column-id":102},
        "rate":{"type":"number","x-percent-of":["hit","total"],"x-column-id":103},
        "name":{"type":"string","x-column-id":104}}}"#;

    fn computed(data: &str) -> Vec<f64> {
        let schema = Schema::parse("f", FILE).unwrap();
        let node = json::parse_str(data).unwrap();
        let computed = schema.computed(node.as_object().unwrap(), "g");
        computed.into_iter().map(|computed| computed.value.as_f64().unwrap()).collect()
    }

    #[test]
    fn a_play_of_the_game_is_judged_and_no_other() {
        let schema = Schema::parse("f", include_str!("../../../../schemas/game.result.json")).unwrap();
        let suspect = |source: &str, data: &str| {
            let node = json::parse_str(data).unwrap();
            let computed = schema.computed(node.as_object().unwrap(), source);
            let found = computed.into_iter().find(|computed| computed.name == "suspect");
            found.map(|computed| computed.value.as_str().unwrap().to_owned())
        };
        let data = |reaction: &str| {
            format!(r#"{{"play_id":"p","total_squares":50,"clicked_count":2,"reaction_ms":{reaction}}}"#)
        };
        assert_eq!(suspect(game::SOURCE, &data("[9,9]")).as_deref(), Some("reaction_too_short"));
        assert_eq!(suspect("another", &data("[9,9]")), None);
        for fine in ["[400]", "[9]", "[]", "null", "[400,null]"] {
            assert_eq!(suspect(game::SOURCE, &data(fine)), None, "{fine}");
        }
        let short = r#"{"play_id":"p","total_squares":50,"clicked_count":1,"duration_ms":5}"#;
        assert_eq!(suspect(game::SOURCE, short).as_deref(), Some("duration_too_short"));
        assert_eq!(suspect(game::SOURCE, r#"{"play_id":"p","total_squares":50,"duration_ms":5}"#), None);
    }

    #[test]
    fn a_field_is_at_most_the_other() {
        let schema = Schema::parse("f", FILE).unwrap();
        let check = |data: &str| schema.check(json::parse_str(data).unwrap().as_object().unwrap());
        for fits in [r#"{"total":5,"hit":5}"#, r#"{"total":0,"hit":0}"#, r#"{"hit":9}"#, r#"{"total":1,"hit":null}"#] {
            check(fits).unwrap();
        }
        let violation = check(r#"{"total":5,"hit":6}"#).unwrap_err();
        assert_eq!((violation.pointer.as_str(), violation.code), ("/data/hit", "schema"));
        assert_eq!(violation.reason, "`hit` is 6, more than `total`, which is 5");
    }

    #[test]
    fn a_percentage_is_computed_where_both_parts_are_there() {
        assert_eq!(computed(r#"{"total":50,"hit":49,"rate":1}"#), [98.0]);
        assert_eq!(computed(r#"{"total":100,"hit":57}"#), [57.0]);
        assert_eq!(computed(r#"{"total":13,"hit":8}"#), [61.53846153846154]);
        assert_eq!(computed(r#"{"total":0,"hit":0}"#), [0.0]);
        assert!(computed(r#"{"total":5,"rate":20}"#).is_empty());
    }

    #[test]
    fn relations_that_make_no_sense_are_refused_at_their_place() {
        let max = r#""x-max-field":"total""#;
        let percent = r#""x-percent-of":["hit","total"]"#;
        for (old, new, place) in [
            (max, r#""x-max-field":"gone""#, "/properties/hit/x-max-field"),
            (max, r#""x-max-field":"hit""#, "/properties/hit/x-max-field"),
            (max, r#""x-max-field":"rate""#, "/properties/hit/x-max-field"),
            (max, r#""x-max-field":7"#, "/properties/hit/x-max-field"),
            (r#""name":{"#, r#""name":{"x-max-field":"total","#, "/properties/name/x-max-field"),
            (percent, r#""x-percent-of":["hit"]"#, "/properties/rate/x-percent-of"),
            (percent, r#""x-percent-of":["total","hit"]"#, "/properties/rate/x-percent-of"),
            (percent, r#""x-percent-of":["hit","name"]"#, "/properties/rate/x-percent-of"),
            (r#""hit":{"type":"integer","minimum":0,"#, r#""hit":{"type":"integer","#, "/properties/rate/x-percent-of"),
            (r#""name":{"#, r#""name":{"x-percent-of":["hit","total"],"#, "/properties/name/x-percent-of"),
            (r#""name":{"#, r#""name":{"x-judge":"square-blitz","#, "/properties/name/x-judge"),
        ] {
            let text = FILE.replace(old, new);
            assert_ne!(text, FILE);
            assert_eq!(Schema::parse("f", &text).unwrap_err().pointer, place, "{new}");
        }
    }

    proptest! {
        #[test]
        fn a_percentage_is_never_beyond_its_bounds(whole in 0i64.., share in 0u64..=1_000) {
            let part = (i128::from(whole) * i128::from(share) / 1_000) as i64;
            prop_assert!((0.0..=100.0).contains(&percent(part, whole)));
            prop_assert_eq!(percent(whole, whole), if whole == 0 { 0.0 } else { 100.0 });
        }
    }
}
