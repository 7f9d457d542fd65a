//! What every [`Mail`] must do.

use super::assert_kind;
use sluice_ports::{Email, ErrorKind, Mail};

/// Runs every check.
pub async fn all(mail: &dyn Mail) {
    a_mail_is_taken_and_so_is_the_same_one_again(mail).await;
    any_text_is_taken(mail).await;
    line_breaks_in_headers_are_refused(mail).await;
    what_is_no_address_is_refused(mail).await;
}

/// A mail to try with; the id tells checks apart.
pub fn sample(message_id: &str) -> Email {
    Email {
        message_id: format!("{message_id}@sluice.example"),
        from: "alerts@sluice.example".to_owned(),
        to: "reader@sluice.example".to_owned(),
        subject: "S&P 500 rose by 5.2 %".to_owned(),
        text: "It rose.\n".to_owned(),
        html: "<p>It rose.</p>".to_owned(),
    }
}

async fn a_mail_is_taken_and_so_is_the_same_one_again(mail: &dyn Mail) {
    for attempt in ["first", "second"] {
        let sent = mail.send(sample("again")).await;
        sent.unwrap_or_else(|error| panic!("a plain mail was refused the {attempt} time: {error}"));
    }
}

async fn any_text_is_taken(mail: &dyn Mail) {
    let long = "ä€𝄞 ".repeat(400);
    let email = Email {
        subject: long.clone(),
        text: format!(".\n..\r\nFrom here\n{long}\0"),
        html: format!("<p>{long}</p>"),
        ..sample("any")
    };
    mail.send(email).await.unwrap_or_else(|error| panic!("a mail of unusual text was refused: {error}"));
    let bare = Email { subject: String::new(), text: String::new(), html: String::new(), ..sample("bare") };
    mail.send(bare).await.unwrap_or_else(|error| panic!("a mail without text was refused: {error}"));
}

async fn line_breaks_in_headers_are_refused(mail: &dyn Mail) {
    for line_break in ["\r\n", "\n", "\r"] {
        let evil = format!("x{line_break}Bcc: everyone@sluice.example");
        let subject = Email { subject: evil.clone(), ..sample("break") };
        assert_kind(mail.send(subject).await, ErrorKind::Invalid, "a line break in the subject is refused");
        let to = Email { to: format!("reader@sluice.example{line_break}Bcc: a@b.example"), ..sample("break") };
        assert_kind(mail.send(to).await, ErrorKind::Invalid, "a line break in the recipient is refused");
        let from = Email { from: format!("alerts@sluice.example{line_break}X: y"), ..sample("break") };
        assert_kind(mail.send(from).await, ErrorKind::Invalid, "a line break in the sender is refused");
        let id = Email { message_id: evil, ..sample("break") };
        assert_kind(mail.send(id).await, ErrorKind::Invalid, "a line break in the message id is refused");
    }
}

async fn what_is_no_address_is_refused(mail: &dyn Mail) {
    for address in ["", "reader", "@sluice.example", "reader@"] {
        let to = Email { to: address.to_owned(), ..sample("address") };
        assert_kind(mail.send(to).await, ErrorKind::Invalid, &format!("`{address}` is no recipient"));
        let from = Email { from: address.to_owned(), ..sample("address") };
        assert_kind(mail.send(from).await, ErrorKind::Invalid, &format!("`{address}` is no sender"));
    }
}
