//! Channels: where alerts go, and how they go there.
//!
//! | row | holds |
//! |---|---|
//! | `channel` / id | the channel, the address and the signing key of a webhook among it |
//! | `channel-last` / id | what became of the last message |
//!
//! The address of a webhook and the key by which its messages are signed are secrets: whoever knows them can write to the channel, or pass
//! for us. They leave this module towards the address alone, the key once more to whoever makes the channel. A signature is HMAC-SHA256 over
//! `TIMESTAMP.BODY` with the key's text as key, so that a message cannot be changed or sent again later (RFC 2104, FIPS 180-4).

use crate::access::{new_token, random};
use crate::rows::{self, corrupt};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_domain::alert::{MailText, Recipient, is_address};
use sluice_domain::identity::hex;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{Condition, Email, ErrorKind, HookCall, Hooks, Item, Key, Mail, PortError, Table, Write};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use url::Url;

/// Most channels of a deployment.
pub const MAX_CHANNELS: usize = 50;
/// Most addresses of one channel.
pub const MAX_ADDRESSES: usize = 10;
/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Longest web address.
const MAX_URL_BYTES: usize = 2_048;
/// Partition of the channels.
const CHANNELS: &str = "channel";
/// Partition of what became of their last messages.
const LAST: &str = "channel-last";
/// How often a write is tried again when others write at the same time.
const ATTEMPTS: usize = 5;

/// How a channel is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// By mail.
    Email,
    /// By a POST to a web address.
    Webhook,
}

impl ChannelKind {
    /// The word in requests, rows and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }
}

/// A channel. It has no `Debug`: it holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Channel {
    /// `c_` and 16 hexadecimal digits.
    pub id: String,
    /// How it is reached.
    pub kind: ChannelKind,
    /// What people call it.
    pub name: String,
    /// Whether it gets the product's own alerts.
    pub operator: bool,
    /// Addresses, of mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hook: Option<Hook>,
}

/// The secrets of a webhook.
#[derive(Clone, Serialize, Deserialize)]
struct Hook {
    url: String,
    signing_key: String,
}

impl Channel {
    /// As others may see it, without its secrets; `last` is what became of the last message.
    pub fn to_json(&self, last: Option<&Value>) -> Value {
        let host = self.hook.as_ref().and_then(|hook| Url::parse(&hook.url).ok()?.host_str().map(str::to_owned));
        let mut shown = json!({
            "id": self.id, "kind": self.kind.name(), "name": self.name, "operator": self.operator, "created_at": self.created_at,
            "last": last,
        });
        match self.kind {
            ChannelKind::Email => shown["to"] = json!(self.to),
            ChannelKind::Webhook => shown["host"] = json!(host),
        }
        shown
    }

    /// The key by which its messages are signed, for whoever has just made it.
    pub fn signing_key(&self) -> Option<&str> {
        self.hook.as_ref().map(|hook| hook.signing_key.as_str())
    }

    /// To whom an alert goes that goes to this channel.
    fn recipients(&self) -> Vec<Recipient> {
        match self.kind {
            ChannelKind::Email => {
                let mail = |to: &String| Recipient::Mail { channel: self.id.clone(), to: to.clone() };
                self.to.iter().map(mail).collect()
            }
            ChannelKind::Webhook => vec![Recipient::Hook(self.id.clone())],
        }
    }
}

/// A channel as it is asked for.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewChannel {
    /// How it is reached.
    pub kind: ChannelKind,
    /// What people call it.
    pub name: String,
    /// Whether it gets the product's own alerts.
    #[serde(default)]
    pub operator: bool,
    /// Addresses, of mail.
    pub to: Option<Vec<String>>,
    /// The web address.
    pub url: Option<String>,
}

/// What is changed of a channel; what is not named stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelChange {
    /// What people call it.
    pub name: Option<String>,
    /// Whether it gets the product's own alerts.
    pub operator: Option<bool>,
    /// Addresses, of mail.
    pub to: Option<Vec<String>>,
}

/// Why a change of the channels failed.
#[derive(Debug)]
pub enum ChannelsError {
    /// A field cannot be used: which, and why. It never holds what was in the field.
    Invalid(&'static str, String),
    /// There is no such channel.
    NotFound,
    /// There are [`MAX_CHANNELS`] already.
    TooMany,
    /// The table failed.
    Port(PortError),
}

impl fmt::Display for ChannelsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(field, why) => write!(f, "`{field}` {why}"),
            Self::NotFound => f.write_str("there is no such channel"),
            Self::TooMany => write!(f, "there are {MAX_CHANNELS} channels already; remove one first"),
            Self::Port(_) => f.write_str("the channels cannot be reached"),
        }
    }
}

impl std::error::Error for ChannelsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Port(e) => Some(e),
            _ => None,
        }
    }
}

impl From<PortError> for ChannelsError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// What goes to a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// The same for every copy.
    pub id: String,
    /// As mail.
    pub mail: MailText,
    /// For a web address, a JSON object.
    pub json: Value,
}

/// What became of a letter that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The other side has it.
    Told,
    /// The channel is there no more, or not for this address.
    Gone,
}

/// The channels of a table, and the ways to them.
pub struct Channels {
    /// Where they are kept.
    pub table: Arc<dyn Table>,
    /// Sends mail.
    pub mail: Arc<dyn Mail>,
    /// Posts to web addresses.
    pub hooks: Arc<dyn Hooks>,
    /// Sender address of mails.
    pub from: String,
}

impl Channels {
    /// All channels in the order in which they were made, each with what became of its last message.
    pub async fn list(&self) -> Result<Vec<(Channel, Option<Value>)>, PortError> {
        let last = rows::all(self.table.as_ref(), LAST).await?;
        let mut last: HashMap<String, Value> = last.into_iter().map(|row| (row.key.sort, row.value)).collect();
        let channels = all(self.table.as_ref()).await?;
        Ok(channels.into_iter().map(|channel| (last.remove(&channel.id), channel)).map(|(l, c)| (c, l)).collect())
    }

    /// The channel with this id.
    pub async fn get(&self, id: &str) -> Result<Option<Channel>, PortError> {
        Ok(self.find(id).await?.map(|(channel, _)| channel))
    }

    /// What became of the last message to a channel.
    pub async fn last(&self, id: &str) -> Result<Option<Value>, PortError> {
        Ok(self.table.get(&[Key::new(LAST, id)]).await?.pop().flatten().map(|row| row.value))
    }

    /// Makes a channel.
    pub async fn create(&self, asked: NewChannel, now: Timestamp) -> Result<Channel, ChannelsError> {
        let (to, hook) = match (asked.kind, asked.to, asked.url) {
            (ChannelKind::Email, Some(to), None) => (addresses(to)?, None),
            (ChannelKind::Email, _, Some(_)) => {
                return Err(invalid("url", "is for webhooks; mail goes `to` addresses"));
            }
            (ChannelKind::Email, None, None) => return Err(invalid("to", "is missing: the addresses of the mail")),
            (ChannelKind::Webhook, None, Some(url)) => {
                (Vec::new(), Some(Hook { url: web_address(url)?, signing_key: new_token("channels.create")? }))
            }
            (ChannelKind::Webhook, Some(_), _) => return Err(invalid("to", "is for mail; a webhook has a `url`")),
            (ChannelKind::Webhook, None, None) => return Err(invalid("url", "is missing: the address to post to")),
        };
        let name = checked_name(&asked.name)?;
        let mut bytes = [0; 8];
        random("channels.create", &mut bytes)?;
        let created_at = now.to_micros_text();
        let channel = Channel {
            id: format!("c_{}", hex(&bytes)),
            kind: asked.kind,
            name,
            operator: asked.operator,
            to,
            created_at,
            hook,
        };
        // Made at the same time, a few more than that do no harm.
        if all(self.table.as_ref()).await?.len() >= MAX_CHANNELS {
            return Err(ChannelsError::TooMany);
        }
        match self.table.write(vec![put(&channel, Condition::Absent)?]).await {
            // The id is nobody else's: where it is there, it is this one.
            Err(e) if e.kind == ErrorKind::Timeout && self.get(&channel.id).await?.is_some() => Ok(channel),
            written => written.map(|()| channel).map_err(Into::into),
        }
    }

    /// Changes a channel.
    pub async fn change(&self, id: &str, change: ChannelChange) -> Result<Channel, ChannelsError> {
        let name = change.name.as_deref().map(checked_name).transpose()?;
        let to = change.to.map(addresses).transpose()?;
        for _ in 0..ATTEMPTS {
            let (mut channel, version) = self.find(id).await?.ok_or(ChannelsError::NotFound)?;
            if let Some(to) = &to {
                if channel.kind != ChannelKind::Email {
                    return Err(invalid("to", "is for mail; for another web address make another channel"));
                }
                channel.to.clone_from(to);
            }
            channel.name = name.clone().unwrap_or(channel.name);
            channel.operator = change.operator.unwrap_or(channel.operator);
            match self.table.write(vec![put(&channel, Condition::Version(version))?]).await {
                Ok(()) => return Ok(channel),
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(PortError::new(ErrorKind::Unavailable, "table.write", "the channel is being changed by others").into())
    }

    /// Removes a channel; what is on its way to it is not sent any more.
    pub async fn remove(&self, id: &str) -> Result<(), ChannelsError> {
        if self.find(id).await?.is_none() {
            return Err(ChannelsError::NotFound);
        }
        let delete = |partition: &str| Write::Delete { key: Key::new(partition, id), condition: Condition::Any };
        Ok(self.table.write(vec![delete(CHANNELS), delete(LAST)]).await?)
    }

    /// Sends a letter to one of those whom an alert goes to, `n` in their order.
    pub async fn send(&self, letter: &Letter, n: usize, to: &Recipient, now: Timestamp) -> Result<Sent, PortError> {
        let (id, address) = match to {
            Recipient::Address(to) => return self.send_mail(letter, n, to).await.map(|()| Sent::Told),
            Recipient::Mail { channel, to } => (channel, Some(to)),
            Recipient::Hook(channel) => (channel, None),
        };
        let Some(channel) = self.get(id).await? else { return Ok(Sent::Gone) };
        let sent = match (address, &channel.hook) {
            (Some(to), _) if channel.to.contains(to) => self.send_mail(letter, n, to).await,
            (None, Some(hook)) => self.post(letter, hook, now).await,
            _ => return Ok(Sent::Gone),
        };
        self.note(id, &sent, now).await;
        sent.map(|()| Sent::Told)
    }

    /// Sends a letter to a channel by hand, and says what became of it.
    pub async fn test(&self, channel: &Channel, now: Timestamp) -> Result<String, PortError> {
        let id = format!("test-{}", new_token("channels.test")?);
        let text = "This is a test of a channel of Sluice. Alerts arrive here.";
        let subject = "[Sluice] Test of a channel".to_owned();
        let html = format!("<!DOCTYPE html>\n<html lang=\"en\">\n<body>\n<p>{text}</p>\n</body>\n</html>\n");
        let mail = MailText { subject, text: format!("{text}\n"), html };
        let letter = Letter { json: json!({"v": 1, "id": id, "type": "test", "message": text}), id, mail };
        let recipients = channel.recipients();
        let sends = recipients.iter().enumerate().map(|(n, to)| self.send(&letter, n, to, now));
        let sent: Result<Vec<Sent>, PortError> = futures::future::join_all(sends).await.into_iter().collect();
        let mails = sent?.len();
        Ok(match channel.kind {
            ChannelKind::Email => format!("handed over {mails} mail{}", if mails == 1 { "" } else { "s" }),
            ChannelKind::Webhook => "the address has taken it".to_owned(),
        })
    }

    async fn send_mail(&self, letter: &Letter, n: usize, to: &str) -> Result<(), PortError> {
        let domain = self.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain.trim_end_matches('>'));
        let email = Email {
            message_id: format!("{}.{n}@{domain}", letter.id),
            from: self.from.clone(),
            to: to.to_owned(),
            subject: letter.mail.subject.clone(),
            text: letter.mail.text.clone(),
            html: letter.mail.html.clone(),
        };
        self.mail.send(email).await
    }

    async fn post(&self, letter: &Letter, hook: &Hook, now: Timestamp) -> Result<(), PortError> {
        let body = letter.json.to_string();
        let headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("sluice-id".to_owned(), letter.id.clone()),
            ("sluice-signature".to_owned(), signature(&hook.signing_key, now.micros() / SECOND_US, &body)),
        ];
        self.hooks.post(HookCall { url: hook.url.clone(), headers, body }).await
    }

    /// Notes what became of a message. It only shows.
    async fn note(&self, id: &str, sent: &Result<(), PortError>, now: Timestamp) {
        let error = sent.as_ref().err().map(|error| error.detail.as_str());
        let value = json!({"at": now.to_micros_text(), "ok": sent.is_ok(), "error": error});
        let put = Write::Put { key: Key::new(LAST, id), value, condition: Condition::Any, expires_at: None };
        if let Err(error) = self.table.write(vec![put]).await {
            tracing::debug!(channel = id, error = %error, "what became of a message is not noted");
        }
    }

    async fn find(&self, id: &str) -> Result<Option<(Channel, u64)>, PortError> {
        // No channel can have such an id, and the table would refuse the key.
        if id.is_empty() || id.len() > 128 {
            return Ok(None);
        }
        let row = self.table.get(&[Key::new(CHANNELS, id)]).await?.pop().flatten();
        row.map(|row| Ok((read(&row)?, row.version))).transpose()
    }
}

/// Whom the product's own alerts go to by channels; nobody where there is none for operators.
pub(crate) async fn operators(table: &dyn Table) -> Result<Vec<Recipient>, PortError> {
    let channels = all(table).await?;
    Ok(channels.iter().filter(|channel| channel.operator).flat_map(Channel::recipients).collect())
}

async fn all(table: &dyn Table) -> Result<Vec<Channel>, PortError> {
    let rows = rows::all(table, CHANNELS).await?;
    let mut channels = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    channels.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
    Ok(channels)
}

fn read(row: &Item) -> Result<Channel, PortError> {
    // What serde says could repeat what is in the row.
    Channel::deserialize(&row.value).map_err(|_| corrupt(&row.key))
}

fn put(channel: &Channel, condition: Condition) -> Result<Write, PortError> {
    let key = Key::new(CHANNELS, &channel.id);
    let value = serde_json::to_value(channel).map_err(|_| corrupt(&key))?;
    Ok(Write::Put { key, value, condition, expires_at: None })
}

/// `t=UNIX_SECONDS,v1=HEX`
fn signature(key: &str, unix_s: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, format!("{unix_s}.{body}").as_bytes());
    format!("t={unix_s},v1={}", hex(tag.as_ref()))
}

fn invalid(field: &'static str, why: impl Into<String>) -> ChannelsError {
    ChannelsError::Invalid(field, why.into())
}

fn checked_name(name: &str) -> Result<String, ChannelsError> {
    let name = name.trim();
    match name.chars().count() {
        1..=MAX_NAME_CHARS if !name.chars().any(char::is_control) => Ok(name.to_owned()),
        _ => Err(invalid("name", format!("has 1 to {MAX_NAME_CHARS} characters on one line"))),
    }
}

fn addresses(to: Vec<String>) -> Result<Vec<String>, ChannelsError> {
    let mut addresses: Vec<String> = Vec::new();
    for (n, to) in to.into_iter().enumerate() {
        if !is_address(&to) {
            return Err(invalid("to", format!("has at place {n} no mail address such as `a@example.org`")));
        }
        if !addresses.contains(&to) {
            addresses.push(to);
        }
    }
    match addresses.len() {
        1..=MAX_ADDRESSES => Ok(addresses),
        _ => Err(invalid("to", format!("has 1 to {MAX_ADDRESSES} addresses"))),
    }
}

/// Whether the address is one that may be called is looked at with each call: names lead elsewhere later.
fn web_address(url: String) -> Result<String, ChannelsError> {
    if url.len() > MAX_URL_BYTES {
        return Err(invalid("url", format!("has at most {MAX_URL_BYTES} bytes")));
    }
    let parsed = Url::parse(&url).map_err(|e| invalid("url", format!("is no address: {e}")))?;
    let has_user = !parsed.username().is_empty() || parsed.password().is_some();
    match parsed.scheme() {
        _ if has_user => Err(invalid("url", "holds a user or a password, which would stand in logs on the way")),
        "http" | "https" if parsed.has_host() => Ok(parsed.into()),
        _ => Err(invalid("url", "begins with `https://` or `http://`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::{MemoryHooks, MemoryMail, MemoryTable};

    struct World {
        table: Arc<Faulty<MemoryTable>>,
        mail: Arc<Faulty<MemoryMail>>,
        hooks: Arc<Faulty<MemoryHooks>>,
        channels: Channels,
    }

    fn world() -> World {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        let mail = Arc::new(Faulty::new(MemoryMail::new()));
        let hooks = Arc::new(Faulty::new(MemoryHooks::new()));
        let from = "sluice@example.org".to_owned();
        let channels = Channels { table: table.clone(), mail: mail.clone(), hooks: hooks.clone(), from };
        World { table, mail, hooks, channels }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000 + seconds * SECOND_US).unwrap()
    }

    fn asked(text: &str) -> NewChannel {
        serde_json::from_str(text).unwrap()
    }

    const MAIL: &str = r#"{"kind":"email","name":"On call","operator":true,"to":["a@example.org","b@example.org"]}"#;
    const HOOK: &str =
        r#"{"kind":"webhook","name":"Pager","operator":true,"url":"https://hooks.example.org/s3cret?k=s3cret"}"#;

    #[tokio::test]
    async fn a_channel_is_made_changed_and_removed() {
        let World { table, channels, .. } = world();
        table.script("table.write", [Fault::After]);
        let mail = channels.create(asked(MAIL), at(0)).await.unwrap();
        let hook = channels.create(asked(HOOK), at(1)).await.unwrap();
        let names: Vec<String> = channels.list().await.unwrap().into_iter().map(|(c, _)| c.name).collect();
        assert_eq!(names, ["On call", "Pager"]);
        assert_eq!(operators(table.as_ref()).await.unwrap().len(), 3);
        table.script("table.write", [Fault::Before(ErrorKind::Conflict), Fault::After]);
        let change = ChannelChange { operator: Some(false), to: Some(vec!["c@example.org".into()]), name: None };
        let changed = channels.change(&mail.id, change.clone()).await.unwrap();
        assert_eq!(
            (changed.name.as_str(), &changed.to[..], changed.operator),
            ("On call", &["c@example.org".to_owned()][..], false)
        );
        assert!(matches!(channels.change(&hook.id, change).await, Err(ChannelsError::Invalid("to", _))));
        assert_eq!(operators(table.as_ref()).await.unwrap(), [Recipient::Hook(hook.id.clone())]);
        channels.remove(&hook.id).await.unwrap();
        assert!(matches!(channels.remove(&hook.id).await, Err(ChannelsError::NotFound)));
        assert!(matches!(channels.change("c_0", ChannelChange::default()).await, Err(ChannelsError::NotFound)));
        assert_eq!(channels.list().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn channels_that_make_no_sense_are_refused_without_repeating_them() {
        let World { table, channels, .. } = world();
        let long = format!(r#"{{"kind":"webhook","name":"s3cret","url":"https://x/{}"}}"#, "s3cret".repeat(400));
        for (text, field) in [
            (r#"{"kind":"email","name":"n"}"#, "to"),
            (r#"{"kind":"email","name":"n","to":[]}"#, "to"),
            (r#"{"kind":"email","name":"n","to":["s3cret"]}"#, "to"),
            (r#"{"kind":"email","name":"n","to":["a@example.org\r\nBcc: s3cret@example.org"]}"#, "to"),
            (r#"{"kind":"email","name":"n","to":["a@example.org"],"url":"https://s3cret"}"#, "url"),
            (r#"{"kind":"email","name":"","to":["a@example.org"]}"#, "name"),
            (r#"{"kind":"email","name":"a\nb","to":["a@example.org"]}"#, "name"),
            (r#"{"kind":"webhook","name":"n"}"#, "url"),
            (r#"{"kind":"webhook","name":"n","to":["a@example.org"],"url":"https://s3cret"}"#, "to"),
            (r#"{"kind":"webhook","name":"n","url":"s3cret"}"#, "url"),
            (r#"{"kind":"webhook","name":"n","url":"ftp://s3cret/"}"#, "url"),
            (r#"{"kind":"webhook","name":"n","url":"file:///s3cret"}"#, "url"),
            (r#"{"kind":"webhook","name":"n","url":"https://u:s3cret@example.org/"}"#, "url"),
            (&long, "url"),
        ] {
            let Err(error) = channels.create(asked(text), at(0)).await else { panic!("{text}") };
            assert!(matches!(&error, ChannelsError::Invalid(at, _) if *at == field), "{text}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(table.inner().items().is_empty());
        let many: Vec<String> = (0..=MAX_ADDRESSES).map(|n| format!("a{n}@example.org")).collect();
        assert!(addresses(many).is_err());
        for n in 0..MAX_CHANNELS {
            channels.create(asked(MAIL), at(n as i64)).await.map(drop).unwrap();
        }
        assert!(matches!(channels.create(asked(MAIL), at(99)).await, Err(ChannelsError::TooMany)));
    }

    #[tokio::test]
    async fn a_post_is_signed_and_nothing_shows_its_secrets() {
        let World { hooks, channels, .. } = world();
        let hook = channels.create(asked(HOOK), at(0)).await.unwrap();
        let key = hook.signing_key().unwrap().to_owned();
        assert_eq!(channels.test(&hook, at(2)).await.unwrap(), "the address has taken it");
        let call = hooks.inner().take().remove(0);
        assert_eq!(call.url, "https://hooks.example.org/s3cret?k=s3cret");
        let header = |name: &str| call.headers.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let by_hand = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            format!("1795255202.{}", call.body).as_bytes(),
        );
        assert_eq!(header("sluice-signature"), format!("t=1795255202,v1={}", hex(by_hand.as_ref())));
        let body: Value = serde_json::from_str(&call.body).unwrap();
        assert_eq!((&body["type"], &body["id"]), (&json!("test"), &json!(header("sluice-id"))));
        hooks.script("hook.post", [Fault::Before(ErrorKind::Denied)]);
        let error = channels.test(&hook, at(3)).await.unwrap_err().to_string();
        let listed = channels.list().await.unwrap();
        let shown = listed[0].0.to_json(listed[0].1.as_ref());
        assert_eq!((&shown["host"], &shown["last"]["ok"]), (&json!("hooks.example.org"), &json!(false)));
        for text in [error, shown.to_string(), format!("{call:?}")] {
            assert!(!text.contains("s3cret") && !text.contains(&key), "{text}");
        }
    }

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // RFC 4231, test case 2, with its data cut where the timestamp ends.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"), b"what do ya want for nothing?");
        assert_eq!(hex(tag.as_ref()), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(
            signature("Jefe", 5, "x"),
            format!("t=5,v1={}", hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"), b"5.x").as_ref()))
        );
    }

    #[tokio::test]
    async fn what_is_there_no_more_is_not_sent() {
        let World { mail, hooks, channels, .. } = world();
        let made = channels.create(asked(MAIL), at(0)).await.unwrap();
        assert_eq!(channels.test(&made, at(0)).await.unwrap(), "handed over 2 mails");
        let mails = mail.inner().take();
        assert!(mails.len() == 2 && mails[0].message_id != mails[1].message_id);
        let letter = Letter {
            id: "l".into(),
            mail: MailText { subject: "s".into(), text: "t".into(), html: "h".into() },
            json: json!({}),
        };
        let gone = [
            Recipient::Mail { channel: made.id.clone(), to: "other@example.org".into() },
            Recipient::Mail { channel: "c_0".into(), to: "a@example.org".into() },
            Recipient::Hook(made.id.clone()),
            Recipient::Hook("c_0".into()),
        ];
        for to in gone {
            assert_eq!(channels.send(&letter, 0, &to, at(0)).await.unwrap(), Sent::Gone, "{to:?}");
        }
        assert!(mail.inner().take().is_empty() && hooks.inner().take().is_empty());
    }
}
