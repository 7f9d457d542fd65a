use super::fire::{Alert, Direction};
use super::rule::{Comparison, Condition, Language, Side};
use chrono::{Datelike, NaiveDateTime, Timelike};
use std::fmt::Write as _;

/// Longest name in a subject line, in characters.
const MAX_SUBJECT_NAME: usize = 80;

/// The wording of one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailText {
    /// One line.
    pub subject: String,
    /// Plain text, lines end with `\n`.
    pub text: String,
    /// An HTML page.
    pub html: String,
}

impl Alert {
    /// The mail that tells of the alert, in the rule's language and with the market's clock. The link to manage the rule is
    /// `{console_url}/rules/{rule id}`; with an empty `console_url` there is none.
    pub fn mail(&self, console_url: &str) -> MailText {
        let words = Words::of(self.language);
        let console_url = line(console_url);
        let link =
            (!console_url.is_empty()).then(|| format!("{}/rules/{}", console_url.trim_end_matches('/'), self.rule_id));
        let rows = self.rows(words);
        let title = format!("{} - {}", words.title, self.stock());
        let subject = format!("[{}] {} - {}", words.title, words.clock(self.local()), clip(&self.stock()));
        let mut text = format!("{title}\n\n");
        for (name, value) in &rows {
            let _ = writeln!(text, "{name}: {value}");
        }
        if let Some(link) = &link {
            let _ = write!(text, "\n{}:\n{link}\n", words.manage);
        }
        MailText { subject, text, html: self.html(words, &title, &rows, link.as_deref()) }
    }

    /// The alert in one line, in the rule's language, as events carry it.
    pub fn message(&self) -> String {
        let words = Words::of(self.language);
        format!(
            "{}: {} ({}) {}, {}, {}",
            words.title,
            self.stock(),
            line(&self.symbol),
            self.price_words(words),
            signed(&grouped(&self.change)),
            self.percent_words()
        )
    }

    fn rows(&self, words: &Words) -> Vec<(&'static str, String)> {
        let local = self.local();
        let day = format!("{:04}-{:02}-{:02}", local.year(), local.month(), local.day());
        let rule = match self.rule_name.as_deref().map(line) {
            Some(name) => format!("{name} ({})", self.rule_words()),
            None => self.rule_words(),
        };
        vec![
            (words.code, line(&self.symbol)),
            (words.name, self.stock()),
            (words.rule, rule),
            (words.direction, words.direction_of(self.direction).to_owned()),
            (words.price, self.price_words(words)),
            (words.change, signed(&grouped(&self.change))),
            (words.change_pct, self.percent_words()),
            (words.time, format!("{day} {} ({})", words.clock_seconds(local), self.zone.name())),
        ]
    }

    fn html(&self, words: &Words, title: &str, rows: &[(&str, String)], link: Option<&str>) -> String {
        // Up is red and down is blue, as on Korean boards.
        let colour = match self.direction {
            Direction::Up => "#c9252d",
            Direction::Down => "#1f5fc4",
            Direction::Flat => "#333333",
        };
        let coloured = [words.direction, words.price, words.change, words.change_pct];
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"{}\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body style=\"font-family:sans-serif;color:#333333\">\n<h1 style=\"font-size:18px\">{}</h1>\n<table style=\"border-collapse:collapse\">\n",
            self.language.code(),
            escape(title),
            escape(title)
        );
        for (name, value) in rows {
            let style =
                if coloured.contains(name) { format!(";color:{colour};font-weight:bold") } else { String::new() };
            let _ = writeln!(
                html,
                "<tr><th style=\"text-align:left;padding:4px 16px 4px 0\">{}</th><td style=\"padding:4px 0{style}\">{}</td></tr>",
                escape(name),
                escape(value)
            );
        }
        html.push_str("</table>\n");
        if let Some(link) = link {
            let _ = writeln!(html, "<p><a href=\"{}\">{}</a></p>", escape(link), escape(words.manage));
        }
        html.push_str("</body>\n</html>\n");
        html
    }

    /// The stock's name, or its code where it has none.
    fn stock(&self) -> String {
        let name = self.name.as_deref().map(line).unwrap_or_default();
        if name.is_empty() { line(&self.symbol) } else { name }
    }

    fn local(&self) -> NaiveDateTime {
        self.time.in_zone(self.zone)
    }

    fn price_words(&self, words: &Words) -> String {
        let price = grouped(&self.price);
        match (words.language, self.currency.as_deref().map(line)) {
            (_, None) => price,
            (Language::Korean, Some(currency)) if currency == "KRW" => format!("{price}원"),
            (_, Some(currency)) => format!("{price} {currency}"),
        }
    }

    /// Two digits behind the point, or more where they are not zero.
    fn percent_words(&self) -> String {
        let shown = signed(&grouped(&self.change_pct));
        let (whole, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
        format!("{whole}.{:0<2} %", fraction.trim_end_matches('0'))
    }

    fn rule_words(&self) -> String {
        let Condition::Fluctuation(condition) = &self.condition;
        let percent = grouped(&condition.threshold_pct.to_string());
        match self.language {
            Language::Korean => {
                let word = match condition.comparison {
                    Comparison::Over => "초과",
                    Comparison::AtLeast => "이상",
                    Comparison::Under => "미만",
                    Comparison::AtMost => "이하",
                };
                let side = match condition.side {
                    Side::Both => "등락 (상승 또는 하락)",
                    Side::Up => "상승",
                    Side::Down => "하락",
                };
                format!("전일 종가 대비 {percent} % {word} {side}")
            }
            Language::English => {
                let word = match condition.comparison {
                    Comparison::Over => "more than",
                    Comparison::AtLeast => "at least",
                    Comparison::Under => "less than",
                    Comparison::AtMost => "at most",
                };
                let side = match condition.side {
                    Side::Both => "up or down",
                    Side::Up => "up",
                    Side::Down => "down",
                };
                format!("{word} {percent} % {side} against the previous close")
            }
        }
    }
}

/// The fixed words of a language.
struct Words {
    language: Language,
    title: &'static str,
    code: &'static str,
    name: &'static str,
    rule: &'static str,
    direction: &'static str,
    price: &'static str,
    change: &'static str,
    change_pct: &'static str,
    time: &'static str,
    manage: &'static str,
}

const KOREAN: Words = Words {
    language: Language::Korean,
    title: "등락률 알림",
    code: "종목코드",
    name: "종목명",
    rule: "알림 조건",
    direction: "방향",
    price: "현재가",
    change: "전일 대비",
    change_pct: "등락률",
    time: "시각",
    manage: "알림 조건 관리",
};

const ENGLISH: Words = Words {
    language: Language::English,
    title: "Change alert",
    code: "Code",
    name: "Name",
    rule: "Rule",
    direction: "Direction",
    price: "Price",
    change: "Change",
    change_pct: "Change %",
    time: "Time",
    manage: "Manage this rule",
};

impl Words {
    fn of(language: Language) -> &'static Self {
        match language {
            Language::Korean => &KOREAN,
            Language::English => &ENGLISH,
        }
    }

    fn direction_of(&self, direction: Direction) -> &'static str {
        match (self.language, direction) {
            (Language::Korean, Direction::Up) => "상승",
            (Language::Korean, Direction::Down) => "하락",
            (Language::Korean, Direction::Flat) => "보합",
            (Language::English, direction) => direction.name(),
        }
    }

    fn clock(&self, local: NaiveDateTime) -> String {
        match self.language {
            Language::Korean => format!("{:02}시{:02}분", local.hour(), local.minute()),
            Language::English => format!("{:02}:{:02}", local.hour(), local.minute()),
        }
    }

    fn clock_seconds(&self, local: NaiveDateTime) -> String {
        match self.language {
            Language::Korean => format!("{}{:02}초", self.clock(local), local.second()),
            Language::English => format!("{}:{:02}", self.clock(local), local.second()),
        }
    }
}

/// Text from outside as one harmless line: no control characters, no line or paragraph separators, nothing that turns the direction of
/// the text around it (Unicode TR 9, explicit formatting characters), white space collapsed.
pub(super) fn line(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| {
            !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        })
        .collect();
    kept.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_SUBJECT_NAME) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A decimal text with its whole part in groups of three.
fn grouped(decimal: &str) -> String {
    let (sign, digits) = decimal.strip_prefix('-').map_or(("", decimal), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// A decimal text with `+` before what is above zero.
fn signed(decimal: &str) -> String {
    let positive = !decimal.starts_with('-') && decimal.bytes().any(|b| (b'1'..=b'9').contains(&b));
    if positive { format!("+{decimal}") } else { decimal.to_owned() }
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (plain, shown) in
            [("0", "0"), ("999", "999"), ("1000", "1,000"), ("-1234567.25", "-1,234,567.25"), ("-200", "-200")]
        {
            assert_eq!(grouped(plain), shown);
        }
        assert_eq!(
            (signed("5"), signed("0"), signed("-5"), signed("0.01")),
            ("+5".into(), "0".into(), "-5".into(), "+0.01".into())
        );
    }

    #[test]
    fn text_from_outside_becomes_one_harmless_line() {
        assert_eq!(line("A\r\nBcc: b@example.org\u{2028}c\u{202e}d\u{0} \t e"), "A Bcc: b@example.org cd e");
        assert_eq!(escape("<a href=\"x\" b='y'>&"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
    }
}
