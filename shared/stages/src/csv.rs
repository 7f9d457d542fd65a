//! Rows as CSV (RFC 4180) for spreadsheets, as the console writes them too (`web/src/explore/sql/csv.ts`).

use serde_json::Value;
use sluice_ports::SqlResult;

/// A heading and a line per row; no value is an empty field.
///
/// Text that begins like a formula gets an apostrophe before it, as OWASP advises ("CSV Injection"), since values come from strangers.
/// Numbers stay numbers, minus included.
pub(crate) fn of(result: &SqlResult) -> String {
    // The mark makes Excel read UTF-8.
    let mut text = String::from("\u{feff}");
    let heading: Vec<String> = result.columns.iter().map(|column| field(&column.name)).collect();
    line(&mut text, &heading);
    for row in &result.rows {
        let cells = result.columns.iter().zip(row).map(|(column, value)| match value {
            Value::Null => String::new(),
            // Text, so that no digit is lost, and no word of a stranger.
            Value::String(number) if column.data_type.starts_with("decimal") => number.clone(),
            Value::String(words) => field(words),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => field(&value.to_string()),
        });
        line(&mut text, &cells.collect::<Vec<_>>());
    }
    text
}

fn line(text: &mut String, fields: &[String]) {
    text.push_str(&fields.join(","));
    text.push_str("\r\n");
}

fn field(words: &str) -> String {
    // A spreadsheet skips white space and quotation marks before it looks for a formula.
    let begins = words.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let skipped = &words[..words.len() - begins.len()];
    let is_formula =
        begins.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) || skipped.contains(['\t', '\r', '\n']);
    let harmless = if is_formula { format!("'{words}") } else { words.to_owned() };
    if harmless.contains([',', '"', '\r', '\n']) { format!("\"{}\"", harmless.replace('"', "\"\"")) } else { harmless }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sluice_ports::SqlColumn;

    fn csv(columns: &[(&str, &str)], rows: Vec<Vec<Value>>) -> String {
        let column =
            |(name, data_type): &(&str, &str)| SqlColumn { name: (*name).into(), data_type: (*data_type).into() };
        of(&SqlResult { columns: columns.iter().map(column).collect(), rows, ..SqlResult::default() })
    }

    #[test]
    fn rows_become_lines_that_excel_reads_as_utf_8() {
        let rows = vec![vec![json!(1), json!("김")], vec![json!(null), json!(true)]];
        assert_eq!(csv(&[("a", "bigint"), ("b", "varchar")], rows), "\u{feff}a,b\r\n1,김\r\n,true\r\n");
        assert_eq!(csv(&[("=cmd", "bigint")], vec![]), "\u{feff}'=cmd\r\n", "the name of a column can be hostile too");
    }

    #[test]
    fn what_a_spreadsheet_would_take_for_a_formula_stays_text() {
        for (value, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1+cmd", "'-1+cmd"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            (" =1", "' =1"),
            ("\t1", "'\t1"),
            ("\"=1", "\"'\"\"=1\""),
            ("a=1", "a=1"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(csv(&[("a", "varchar")], vec![vec![json!(value)]]), format!("\u{feff}a\r\n{expected}\r\n"));
        }
    }

    #[test]
    fn negative_numbers_stay_numbers() {
        let rows = vec![vec![json!(-5), json!(-0.5), json!("-1.50"), json!([-1])]];
        let columns = [("a", "bigint"), ("b", "double"), ("c", "decimal(9,2)"), ("d", "array")];
        assert_eq!(csv(&columns, rows), "\u{feff}a,b,c,d\r\n-5,-0.5,-1.50,[-1]\r\n");
    }
}
