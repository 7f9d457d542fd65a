//! What may be asked of the lake: one statement that only reads. The text is taken apart into tokens first; parameters are bound there, so
//! that no value is ever read as SQL, and the size of what a planner must recurse into is known before it starts.
//!
//! Both SQL adapters ask here, so that what is allowed is the same in both worlds. This crate knows neither tables nor engines.

use serde_json::Value;
use sluice_ports::{ErrorKind, PortError};
use sqlparser::ast::{Query, SetExpr, Statement};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Word};
use std::collections::HashMap;

const QUERY: &str = "sql.query";

/// Longest statement.
const STATEMENT_BYTES: usize = 64 * 1_024;
/// Most operators of a statement; each may nest one level deeper for the planner, which recurses.
const OPERATORS: usize = 500;

/// First words of statements that are understood and not allowed.
const DENIED: &[&str] = &[
    "alter",
    "analyze",
    "attach",
    "begin",
    "call",
    "cache",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "detach",
    "drop",
    "execute",
    "export",
    "grant",
    "import",
    "insert",
    "install",
    "kill",
    "load",
    "lock",
    "merge",
    "optimize",
    "pragma",
    "prepare",
    "refresh",
    "rename",
    "replace",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "set",
    "start",
    "truncate",
    "unload",
    "unlock",
    "update",
    "upsert",
    "use",
    "vacuum",
];

/// How names are written in the tables, by their lower-case form.
#[derive(Debug, Default)]
pub struct Spellings(HashMap<String, Vec<String>>);

impl Spellings {
    /// Adds a name of a table or a column.
    pub fn add(&mut self, name: &str) {
        let spellings = self.0.entry(name.to_lowercase()).or_default();
        if !spellings.iter().any(|known| known == name) {
            spellings.push(name.to_owned());
        }
    }

    /// The name that an unquoted word means, if it is not just its lower-case form: SQL does not mind the case of such words, so
    /// `memberid` means the column `memberId` where no column is called `memberid`.
    fn meant_by(&self, word: &str) -> Option<&str> {
        let spellings = self.0.get(&word.to_lowercase())?;
        let exact = spellings.iter().find(|name| *name == word);
        let meant = match (exact, spellings.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, _) => return None,
        };
        meant.chars().any(char::is_uppercase).then_some(meant)
    }
}

/// Reads a statement and binds its parameters, as literals in their places.
pub fn read(text: &str, parameters: &[Value], spellings: &Spellings) -> Result<Statement, PortError> {
    parse(bind(text, parameters, spellings)?)
}

/// The same as a text in standard SQL, for an engine that reads it anew. It is written from the tokens: the parser's own way back to text takes
/// quotes in a literal for escaped ones and leaves them as they are, so that the engine would see the literal end there.
pub fn standard_text(text: &str, parameters: &[Value]) -> Result<String, PortError> {
    let mut tokens = bind(text, parameters, &Spellings::default())?;
    let mut written = String::with_capacity(text.len());
    for token in &mut tokens {
        if let Token::Word(Word { quote_style: Some(quote), .. }) = token {
            *quote = '"';
        }
        write(token, &mut written)?;
    }
    // What an engine reads is what was allowed here, to the token.
    let again = tokenize(&written)?;
    if !significant(&again).eq(significant(&tokens)) {
        return Err(invalid("the statement cannot be written in standard SQL".to_owned()));
    }
    parse(tokens)?;
    Ok(written.trim_matches(' ').to_owned())
}

fn significant(tokens: &[Token]) -> impl Iterator<Item = &Token> {
    tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon))
}

fn tokenize(text: &str) -> Result<Vec<Token>, PortError> {
    Tokenizer::new(&GenericDialect {}, text).tokenize().map_err(|error| invalid(error.to_string()))
}

fn write(token: &Token, out: &mut String) -> Result<(), PortError> {
    let mut quoted = |quote: &str, value: &str| {
        out.push_str(quote);
        out.push_str(&value.replace(quote, &quote.repeat(2)));
        out.push_str(quote);
    };
    match token {
        Token::SingleQuotedString(value) => quoted("'", value),
        Token::Word(Word { quote_style: Some(_), value, .. }) => quoted("\"", value),
        // Comments too. A statement ends by itself.
        Token::Whitespace(_) | Token::SemiColon => out.push(' '),
        token if is_other_literal(token) => {
            return Err(invalid(format!("`{token}`: only literals of the form '…' are taken here")));
        }
        token => out.push_str(&token.to_string()),
    }
    Ok(())
}

/// Literals that engines write in ways of their own.
fn is_other_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

/// The tokens of a statement, with its parameters in their places.
fn bind(text: &str, parameters: &[Value], spellings: &Spellings) -> Result<Vec<Token>, PortError> {
    if text.len() > STATEMENT_BYTES {
        return Err(fail(
            ErrorKind::TooLarge,
            format!("the statement has {} bytes; it takes up to {STATEMENT_BYTES}", text.len()),
        ));
    }
    let tokens = tokenize(text)?;
    if let Some(Token::Word(first)) = tokens.iter().find(|token| !matches!(token, Token::Whitespace(_) | Token::LParen))
    {
        let word = first.value.to_lowercase();
        if DENIED.contains(&word.as_str()) {
            return Err(denied(format!(
                "`{}` is not allowed; a statement may only read, with SELECT",
                word.to_uppercase()
            )));
        }
    }
    let mut operators = 0;
    let mut bound = Vec::with_capacity(tokens.len());
    for token in tokens {
        operators += usize::from(nests(&token));
        match token {
            Token::Placeholder(name) => bound.extend(literal(&name, parameters)?),
            Token::Word(mut word) if word.quote_style.is_none() => {
                if let Some(name) = spellings.meant_by(&word.value)
                    && (word.keyword == Keyword::NoKeyword || word.value == name)
                {
                    word.value = name.to_owned();
                    word.quote_style = Some('"');
                    word.keyword = Keyword::NoKeyword;
                }
                bound.push(Token::Word(word));
            }
            token => bound.push(token),
        }
    }
    if operators > OPERATORS {
        return Err(fail(
            ErrorKind::TooLarge,
            format!("the statement has {operators} operators; it takes up to {OPERATORS}"),
        ));
    }
    Ok(bound)
}

fn parse(tokens: Vec<Token>) -> Result<Statement, PortError> {
    let mut statements = Parser::new(&GenericDialect {})
        .with_tokens(tokens)
        .parse_statements()
        .map_err(|error| invalid(error.to_string()))?;
    match (statements.pop(), statements.is_empty()) {
        (None, _) => Err(invalid("there is no statement".to_owned())),
        (Some(_), false) => Err(denied("one statement at a time".to_owned())),
        (Some(statement), true) => allow(statement),
    }
}

fn allow(statement: Statement) -> Result<Statement, PortError> {
    match &statement {
        Statement::Query(query) => reads(query)?,
        Statement::Explain { statement: inner, .. } => match inner.as_ref() {
            Statement::Query(query) => reads(query)?,
            _ => return Err(denied("EXPLAIN takes a SELECT".to_owned())),
        },
        Statement::ExplainTable { .. } | Statement::ShowTables { .. } | Statement::ShowColumns { .. } => {}
        _ => return Err(denied("this statement is not allowed; a statement may only read, with SELECT".to_owned())),
    }
    Ok(statement)
}

/// Refuses what a query may hide: other statements in its place, `SELECT … INTO`, a SELECT of nothing.
fn reads(query: &Query) -> Result<(), PortError> {
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        reads(&table.query)?;
    }
    reads_body(&query.body)
}

fn reads_body(body: &SetExpr) -> Result<(), PortError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => Err(denied("SELECT … INTO is not allowed".to_owned())),
        SetExpr::Select(select) if select.projection.is_empty() => {
            Err(invalid("SELECT takes at least one column".to_owned()))
        }
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => reads(query),
        SetExpr::SetOperation { left, right, .. } => {
            reads_body(left)?;
            reads_body(right)
        }
        _ => Err(denied("a statement may only read".to_owned())),
    }
}

/// The parameter `$n` as one literal.
fn literal(name: &str, parameters: &[Value]) -> Result<Vec<Token>, PortError> {
    let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()).filter(|number| *number > 0);
    let Some(number) = number else {
        return Err(invalid(format!("`{name}` is no parameter; they are called `$1`, `$2` and so on")));
    };
    let Some(value) = parameters.get(number - 1) else {
        return Err(invalid(format!("the parameter `${number}` is not given; there are {}", parameters.len())));
    };
    Ok(match value {
        Value::Null => vec![Token::make_keyword("NULL")],
        Value::Bool(true) => vec![Token::make_keyword("TRUE")],
        Value::Bool(false) => vec![Token::make_keyword("FALSE")],
        Value::String(text) => vec![Token::SingleQuotedString(text.clone())],
        Value::Number(number) => {
            let text = number.to_string();
            match text.strip_prefix('-') {
                Some(magnitude) => {
                    vec![Token::LParen, Token::Minus, Token::Number(magnitude.to_owned(), false), Token::RParen]
                }
                None => vec![Token::Number(text, false)],
            }
        }
        Value::Array(_) | Value::Object(_) => {
            return Err(invalid(format!(
                "the parameter `${number}` is a list or an object; it takes text, a number, a boolean or null"
            )));
        }
    })
}

/// Whether a token may make the statement's tree one level deeper.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none()
                && matches!(
                    word.keyword,
                    Keyword::AND
                        | Keyword::OR
                        | Keyword::NOT
                        | Keyword::UNION
                        | Keyword::EXCEPT
                        | Keyword::INTERSECT
                        | Keyword::JOIN
                        | Keyword::LIKE
                        | Keyword::ILIKE
                        | Keyword::IS
                        | Keyword::CASE
                        | Keyword::SELECT
                        | Keyword::XOR
                        | Keyword::DIV
                        | Keyword::COLLATE
                        | Keyword::OVERLAPS
                        | Keyword::AT
                )
        }
        Token::Comma
        | Token::Whitespace(_)
        | Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::RParen
        | Token::RBracket
        | Token::SemiColon
        | Token::EOF
        | Token::Placeholder(_)
        | Token::DoubleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::HexStringLiteral(_) => false,
        _ => true,
    }
}

fn fail(kind: ErrorKind, detail: String) -> PortError {
    PortError::new(kind, QUERY, detail)
}

fn invalid(detail: String) -> PortError {
    fail(ErrorKind::Invalid, detail)
}

fn denied(detail: String) -> PortError {
    fail(ErrorKind::Denied, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_as(text: &str, parameters: &[Value]) -> Result<String, PortError> {
        let mut spellings = Spellings::default();
        for name in ["memberId", "e_c", "Order", "web_event", "Time", "time"] {
            spellings.add(name);
        }
        read(text, parameters, &spellings).map(|statement| statement.to_string())
    }

    #[test]
    fn parameters_become_literals() {
        let parameters = [json!("x' OR 1=1 --"), json!(-5), json!(null), json!(true), json!(1.5)];
        assert_eq!(
            read_as("SELECT a - $2 FROM t WHERE b = $1 AND c IS $3 AND d = $4 AND e < $5", &parameters).unwrap(),
            "SELECT a - (-5) FROM t WHERE b = 'x'' OR 1=1 --' AND c IS NULL AND d = true AND e < 1.5"
        );
        for (text, parameters, why) in [
            ("SELECT $2", vec![json!(1)], "the parameter `$2` is not given; there are 1"),
            ("SELECT $0", vec![json!(1)], "`$0` is no parameter; they are called `$1`, `$2` and so on"),
            ("SELECT ?", vec![json!(1)], "`?` is no parameter; they are called `$1`, `$2` and so on"),
            (
                "SELECT $1",
                vec![json!([1])],
                "the parameter `$1` is a list or an object; it takes text, a number, a boolean or null",
            ),
        ] {
            let error = read_as(text, &parameters).unwrap_err();
            assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Invalid, why));
        }
        assert_eq!(read_as("SELECT '$1', \"$1\"", &[]).unwrap(), "SELECT '$1', \"$1\"", "quoted text is left alone");
    }

    #[test]
    fn a_text_for_another_engine_says_what_was_read() {
        // The parser's own way back to text would end each of these too early.
        for value in [r"\' OR 1=1 --", "''", "'''r'", r"\\''", "it's"] {
            let written = standard_text("SELECT a FROM t WHERE b = $1", &[json!(value)]).unwrap();
            assert_eq!(written, format!("SELECT a FROM t WHERE b = '{}'", value.replace('\'', "''")));
        }
        for (given, written) in [
            (r#"SELECT "a\"" -- b" FROM `c`;"#, r#"SELECT "a\"" -- b" FROM "c""#),
            ("SELECT 1 -- ' \n, /* \" */ 2 ; ;", "SELECT 1  ,   2"),
            ("SELECT a <> b, c[1], d || '''' FROM e", "SELECT a <> b, c[1], d || '''' FROM e"),
        ] {
            assert_eq!(standard_text(given, &[]).unwrap(), written);
        }
        for refused in [r"SELECT E'\''", "SELECT X'41'", "SELECT $$a$$", "SELECT N'a'"] {
            assert_eq!(standard_text(refused, &[]).unwrap_err().kind, ErrorKind::Invalid, "{refused}");
        }
        assert_eq!(standard_text("SELECT 1; DROP TABLE t", &[]).unwrap_err().kind, ErrorKind::Denied);
    }

    #[test]
    fn names_are_found_whatever_the_case_of_unquoted_words() {
        assert_eq!(
            read_as("SELECT MEMBERID, memberId, \"memberid\", E_C, time, Time FROM web_event ORDER BY \"Order\"", &[])
                .unwrap(),
            "SELECT \"memberId\", \"memberId\", \"memberid\", E_C, time, \"Time\" FROM web_event ORDER BY \"Order\""
        );
    }

    #[test]
    fn only_one_reading_statement_is_allowed() {
        for text in [
            "SELECT 1",
            "select 1;",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1)",
            "(SELECT 1) UNION ALL SELECT 2",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW COLUMNS FROM t",
            "DESCRIBE t",
        ] {
            assert!(read_as(text, &[]).is_ok(), "{text}");
        }
        for text in [
            "DROP TABLE t",
            "copy t to 'x'",
            "SET a = 1",
            "INSERT INTO t VALUES (1)",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE t",
            "EXPLAIN DROP TABLE t",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "SELECT * INTO t FROM u",
            "SHOW ALL",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x'",
            "( DELETE FROM t )",
            "LOAD 'x'",
        ] {
            let error = read_as(text, &[]).map(|_| ()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{text}: {error}");
        }
        for text in ["", ";", "SELEC 1", "SELECT", "SELECT (1", "SELECT 'a"] {
            let error = read_as(text, &[]).map(|_| ()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{text}: {error}");
        }
    }

    #[test]
    fn what_would_nest_too_deep_is_refused_before_it_is_parsed() {
        for text in
            [format!("SELECT 1{}", " + 1".repeat(600)), format!("SELECT {}1{}", "(".repeat(600), ")".repeat(600))]
        {
            assert_eq!(read_as(&text, &[]).unwrap_err().kind, ErrorKind::TooLarge);
        }
        assert!(read_as(&format!("SELECT 1 WHERE 1 IN (1{})", ", 1".repeat(5_000)), &[]).is_ok());
        assert_eq!(read_as(&format!("SELECT '{}'", "a".repeat(70_000)), &[]).unwrap_err().kind, ErrorKind::TooLarge);
    }
}
