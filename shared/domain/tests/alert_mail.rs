//! The mail of an alert, compared with the texts in `tests/alert_mail/`.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use sluice_domain::alert::{Alert, MailText, Rule, Trade};
use sluice_domain::schema::decimal;
use sluice_domain::time::Timestamp;

fn mail(rule: &str, name: Option<&str>, price: &str, change: &str, currency: &str) -> MailText {
    let rule = Rule::parse(rule, Timestamp::default(), String::new).unwrap();
    let trade = Trade {
        symbol: "005930",
        name,
        currency: Some(currency),
        price: decimal(price, 18, 6).unwrap(),
        change: Some(decimal(change, 18, 6).unwrap()),
        time: Timestamp::parse_rfc3339("2026-11-20T00:30:02Z").unwrap(),
        hops: 0,
    };
    let direction = rule.fires(&trade).unwrap();
    Alert::new(&rule, &trade, direction, trade.time).mail("https://console.example.org/")
}

const KOREAN: &str =
    r#"{"id":"r-1","kind":"fluctuation","user":"u1","threshold_pct":5,"comparison":"이상","language":"ko"}"#;

#[test]
fn the_korean_mail_reads_as_agreed() {
    let mail = mail(KOREAN, Some("삼성전자"), "58700", "3000", "KRW");
    assert_eq!(mail.subject, "[등락률 알림] 09시30분 - 삼성전자");
    assert_eq!(mail.text, include_str!("alert_mail/korean.txt"));
    assert_eq!(mail.html, include_str!("alert_mail/korean.html"));
}

#[test]
fn the_english_mail_reads_as_agreed() {
    let rule = r#"{"id":"r-2","kind":"fluctuation","user":"u1","name":"Chips","threshold_pct":"2.5","comparison":"over","side":"down","zone":"America/New_York"}"#;
    let mail = mail(rule, Some("Samsung Electronics"), "1234.5", "-65.25", "USD");
    assert_eq!(mail.subject, "[Change alert] 19:30 - Samsung Electronics");
    assert_eq!(mail.text, include_str!("alert_mail/english.txt"));
    assert_eq!(mail.html, include_str!("alert_mail/english.html"));
}

#[test]
fn a_stock_without_a_name_is_called_by_its_code() {
    assert_eq!(mail(KOREAN, None, "58700", "3000", "KRW").subject, "[등락률 알림] 09시30분 - 005930");
}

#[test]
fn text_from_outside_can_neither_break_lines_nor_become_markup() {
    let rule = r#"{"id":"r-3","kind":"fluctuation","user":"u1","name":"<img src=x onerror=alert(1)>","threshold_pct":5,"comparison":">="}"#;
    let mail =
        mail(rule, Some("A & B\r\nBcc: b@example.org\n\n<script>alert('x')</script>"), "58700", "3000", "\"><b>");
    assert_eq!(mail.subject, "[Change alert] 09:30 - A & B Bcc: b@example.org <script>alert('x')</script>");
    assert_eq!(mail.text, include_str!("alert_mail/hostile.txt"));
    assert_eq!(mail.html, include_str!("alert_mail/hostile.html"));
    for markup in ["<script", "<img", "<b>"] {
        assert!(!mail.html.contains(markup), "{markup}");
    }
}

#[test]
fn the_link_stays_inside_its_attribute() {
    let rule = Rule::parse(KOREAN, Timestamp::default(), String::new).unwrap();
    let trade = Trade {
        symbol: "s",
        name: None,
        currency: None,
        price: 110,
        change: Some(10),
        time: Timestamp::default(),
        hops: 0,
    };
    let alert = Alert::new(&rule, &trade, rule.fires(&trade).unwrap(), trade.time);
    let html = alert.mail("https://x/\" onclick=\"y").html;
    let without = alert.mail("");
    assert!(!without.html.contains("<a ") && !without.text.contains("rules/"), "{without:?}");
    assert!(html.contains(r#"<a href="https://x/&quot; onclick=&quot;y/rules/r-1">"#), "{html}");
}

#[test]
fn small_changes_keep_their_sign_and_all_their_digits() {
    let rule = KOREAN.replace(":5,", ":\"0.01\",");
    let up = mail(&rule, None, "100010", "10.01", "KRW");
    assert!(up.text.contains("등락률: +0.01 %"), "{}", up.text);
    assert!(mail(&rule, None, "99980.01", "-19.99", "USD").text.contains("등락률: -0.02 %"));
    assert!(mail(&rule, None, "105000.1", "5000.1", "USD").text.contains("등락률: +5.0001 %"));
}
