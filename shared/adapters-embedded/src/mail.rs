//! Mail as files in an outbox, one `.eml` file for each, which a mail program opens, and the console.

use crate::durable::{Folder, Taken, blocking, failed};
use async_trait::async_trait;
use chrono::{NaiveDateTime, SecondsFormat, Utc};
use lettre::message::{Mailbox, MultiPart};
use mail_parser::MessageParser;
use sha2::{Digest, Sha256};
use sluice_ports::{Email, ErrorKind, Mail, Outbox, PortError, SEND_TIMEOUT, SentMail};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Hexadecimal digits of the hash in a file name: 80 bits, so that two mails do not meet.
const HASH_DIGITS: usize = 20;
/// How a file name says when its mail was first sent.
const FIRST_SENT: &str = "%Y%m%dT%H%M%S%.3fZ";

/// Writes mails into a folder. The same mail again (message id and recipient) replaces its file.
#[derive(Debug, Clone)]
pub struct OutboxMail {
    folder: Arc<Folder>,
    /// File name by the hash in it.
    names: Arc<Mutex<HashMap<String, String>>>,
}

impl OutboxMail {
    /// Opens the folder `dir`, creating it as needed.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, PortError> {
        let what = dir.as_ref().display().to_string();
        let open = || {
            let folder = Folder::open(dir.as_ref())?;
            let mut names = HashMap::new();
            for entry in fs::read_dir(folder.root())? {
                let Ok(name) = entry?.file_name().into_string() else { continue };
                let stem = name.strip_suffix(".eml").and_then(|stem| stem.rsplit_once('-'));
                if let Some((_, hash)) = stem {
                    names.insert(hash.to_owned(), name);
                }
            }
            Ok(Self { folder: Arc::new(folder), names: Arc::new(Mutex::new(names)) })
        };
        open().map_err(|error| failed("mail.open", &what, error))
    }

    /// The name of the mail's file: when it was first sent, then what tells it from others.
    fn name(&self, email: &Email) -> String {
        let mut hash = Sha256::new();
        // Neither holds a line break, so no two pairs look the same.
        hash.update(format!("{}\n{}", email.message_id, email.to));
        let mut digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(HASH_DIGITS);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let name = || format!("{}-{digits}.eml", Utc::now().format(FIRST_SENT));
        names.entry(digits.clone()).or_insert_with(name).clone()
    }
}

#[async_trait]
impl Mail for OutboxMail {
    async fn send(&self, email: Email) -> Result<(), PortError> {
        let bytes = render(&email)?;
        let name = self.name(&email);
        let folder = self.folder.clone();
        let write = blocking("mail.send", move || {
            let path = folder.root().join(&name);
            folder.write(&path, &bytes, Taken::Replace).map_err(|error| failed("mail.send", &name, error))
        });
        within(SEND_TIMEOUT, "mail.send", write).await
    }
}

#[async_trait]
impl Outbox for OutboxMail {
    async fn list(&self, limit: usize) -> Result<Vec<SentMail>, PortError> {
        let mut names: Vec<String> = {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.values().cloned().collect()
        };
        // They begin with when they were sent.
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.truncate(limit);
        let folder = self.folder.clone();
        let read =
            move || names.iter().filter_map(|name| open(&folder, name).transpose()).collect::<Result<Vec<_>, _>>();
        Ok(blocking("mail.list", read).await?.into_iter().map(|(mail, ..)| mail).collect())
    }

    async fn get(&self, id: &str) -> Result<Option<(SentMail, String, String)>, PortError> {
        let name = format!("{id}.eml");
        // Only a name that is known is opened, so that no id leads out of the folder.
        let is_known = self.names.lock().unwrap_or_else(PoisonError::into_inner).values().any(|known| *known == name);
        if !is_known {
            return Ok(None);
        }
        let folder = self.folder.clone();
        blocking("mail.get", move || open(&folder, &name)).await
    }

    async fn remove(&self, id: &str) -> Result<(), PortError> {
        let name = format!("{id}.eml");
        // Only a name that is known is removed, so that no id leads out of the folder.
        let known = {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.iter().find(|(_, known)| **known == name).map(|(hash, _)| hash.clone())
        };
        let Some(hash) = known else { return Ok(()) };
        let folder = self.folder.clone();
        let remove = move || {
            folder.remove(&folder.root().join(&name)).map(drop).map_err(|error| failed("mail.remove", &name, error))
        };
        blocking("mail.remove", remove).await?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
        Ok(())
    }
}

/// Reads a mail back; `None` where somebody took its file away.
fn open(folder: &Folder, name: &str) -> Result<Option<(SentMail, String, String)>, PortError> {
    let bytes = match fs::read(folder.root().join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("mail.get", name, error)),
    };
    let corrupt = || PortError::new(ErrorKind::Corrupt, "mail.get", format!("`{name}` is not a mail"));
    let message = MessageParser::default().parse(&bytes).ok_or_else(corrupt)?;
    let id = name.trim_end_matches(".eml");
    let sent = id.rsplit_once('-').and_then(|(sent, _)| NaiveDateTime::parse_from_str(sent, FIRST_SENT).ok());
    let to = message.to().and_then(|to| to.first()).and_then(|to| to.address()).unwrap_or_default();
    let mail = SentMail {
        id: id.to_owned(),
        to: to.to_owned(),
        subject: message.subject().unwrap_or_default().to_owned(),
        at: sent.map(|sent| sent.and_utc().to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default(),
    };
    let [text, html] = [message.body_text(0), message.body_html(0)].map(|body| body.unwrap_or_default().into_owned());
    Ok(Some((mail, text, html)))
}

/// The outcome of a call, or [`ErrorKind::Timeout`] where there is none after this long; the call may still have its effect then.
async fn within<T>(
    limit: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let late = |_| Err(PortError::new(ErrorKind::Timeout, operation, format!("no answer after {limit:?}")));
    tokio::time::timeout(limit, call).await.unwrap_or_else(late)
}

/// The mail as RFC 5322 text with a text part and an HTML part.
fn render(email: &Email) -> Result<Vec<u8>, PortError> {
    let Email { message_id, from, to, subject, text, html } = email;
    for (field, value) in [("message_id", message_id), ("from", from), ("to", to), ("subject", subject)] {
        // An address may be personal, so the error names the field only.
        if value.contains(['\r', '\n']) {
            return Err(invalid(format!("`{field}` holds a line break")));
        }
    }
    let is_id = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>');
    if message_id.is_empty() || !message_id.chars().all(is_id) {
        return Err(invalid("`message_id` is no message id"));
    }
    let message = lettre::Message::builder()
        .message_id(Some(format!("<{message_id}>")))
        .from(mailbox("from", from)?)
        .to(mailbox("to", to)?)
        .subject(subject.as_str())
        .multipart(MultiPart::alternative_plain_html(text.clone(), html.clone()))
        .map_err(|error| invalid("the mail cannot be put together").with_source(error))?;
    Ok(message.formatted())
}

fn mailbox(field: &str, address: &str) -> Result<Mailbox, PortError> {
    address.parse().map_err(|_| invalid(format!("`{field}` is not an address")))
}

fn invalid(detail: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::Invalid, "mail.send", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(message_id: &str, subject: &str) -> Email {
        Email {
            message_id: message_id.to_owned(),
            from: "Sluice <alerts@sluice.example>".to_owned(),
            to: "reader@sluice.example".to_owned(),
            subject: subject.to_owned(),
            text: "It rose by 5 % – since Monday.\n".to_owned(),
            html: "<p>It rose by 5&nbsp;% – since Monday.</p>".to_owned(),
        }
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.filter(|name| name.ends_with(".eml")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn the_same_mail_again_replaces_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = OutboxMail::open(dir.path()).unwrap();
        outbox.send(email("1@x", "first")).await.unwrap();
        outbox.send(email("1@x", "second")).await.unwrap();
        let reopened = OutboxMail::open(dir.path()).unwrap();
        reopened.send(email("1@x", "third")).await.unwrap();
        let names = files(dir.path());
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(fs::read_to_string(dir.path().join(&names[0])).unwrap().contains("Subject: third"));
        reopened.send(email("2@x", "other")).await.unwrap();
        reopened.send(Email { to: "other@sluice.example".into(), ..email("1@x", "first") }).await.unwrap();
        assert_eq!(files(dir.path()).len(), 3, "another mail, or another reader, has a file of its own");
    }

    #[tokio::test]
    async fn what_was_sent_is_read_back_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = OutboxMail::open(dir.path()).unwrap();
        let subjects: Vec<String> =
            (0..3).map(|n| format!("삼성전자가 {n},2 % 올랐습니다 – since Monday, at last")).collect();
        for (n, subject) in subjects.iter().enumerate() {
            outbox.send(email(&format!("{n}@x"), subject)).await.unwrap();
        }
        let listed = outbox.list(9).await.unwrap();
        assert!(listed.is_sorted_by(|a, b| a.id > b.id && a.at >= b.at), "{listed:?}");
        assert_eq!(outbox.list(2).await.unwrap(), listed[..2]);
        let mut found: Vec<&String> = listed.iter().map(|mail| &mail.subject).collect();
        found.sort();
        assert_eq!(found, subjects.iter().collect::<Vec<_>>());
        assert!(listed[0].to == "reader@sluice.example" && listed[0].at.ends_with('Z'), "{listed:?}");
        let (mail, text, html) = outbox.get(&listed[0].id).await.unwrap().unwrap();
        assert_eq!((&mail, text.replace("\r\n", "\n"), html), (&listed[0], email("", "").text, email("", "").html));
    }

    #[tokio::test]
    async fn only_mails_of_the_outbox_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = OutboxMail::open(dir.path().join("outbox")).unwrap();
        outbox.send(email("1@x", "first")).await.unwrap();
        fs::write(dir.path().join("secret.eml"), "Subject: secret\r\n\r\n").unwrap();
        for id in ["", "../secret", "secret", ".tmp", "a\0b", &"x".repeat(5_000)] {
            assert_eq!(outbox.get(id).await.unwrap(), None, "{id}");
            outbox.remove(id).await.unwrap();
        }
        assert!(dir.path().join("secret.eml").exists());
        let id = outbox.list(1).await.unwrap().remove(0).id;
        fs::remove_file(dir.path().join("outbox").join(format!("{id}.eml"))).unwrap();
        assert_eq!(outbox.get(&id).await.unwrap(), None);
        assert!(outbox.list(9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_mail_that_is_removed_is_gone_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = OutboxMail::open(dir.path()).unwrap();
        for n in ["1", "2"] {
            outbox.send(email(&format!("{n}@x"), n)).await.unwrap();
        }
        let gone = outbox.list(9).await.unwrap().into_iter().find(|mail| mail.subject == "1").unwrap();
        for _ in 0..2 {
            outbox.remove(&gone.id).await.unwrap();
            assert_eq!(outbox.get(&gone.id).await.unwrap(), None);
            let left: Vec<String> = outbox.list(9).await.unwrap().into_iter().map(|mail| mail.subject).collect();
            assert_eq!((left, files(dir.path()).len()), (vec!["2".to_owned()], 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_without_an_answer_ends_in_time() {
        let begun = tokio::time::Instant::now();
        let error = within(SEND_TIMEOUT, "mail.send", std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!((error.kind, begun.elapsed()), (ErrorKind::Timeout, SEND_TIMEOUT));
    }

    #[test]
    fn a_mail_has_its_headers_and_both_parts() {
        let mail = String::from_utf8(render(&email("1@x", "S&P 500 stieg – 5,2 %")).unwrap()).unwrap();
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        for line in [
            "Message-ID: <1@x>",
            "From: Sluice <alerts@sluice.example>",
            "To: reader@sluice.example",
            "MIME-Version: 1.0",
        ] {
            assert!(head.lines().any(|found| found == line), "`{line}` is in {head}");
        }
        assert!(head.contains("\r\nDate: "), "{head}");
        assert!(head.contains("Content-Type: multipart/alternative;"), "{head}");
        assert!(
            head.is_ascii() && head.contains("Subject: S&P 500 stieg =?utf-8?b?"),
            "the subject is encoded: {head}"
        );
        let (plain, html) = (body.find("text/plain; charset=utf-8"), body.find("text/html; charset=utf-8"));
        assert!(plain.is_some() && plain < html, "text first, then HTML: {body}");
        assert!(mail.lines().all(|line| line.len() <= 998), "no line is longer than a mail may have");
    }

    #[test]
    fn an_error_names_the_field_and_not_the_address() {
        let error = render(&Email { to: "secret\r\n@x.example".into(), ..email("1@x", "") }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.detail.contains("`to`") && !error.detail.contains("secret"), "{}", error.detail);
        assert_eq!(render(&email("1 2", "")).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(render(&email("", "")).unwrap_err().kind, ErrorKind::Invalid);
    }
}
