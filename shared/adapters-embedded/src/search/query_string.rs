//! The two query languages for people: Lucene's (`query_string`) and the forgiving one (`simple_query_string`). Text becomes a tree; what
//! its fields mean is decided by whoever compiles it.
//!
//! `AND` binds tighter than `OR`, which Lucene's own parser does not promise; where it matters, people write parentheses.

/// A query as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ast {
    /// Everything.
    All,
    /// Boolean of clauses.
    Bool { must: Vec<Ast>, should: Vec<Ast>, must_not: Vec<Ast> },
    /// A word or a value.
    Word { field: Option<String>, text: String },
    /// A quoted text; its words may be moved by `slop` places.
    Phrase { field: Option<String>, text: String, slop: u32 },
    /// A word with `*` or `?`; escapes are still in it.
    Pattern { field: Option<String>, text: String },
    /// Bounds with whether they belong to the range.
    Range { field: String, low: Option<(String, bool)>, high: Option<(String, bool)> },
    /// The field has a value.
    Exists { field: String },
    /// Scores this much more.
    Boost(Box<Ast>, f32),
}

/// Which language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `query_string`: mistakes are errors.
    Lucene,
    /// `simple_query_string`: there are no mistakes.
    Simple,
}

/// What stands between two words without an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// Either.
    Or,
    /// Both.
    And,
}

/// Longest text taken.
const TEXT_BYTES: usize = 16 * 1024;
/// Deepest nesting of parentheses.
const DEPTH: usize = 32;

/// Parses a text; the error says what is wrong at which byte.
pub(super) fn parse(text: &str, dialect: Dialect, default: Operator) -> Result<Ast, String> {
    if text.len() > TEXT_BYTES {
        return Err(format!("the query has {} bytes; it takes up to {TEXT_BYTES}", text.len()));
    }
    let mut parser = Parser { text, at: 0, dialect, default };
    let mut clauses = Vec::new();
    loop {
        clauses.extend(parser.clauses(None, 0)?);
        match parser.peek() {
            None => break,
            // Only `clauses` at depth 0 stops here: a parenthesis that nobody opened.
            Some(_) if dialect == Dialect::Simple => parser.bump(),
            Some(_) => return Err(format!("unmatched `)` at byte {}", parser.at)),
        }
    }
    Ok(join(clauses))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    None,
    Plus,
    Minus,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    default: Operator,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.bump();
        }
        there
    }

    fn eat_text(&mut self, text: &str) -> bool {
        let there = self.text[self.at..].starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    /// An operator word stands alone: it is followed by a space or a parenthesis.
    fn eat_word(&mut self, word: &str) -> bool {
        let rest = &self.text[self.at..];
        let there =
            rest.strip_prefix(word).is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || c == '('));
        if there {
            self.at += word.len();
        }
        there
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    fn fail<T>(&self, why: &str) -> Result<T, String> {
        Err(format!("{why} at byte {}", self.at))
    }

    /// Clauses up to the end or an unmatched `)`.
    fn clauses(&mut self, field: Option<&str>, depth: usize) -> Result<Vec<(Sign, Ast)>, String> {
        // Runs of clauses that are joined by AND; the runs themselves are joined by OR.
        let mut runs: Vec<Vec<(Sign, Ast)>> = Vec::new();
        loop {
            let mut joint = self.default;
            let mut named = false;
            loop {
                self.skip_spaces();
                let operator = self.operator();
                match operator {
                    Some(_) if self.dialect == Dialect::Lucene && (named || runs.is_empty()) => {
                        return self.fail("an operator without a clause before it");
                    }
                    Some(operator) => (joint, named) = (operator, true),
                    None => break,
                }
            }
            let end = self.peek().is_none_or(|c| c == ')');
            if end {
                if named && self.dialect == Dialect::Lucene {
                    return self.fail("an operator without a clause after it");
                }
                break;
            }
            let sign = self.sign();
            self.skip_spaces();
            let Some(clause) = self.clause(field, depth)? else {
                if sign != Sign::None && self.dialect == Dialect::Lucene {
                    return self.fail("a sign without a clause");
                }
                continue;
            };
            match runs.last_mut() {
                Some(run) if joint == Operator::And => run.push((sign, clause)),
                _ => runs.push(vec![(sign, clause)]),
            }
        }
        Ok(runs
            .into_iter()
            .map(|mut run| match run.pop() {
                Some(only) if run.is_empty() => only,
                Some(last) => {
                    run.push(last);
                    (Sign::None, both(run))
                }
                None => (Sign::None, Ast::All),
            })
            .collect())
    }

    fn operator(&mut self) -> Option<Operator> {
        let (and, or) = match self.dialect {
            Dialect::Lucene => {
                (self.eat_word("AND") || self.eat_text("&&"), self.eat_word("OR") || self.eat_text("||"))
            }
            Dialect::Simple => (self.eat('+'), self.eat('|')),
        };
        if and {
            return Some(Operator::And);
        }
        or.then_some(Operator::Or)
    }

    fn sign(&mut self) -> Sign {
        if self.eat('-') || (self.dialect == Dialect::Lucene && (self.eat('!') || self.eat_word("NOT"))) {
            return Sign::Minus;
        }
        if self.dialect == Dialect::Lucene && self.eat('+') { Sign::Plus } else { Sign::None }
    }

    fn clause(&mut self, field: Option<&str>, depth: usize) -> Result<Option<Ast>, String> {
        let ast = match self.peek() {
            None | Some(')') => return Ok(None),
            Some('(') => {
                if depth >= DEPTH {
                    return self.fail("parentheses nest too deep");
                }
                self.bump();
                let inner = self.clauses(field, depth + 1)?;
                if !self.eat(')') && self.dialect == Dialect::Lucene {
                    return self.fail("missing `)`");
                }
                join(inner)
            }
            Some('"') => self.phrase(field)?,
            Some('[' | '{') if self.dialect == Dialect::Lucene => self.range(field)?,
            Some('<' | '>') if self.dialect == Dialect::Lucene && field.is_some() => self.half_range(field)?,
            Some(_) => match self.word(field, depth)? {
                Some(ast) => ast,
                None => return Ok(None),
            },
        };
        self.boost(ast).map(Some)
    }

    fn boost(&mut self, ast: Ast) -> Result<Ast, String> {
        if self.dialect == Dialect::Simple || !self.eat('^') {
            return Ok(ast);
        }
        match self.number().parse::<f32>() {
            Ok(boost) if boost.is_finite() && boost >= 0.0 => Ok(Ast::Boost(Box::new(ast), boost)),
            _ => self.fail("a boost that is not a number"),
        }
    }

    fn number(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit() || c == '.') {
            self.bump();
        }
        self.text[start..self.at].to_owned()
    }

    fn phrase(&mut self, field: Option<&str>) -> Result<Ast, String> {
        self.bump();
        let text = match self.quoted() {
            Some(text) => text,
            None if self.dialect == Dialect::Lucene => return self.fail("missing `\"`"),
            None => {
                let rest = self.text[self.at..].to_owned();
                self.at = self.text.len();
                rest
            }
        };
        let slop = if self.eat('~') { self.number().parse().unwrap_or(2) } else { 0 };
        Ok(Ast::Phrase { field: field.map(str::to_owned), text, slop })
    }

    /// The text up to the closing quote.
    fn quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Some(text);
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        None
    }

    fn range(&mut self, field: Option<&str>) -> Result<Ast, String> {
        let Some(field) = field else { return self.fail("a range without a field") };
        let low_included = self.eat('[');
        if !low_included {
            self.bump();
        }
        let low = self.bound()?;
        self.skip_spaces();
        if !self.eat_text("TO") {
            return self.fail("missing `TO`");
        }
        let high = self.bound()?;
        self.skip_spaces();
        let high_included = self.eat(']');
        if !high_included && !self.eat('}') {
            return self.fail("missing `]`");
        }
        Ok(Ast::Range {
            field: field.to_owned(),
            low: low.map(|low| (low, low_included)),
            high: high.map(|high| (high, high_included)),
        })
    }

    fn bound(&mut self) -> Result<Option<String>, String> {
        self.skip_spaces();
        if self.eat('"') {
            return match self.quoted() {
                Some(text) => Ok(Some(text)),
                None => self.fail("missing `\"`"),
            };
        }
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if c.is_whitespace() || matches!(c, ']' | '}') {
                break;
            }
            self.bump();
            if c == '\\' {
                text.extend(self.peek());
                self.bump();
            } else {
                text.push(c);
            }
        }
        match text.as_str() {
            "" => self.fail("missing bound"),
            "*" => Ok(None),
            _ => Ok(Some(text)),
        }
    }

    fn half_range(&mut self, field: Option<&str>) -> Result<Ast, String> {
        let up = self.peek() == Some('>');
        self.bump();
        let included = self.eat('=');
        let (text, _) = self.token(true);
        if text.is_empty() {
            return self.fail("missing bound");
        }
        let bound = Some((unescape(&text), included));
        let field = field.unwrap_or_default().to_owned();
        Ok(if up { Ast::Range { field, low: bound, high: None } } else { Ast::Range { field, low: None, high: bound } })
    }

    fn word(&mut self, field: Option<&str>, depth: usize) -> Result<Option<Ast>, String> {
        let (token, pattern) = self.token(field.is_some());
        if self.dialect == Dialect::Lucene && field.is_none() && self.peek() == Some(':') {
            self.bump();
            self.skip_spaces();
            return self.field(&token, depth).map(Some);
        }
        if token.is_empty() {
            if self.dialect == Dialect::Lucene {
                return self.fail("an unexpected character");
            }
            self.bump();
            return Ok(None);
        }
        if self.eat('~') {
            let _ = self.number();
            if self.dialect == Dialect::Lucene {
                return self.fail("fuzzy words are not supported");
            }
        }
        let owned = field.map(str::to_owned);
        Ok(Some(match (token.as_str(), field) {
            ("*", None) => Ast::All,
            ("*", Some(field)) => Ast::Exists { field: field.to_owned() },
            _ if pattern => Ast::Pattern { field: owned, text: token },
            _ => Ast::Word { field: owned, text: unescape(&token) },
        }))
    }

    fn field(&mut self, name: &str, depth: usize) -> Result<Ast, String> {
        if name == "*" && self.eat('*') {
            return Ok(Ast::All);
        }
        let name = unescape(name);
        if name.is_empty() {
            return self.fail("missing field");
        }
        if name == "_exists_" {
            let (field, _) = self.token(true);
            return if field.is_empty() {
                self.fail("missing field")
            } else {
                Ok(Ast::Exists { field: unescape(&field) })
            };
        }
        match self.clause(Some(&name), depth)? {
            Some(ast) => Ok(ast),
            None => self.fail("missing value"),
        }
    }

    /// The next token with its escapes, and whether it has a wildcard. Within a value a colon has no meaning.
    fn token(&mut self, in_value: bool) -> (String, bool) {
        let (start, mut pattern) = (self.at, false);
        while let Some(c) = self.peek() {
            let ends = match self.dialect {
                Dialect::Lucene => {
                    c.is_whitespace()
                        || matches!(c, '(' | ')' | '"' | '[' | ']' | '{' | '}' | '^' | '~')
                        || (c == ':' && !in_value)
                }
                Dialect::Simple => c.is_whitespace() || matches!(c, '(' | ')' | '"' | '|' | '+' | '~'),
            };
            if ends {
                break;
            }
            pattern |= c == '*' || (c == '?' && self.dialect == Dialect::Lucene);
            self.bump();
            if c == '\\' {
                self.bump();
            }
        }
        (self.text[start..self.at].to_owned(), pattern)
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

/// Clauses of which all must hold.
fn both(clauses: Vec<(Sign, Ast)>) -> Ast {
    let (must_not, must): (Vec<_>, Vec<_>) = clauses.into_iter().partition(|(sign, _)| *sign == Sign::Minus);
    let strip = |clauses: Vec<(Sign, Ast)>| clauses.into_iter().map(|(_, ast)| ast).collect();
    Ast::Bool { must: strip(must), should: Vec::new(), must_not: strip(must_not) }
}

/// Clauses of which one must hold, unless signs say otherwise.
fn join(mut clauses: Vec<(Sign, Ast)>) -> Ast {
    if let [(Sign::None | Sign::Plus, _)] = clauses.as_slice()
        && let Some((_, only)) = clauses.pop()
    {
        return only;
    }
    let (mut must, mut should, mut must_not) = (Vec::new(), Vec::new(), Vec::new());
    for (sign, ast) in clauses {
        match sign {
            Sign::None => should.push(ast),
            Sign::Plus => must.push(ast),
            Sign::Minus => must_not.push(ast),
        }
    }
    if must.is_empty() && should.is_empty() && must_not.is_empty() {
        // OpenSearch finds nothing for an empty text.
        must_not.push(Ast::All);
    }
    Ast::Bool { must, should, must_not }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lucene(text: &str) -> Ast {
        parse(text, Dialect::Lucene, Operator::Or).unwrap()
    }

    fn word(field: &str, text: &str) -> Ast {
        Ast::Word { field: (!field.is_empty()).then(|| field.to_owned()), text: text.to_owned() }
    }

    fn all_of(must: Vec<Ast>) -> Ast {
        Ast::Bool { must, should: vec![], must_not: vec![] }
    }

    fn any_of(should: Vec<Ast>) -> Ast {
        Ast::Bool { must: vec![], should, must_not: vec![] }
    }

    #[test]
    fn fields_and_operators() {
        assert_eq!(
            lucene("status:404 AND type:http.access"),
            all_of(vec![word("status", "404"), word("type", "http.access")])
        );
        assert_eq!(lucene("a OR b AND c"), any_of(vec![word("", "a"), all_of(vec![word("", "b"), word("", "c")])]));
        assert_eq!(lucene("(a)"), word("", "a"));
        assert_eq!(lucene("f:(a b)"), any_of(vec![word("f", "a"), word("f", "b")]));
        assert_eq!(lucene("time:2026-01-01T00:00:00Z"), word("time", "2026-01-01T00:00:00Z"));
        assert_eq!(lucene("ORDER ANDROID"), any_of(vec![word("", "ORDER"), word("", "ANDROID")]));
    }

    #[test]
    fn signs_and_negation() {
        assert_eq!(
            lucene("+a b -c"),
            Ast::Bool { must: vec![word("", "a")], should: vec![word("", "b")], must_not: vec![word("", "c")] }
        );
        assert_eq!(lucene("NOT a"), Ast::Bool { must: vec![], should: vec![], must_not: vec![word("", "a")] });
        assert_eq!(
            lucene("a AND NOT b"),
            Ast::Bool { must: vec![word("", "a")], should: vec![], must_not: vec![word("", "b")] }
        );
    }

    #[test]
    fn ranges_phrases_patterns_and_boosts() {
        let some = |text: &str, included| Some((text.to_owned(), included));
        assert_eq!(
            lucene("n:[1 TO 5}"),
            Ast::Range { field: "n".into(), low: some("1", true), high: some("5", false) }
        );
        assert_eq!(
            lucene("t:{* TO now-1d/d]"),
            Ast::Range { field: "t".into(), low: None, high: some("now-1d/d", true) }
        );
        assert_eq!(lucene("n:>=5"), Ast::Range { field: "n".into(), low: some("5", true), high: None });
        assert_eq!(
            lucene(r#"u:"a \"b\" c"~3"#),
            Ast::Phrase { field: Some("u".into()), text: "a \"b\" c".into(), slop: 3 }
        );
        assert_eq!(lucene("u:/a*"), Ast::Pattern { field: Some("u".into()), text: "/a*".into() });
        assert_eq!(lucene("u:*"), Ast::Exists { field: "u".into() });
        assert_eq!(lucene("_exists_:a.b"), Ast::Exists { field: "a.b".into() });
        assert_eq!(lucene("*:*"), Ast::All);
        assert_eq!(lucene("a^2"), Ast::Boost(Box::new(word("", "a")), 2.0));
        assert_eq!(lucene(r"u:\/a\:b\*"), word("u", "/a:b*"));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, why) in [
            ("a AND", "a sign"),
            ("(a", "missing `)` at byte 2"),
            ("a)", "unmatched `)` at byte 1"),
            ("\"a", "missing `\"`"),
            ("[1 TO 2]", "a range without a field"),
            ("n:[1 2]", "missing `TO`"),
            ("n:", "missing value"),
            ("AND a", "an operator without a clause before it"),
            ("a~2", "fuzzy words are not supported"),
            ("a^x", "a boost that is not a number"),
        ] {
            let error = parse(text, Dialect::Lucene, Operator::Or);
            if text == "a AND" {
                // Without a space behind it, `AND` is a word.
                assert!(error.is_ok());
                continue;
            }
            let error = error.unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
        assert!(parse(&"(".repeat(100), Dialect::Lucene, Operator::Or).is_err());
    }

    #[test]
    fn the_simple_language_takes_everything() {
        let simple = |text: &str| parse(text, Dialect::Simple, Operator::And).unwrap();
        assert_eq!(simple("a b"), all_of(vec![word("", "a"), word("", "b")]));
        assert_eq!(simple("a | b"), any_of(vec![word("", "a"), word("", "b")]));
        assert_eq!(simple("f:x"), word("", "f:x"));
        assert_eq!(simple(r#""a b"#), Ast::Phrase { field: None, text: "a b".into(), slop: 0 });
        assert_eq!(simple("a)"), word("", "a"));
        for text in ["((((", "+|-", "~", "\\", "a~", "\"", "-", "- -", ")("] {
            simple(text);
        }
        // Deeper than the limit is the one thing that is refused.
        assert!(parse(&"(".repeat(40), Dialect::Simple, Operator::And).is_err());
    }
}
