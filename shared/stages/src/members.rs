//! Members: who signs in to the console, and in which role.
//!
//! | row | holds |
//! |---|---|
//! | `member` / id | the member, the hash of the password, the invitation that is open |
//! | `member-email` / hash of the address | the id, so that an address has one member |
//! | `member-seen` / id | when a session of the member was last used |
//! | `members` / `census` | how many there are, and how many admins can sign in; it changes with every change of who they are |
//! | `members` / `first` | the hash of the one-time link of the first start |
//!
//! A member that was invited has no password until the invitation is taken up, and counts as an admin only from then on.

use crate::access::{Right, new_token, random};
use crate::passwords::{self, Passwords};
use crate::rows;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_domain::identity::{hex, hex_id};
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Table, Write};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Most members of a deployment.
pub const MAX_MEMBERS: usize = 1_000;
/// How long an invitation, and the link of the first start, can be taken up.
pub const INVITATION_US: i64 = 7 * DAY_US;
/// Longest mail address, in bytes. Source: RFC 5321, 4.5.3.1.3, without the angle brackets.
pub const MAX_EMAIL_BYTES: usize = 254;
/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Longest link token.
const MAX_TOKEN_BYTES: usize = 256;
/// How often a write is tried again when others write at the same time.
const ATTEMPTS: usize = 5;
/// Stands in a link's token where an id stands in others'.
const FIRST: &str = "first";

/// What a member may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Search, SQL, status: what a `read` key may.
    Viewer,
    /// And rules, quarantine, dead letters.
    Editor,
    /// And keys and members: everything.
    Admin,
}

impl Role {
    /// Its name in requests, replies and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }

    /// Whether it gives this right.
    pub fn grants(self, right: Right) -> bool {
        let needed = match right {
            Right::Read => Self::Viewer,
            Right::Edit => Self::Editor,
            Right::Admin => Self::Admin,
        };
        self >= needed
    }
}

/// A member, as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `m_` and 16 hexadecimal digits.
    pub id: String,
    /// The address, as it was written.
    pub email: String,
    /// What to call the member.
    pub name: String,
    /// What the member may do.
    pub role: Role,
    /// RFC 3339.
    pub created_at: String,
    /// When a session was last used, to some minutes, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<String>,
}

/// A member with what only this crate sees.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    #[serde(flatten)]
    pub(crate) member: Member,
    /// Sessions of an earlier generation have ended.
    pub(crate) generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<Link>,
}

/// A link that has not been used; of its secret only the hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Link {
    hash: String,
    expires_at: String,
}

impl Link {
    fn new(id: &str, now: Timestamp) -> Result<(Self, String), PortError> {
        let secret = new_token("members.link")?;
        let expires_at = now.plus_micros(INVITATION_US).to_micros_text();
        Ok((Self { hash: hash(&secret), expires_at }, format!("{id}.{secret}")))
    }

    fn opens(&self, secret: &str, now: Timestamp) -> bool {
        let is_open = Timestamp::parse_rfc3339(&self.expires_at).is_some_and(|end| now < end);
        is_open && self.hash == hash(secret)
    }
}

/// An invitation as it is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The member to be.
    pub member: Member,
    /// Opens the account once.
    pub token: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// Whoever uses a link says who they are.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer<'n> {
    /// An invitation's is for its own address only.
    pub email: &'n str,
    /// What to call the member.
    pub name: &'n str,
    /// To sign in with from then on.
    pub password: &'n str,
}

/// Why a change of the members failed.
#[derive(Debug)]
pub enum MembersError {
    /// A field is not of its form.
    Invalid(&'static str, String),
    /// There is a member with this address.
    Exists,
    /// There is no such member.
    NotFound,
    /// Nobody could administer afterwards.
    LastAdmin,
    /// The link was used, has expired, or never was.
    Link,
    /// The password is another one.
    Credentials,
    /// There are [`MAX_MEMBERS`] members already.
    TooMany,
    /// The table failed, or there is no room for a hash.
    Port(PortError),
}

impl fmt::Display for MembersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(field, reason) => write!(f, "`{field}` {reason}"),
            Self::Exists => f.write_str("there is a member with this address"),
            Self::NotFound => f.write_str("there is no such member"),
            Self::LastAdmin => f.write_str("this is the last admin: make another one first"),
            Self::Link => f.write_str("the link was used before, or has expired: ask an admin for a new invitation"),
            Self::Credentials => f.write_str("the password is another one"),
            Self::TooMany => write!(f, "there are {MAX_MEMBERS} members already; remove some first"),
            Self::Port(_) => f.write_str("the members cannot be reached"),
        }
    }
}

impl std::error::Error for MembersError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Port(e) = self { Some(e) } else { None }
    }
}

impl From<PortError> for MembersError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

type Outcome<T> = Result<T, MembersError>;

/// The members of a table.
pub struct Members {
    table: Arc<dyn Table>,
    passwords: Passwords,
}

/// A row that was read, for a write on the condition that it is still the same.
struct Found {
    account: Account,
    version: u64,
}

impl Members {
    /// Members of this table.
    pub fn new(table: Arc<dyn Table>, passwords: Passwords) -> Self {
        Self { table, passwords }
    }

    /// A new one-time link that makes the first admin; `None` where an admin can sign in. One that was made before does not open any more.
    pub async fn first_link(&self, now: Timestamp) -> Result<Option<String>, PortError> {
        if self.census().await?.admins > 0 {
            return Ok(None);
        }
        let (link, token) = Link::new(FIRST, now)?;
        let write = put(first_key(), encode(&link)?, Condition::Any);
        self.table.write(vec![write]).await?;
        Ok(Some(token))
    }

    /// Invites somebody. Who was invited and did not come gets a new invitation in place of the old one.
    pub async fn invite(&self, email: &str, name: &str, role: Role, now: Timestamp) -> Outcome<Invitation> {
        let email = checked_email(email)?;
        let name = if name.trim().is_empty() { String::new() } else { checked_name(name)? };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let census = self.census().await?;
            let found = self.by_email(&email).await?;
            let (account, condition) = match found {
                Some(Found { account, .. }) if account.password.is_some() => return Err(MembersError::Exists),
                Some(Found { account, version }) => {
                    let member = Member { name: name.clone(), role, ..account.member };
                    (Account { member, ..account }, Condition::Version(version))
                }
                None if census.count >= MAX_MEMBERS => return Err(MembersError::TooMany),
                None => (new_account(&email, &name, role, now)?, Condition::Absent),
            };
            let id = account.member.id.clone();
            let (link, token) = Link::new(&id, now)?;
            let expires_at = link.expires_at.clone();
            let account = Account { link: Some(link), ..account };
            let mut writes = vec![put(Key::new(MEMBER, &id), encode(&account)?, condition)];
            if condition == Condition::Absent {
                writes.push(put(email_key(&email), json!({"member": id}), Condition::Absent));
                writes.push(census.changed(census.count + 1, census.admins));
            }
            match self.written(writes).await? {
                // A write whose reply was lost is seen as an open invitation, and replaced by this one.
                false => last = Some(busy()),
                true => return Ok(Invitation { member: account.member, token, expires_at }),
            }
        }
        Err(last.unwrap_or_else(busy).into())
    }

    /// Takes up an invitation, or the link of the first start, once: the member can sign in from then on.
    pub async fn join(&self, token: &str, who: Newcomer<'_>, now: Timestamp) -> Outcome<Member> {
        let (id, secret) =
            token.split_once('.').filter(|_| token.len() <= MAX_TOKEN_BYTES).ok_or(MembersError::Link)?;
        // Whoever has no link is not told what is wrong with the rest, and costs no hash.
        let census = self.census().await?;
        if id == FIRST {
            self.first(secret, &census, now).await?;
        } else {
            self.invited(id, secret, now).await?;
        }
        let email = checked_email(who.email)?;
        let name = checked_name(who.name)?;
        check_password("password", who.password)?;
        let password = Some(self.passwords.hash(who.password).await?);
        let made = new_account(&email, &name, Role::Admin, now)?;
        for _ in 0..ATTEMPTS {
            let census = self.census().await?;
            let (account, writes) = if id == FIRST {
                let version = self.first(secret, &census, now).await?;
                let account = Account { password: password.clone(), ..made.clone() };
                let id = &account.member.id;
                let writes = vec![
                    put(Key::new(MEMBER, id), encode(&account)?, Condition::Absent),
                    put(email_key(&email), json!({"member": id}), Condition::Absent),
                    census.changed(census.count + 1, census.admins + 1),
                    Write::Delete { key: first_key(), condition: Condition::Version(version) },
                ];
                (account, writes)
            } else {
                let Found { account, version } = self.invited(id, secret, now).await?;
                if !account.member.email.eq_ignore_ascii_case(&email) {
                    return Err(MembersError::Invalid("email", "is not the address that was invited".into()));
                }
                let admins = census.admins + usize::from(account.member.role == Role::Admin);
                let member = Member { name: name.clone(), ..account.member };
                let generation = account.generation + 1;
                let account = Account { member, generation, password: password.clone(), link: None };
                let writes = vec![
                    put(Key::new(MEMBER, id), encode(&account)?, Condition::Version(version)),
                    census.changed(census.count, admins),
                ];
                (account, writes)
            };
            if self.written(writes).await? {
                return Ok(account.member);
            }
            if id == FIRST
                && self.by_email(&email).await?.is_some_and(|found| found.account.member.id != account.member.id)
            {
                return Err(MembersError::Exists);
            }
            // The reply may have been lost, or another change came between.
            if let Some(found) = self.get(&account.member.id).await?
                && found.password == account.password
            {
                return Ok(found.member);
            }
        }
        Err(busy().into())
    }

    /// The account with this address and password. An address that is not known takes the same work as a wrong password.
    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Outcome<Account> {
        let found = match self.by_email(email.trim()).await? {
            // As many reads as for an address that is known.
            None => self.find(NOBODY).await?,
            found => found,
        };
        let kept = found.as_ref().and_then(|found| found.account.password.as_deref());
        let fits = password.len() <= passwords::MAX_BYTES && self.passwords.verify(password, kept).await?;
        found.filter(|_| fits).map(|found| found.account).ok_or(MembersError::Credentials)
    }

    /// The account with this id.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Account>, PortError> {
        Ok(self.find(id).await?.map(|found| found.account))
    }

    /// All members in the order in which they were made, those too who were invited.
    pub async fn list(&self) -> Result<Vec<Member>, PortError> {
        let items = rows::all(self.table.as_ref(), MEMBER).await?;
        let seen: HashMap<String, Value> = rows::all(self.table.as_ref(), SEEN)
            .await?
            .into_iter()
            .map(|mut item| (item.key.sort, item.value["at"].take()))
            .collect();
        let mut members = Vec::with_capacity(items.len());
        for item in &items {
            let mut member = read(item)?.member;
            member.last_seen_at = seen.get(&member.id).and_then(Value::as_str).map(str::to_owned);
            members.push(member);
        }
        members.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
        Ok(members)
    }

    /// The addresses of those who may do everything, in the order in which they were made.
    pub(crate) async fn admin_addresses(table: &dyn Table) -> Result<Vec<String>, PortError> {
        let mut admins = Vec::new();
        for item in rows::all(table, MEMBER).await? {
            let member = read(&item)?.member;
            if member.role == Role::Admin {
                admins.push((member.created_at, member.email));
            }
        }
        admins.sort();
        Ok(admins.into_iter().map(|(_, email)| email).collect())
    }

    /// Changes role or name; what is `None` stays.
    pub async fn change(&self, id: &str, role: Option<Role>, name: Option<&str>) -> Outcome<Member> {
        let name = name.map(checked_name).transpose()?;
        for _ in 0..ATTEMPTS {
            let census = self.census().await?;
            let Found { account, version } = self.find(id).await?.ok_or(MembersError::NotFound)?;
            let role = role.unwrap_or(account.member.role);
            let admins = census.admins + usize::from(account.is_admin(role))
                - usize::from(account.is_admin(account.member.role)).min(census.admins);
            if admins == 0 && census.admins > 0 {
                return Err(MembersError::LastAdmin);
            }
            let name = name.clone().unwrap_or_else(|| account.member.name.clone());
            let member = Member { name, role, ..account.member.clone() };
            let changed = Account { member, ..account };
            let writes = vec![
                put(Key::new(MEMBER, id), encode(&changed)?, Condition::Version(version)),
                census.changed(census.count, admins),
            ];
            if self.written(writes).await? {
                return Ok(changed.member);
            }
        }
        Err(busy().into())
    }

    /// Removes a member, whose sessions end with that.
    pub async fn remove(&self, id: &str) -> Outcome<()> {
        let mut tried = false;
        for _ in 0..ATTEMPTS {
            let census = self.census().await?;
            let Some(Found { account, version }) = self.find(id).await? else {
                // Gone after a write of our own whose reply was lost: it was there before.
                return if tried { Ok(()) } else { Err(MembersError::NotFound) };
            };
            let admins = census.admins - usize::from(account.is_admin(account.member.role)).min(census.admins);
            if admins == 0 && census.admins > 0 {
                return Err(MembersError::LastAdmin);
            }
            let writes = vec![
                Write::Delete { key: Key::new(MEMBER, id), condition: Condition::Version(version) },
                Write::Delete { key: email_key(&account.member.email), condition: Condition::Any },
                Write::Delete { key: Key::new(SEEN, id), condition: Condition::Any },
                census.changed(census.count.saturating_sub(1), admins),
            ];
            if self.written(writes).await? {
                return Ok(());
            }
            tried = true;
        }
        Err(busy().into())
    }

    /// Sets another password, which ends all sessions of the member.
    pub(crate) async fn set_password(&self, id: &str, old: &str, new: &str) -> Outcome<Account> {
        check_password("new", new)?;
        let before = self.find(id).await?.ok_or(MembersError::NotFound)?.account.password;
        if old.len() > passwords::MAX_BYTES || !self.passwords.verify(old, before.as_deref()).await? {
            return Err(MembersError::Credentials);
        }
        let password = Some(self.passwords.hash(new).await?);
        for _ in 0..ATTEMPTS {
            let Found { account, version } = self.find(id).await?.ok_or(MembersError::NotFound)?;
            if account.password == password {
                return Ok(account);
            }
            // Another change of the password came first: the old one is not the old one any more.
            if account.password != before {
                return Err(MembersError::Credentials);
            }
            let account = Account { password: password.clone(), generation: account.generation + 1, ..account };
            let write = put(Key::new(MEMBER, id), encode(&account)?, Condition::Version(version));
            if self.written(vec![write]).await? {
                return Ok(account);
            }
        }
        Err(busy().into())
    }

    /// The row of the first start's link, where this opens it: its version.
    async fn first(&self, secret: &str, census: &Census, now: Timestamp) -> Outcome<u64> {
        let item = self.table.get(&[first_key()]).await?.pop().flatten().filter(|_| census.admins == 0);
        let item = item.ok_or(MembersError::Link)?;
        let link = Link::deserialize(&item.value).map_err(|_| rows::corrupt(&item.key))?;
        if link.opens(secret, now) { Ok(item.version) } else { Err(MembersError::Link) }
    }

    async fn invited(&self, id: &str, secret: &str, now: Timestamp) -> Outcome<Found> {
        let found = self.find(id).await?;
        let opens = |found: &Found| found.account.link.as_ref().is_some_and(|link| link.opens(secret, now));
        found.filter(opens).ok_or(MembersError::Link)
    }

    async fn find(&self, id: &str) -> Result<Option<Found>, PortError> {
        // No member can have such an id, and the table would refuse the key.
        if id.is_empty() || id.len() > 128 {
            return Ok(None);
        }
        let item = self.table.get(&[Key::new(MEMBER, id)]).await?.pop().flatten();
        item.map(|item| Ok(Found { account: read(&item)?, version: item.version })).transpose()
    }

    async fn by_email(&self, email: &str) -> Result<Option<Found>, PortError> {
        let item = self.table.get(&[email_key(email)]).await?.pop().flatten();
        match item.as_ref().and_then(|item| item.value["member"].as_str()) {
            Some(id) => self.find(id).await,
            None => Ok(None),
        }
    }

    async fn census(&self) -> Result<Census, PortError> {
        let item = self.table.get(&[census_key()]).await?.pop().flatten();
        let number = |field: &str| {
            let number = item.as_ref().and_then(|item| item.value[field].as_u64()).unwrap_or(0);
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let (count, admins) = (number("count"), number("admins"));
        Ok(Census { count, admins, version: item.map(|item| item.version) })
    }

    /// Whether the writes took effect; `false` where it has to be looked again.
    async fn written(&self, writes: Vec<Write>) -> Result<bool, PortError> {
        match self.table.write(writes).await {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}

impl Account {
    /// Whether it would be, in this role, an admin that can sign in.
    fn is_admin(&self, role: Role) -> bool {
        role == Role::Admin && self.password.is_some()
    }
}

/// The row that counts the members.
struct Census {
    count: usize,
    /// Those that can sign in.
    admins: usize,
    version: Option<u64>,
}

impl Census {
    fn changed(&self, count: usize, admins: usize) -> Write {
        let condition = self.version.map_or(Condition::Absent, Condition::Version);
        put(census_key(), json!({"count": count, "admins": admins}), condition)
    }
}

const MEMBER: &str = "member";
/// No member has this id.
const NOBODY: &str = "nobody";
/// Partition of the rows that say when members were last seen.
pub(crate) const SEEN: &str = "member-seen";

fn census_key() -> Key {
    Key::new("members", "census")
}

fn first_key() -> Key {
    Key::new("members", FIRST)
}

/// Addresses are personal, so they are no keys. Letters are the same in both sizes.
fn email_key(email: &str) -> Key {
    Key::new("member-email", hex_id(&[email.to_lowercase().as_bytes()]))
}

fn put(key: Key, value: Value, condition: Condition) -> Write {
    Write::Put { key, value, condition, expires_at: None }
}

fn encode(value: &impl Serialize) -> Result<Value, PortError> {
    serde_json::to_value(value).map_err(|e| PortError::new(ErrorKind::Invalid, "members.put", "a row").with_source(e))
}

fn read(item: &Item) -> Result<Account, PortError> {
    Account::deserialize(&item.value).map_err(|_| rows::corrupt(&item.key))
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

fn new_account(email: &str, name: &str, role: Role, now: Timestamp) -> Result<Account, PortError> {
    let mut bytes = [0; 8];
    random("members.create", &mut bytes)?;
    let member = Member {
        id: format!("m_{}", hex(&bytes)),
        email: email.to_owned(),
        name: name.to_owned(),
        role,
        created_at: now.to_micros_text(),
        last_seen_at: None,
    };
    Ok(Account { member, generation: 1, password: None, link: None })
}

fn busy() -> PortError {
    PortError::new(ErrorKind::Unavailable, "table.write", "too many changes of the members at the same time")
}

fn checked_email(email: &str) -> Outcome<String> {
    let email = email.trim();
    let (name, host) = email.rsplit_once('@').unwrap_or_default();
    let is_plain =
        |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;:\"()[]\\".contains(c));
    if name.is_empty() || host.is_empty() || name.contains('@') || email.len() > MAX_EMAIL_BYTES || !is_plain(email) {
        let reason = format!("is a mail address of at most {MAX_EMAIL_BYTES} bytes, such as `name@example.org`");
        return Err(MembersError::Invalid("email", reason));
    }
    Ok(email.to_owned())
}

fn checked_name(name: &str) -> Outcome<String> {
    let name = name.trim();
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || name.contains(char::is_control) {
        return Err(MembersError::Invalid("name", format!("has 1 to {MAX_NAME_CHARS} characters")));
    }
    Ok(name.to_owned())
}

fn check_password(field: &'static str, password: &str) -> Outcome<()> {
    if password.chars().count() < passwords::MIN_CHARS || password.len() > passwords::MAX_BYTES {
        let reason =
            format!("has at least {} characters and at most {} bytes", passwords::MIN_CHARS, passwords::MAX_BYTES);
        return Err(MembersError::Invalid(field, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
