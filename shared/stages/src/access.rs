//! Who may do what: keys, their scopes, how a request presents one, and who a request is from: a key or a member's session.
//!
//! A key is kept under the SHA-256 of its secret, so the table cannot give a secret away and a lookup needs no comparison of secrets.
//! Secrets have 256 random bits; nothing slower than SHA-256 is needed to keep them.

use crate::http::{Request, Response};
use crate::members::Member;
use crate::rows;
use crate::sessions::{self, Sessions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_domain::event::{MAX_SOURCE_BYTES, MAX_TYPE_BYTES};
use sluice_domain::identity::{hex, hex_id};
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Table, Write};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Partition of the table that holds the keys; the sort key is the SHA-256 of the secret in hexadecimal.
pub const PARTITION: &str = "key";
/// How long an answer of the table is believed, in microseconds. A revoked key works this long at most where the table answers.
pub const CACHE_US: i64 = 5 * SECOND_US;
/// How long a key that was found is believed while the table does not answer, in microseconds.
pub const STALE_US: i64 = 300 * SECOND_US;
/// Age limit of the events that a write key brings, where its maker says nothing (spec, Lateness).
pub const DEFAULT_MAX_AGE_DAYS: u32 = 400;
/// Answers kept for secrets that are keys, and as many for secrets that are none.
const CACHE_ENTRIES: usize = 10_000;
/// Longer secrets are no keys.
const MAX_SECRET_BYTES: usize = 256;
/// Sources, types or origins that one key may name.
const MAX_NAMES: usize = 100;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send events. Public by nature: it sits in a page.
    Write,
    /// Search, SQL and reports.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// Its name in keys, settings and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Write, Self::Read, Self::Admin].into_iter().find(|s| s.name() == name)
    }

    /// Whether a key of this scope may do what needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self == Self::Admin || self == needed
    }
}

/// What a call of the API takes. A key's scope and a member's role each give some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Search, SQL, status.
    Read,
    /// Rules, quarantine, dead letters; a key needs the scope `admin`.
    Edit,
    /// Keys and members.
    Admin,
}

impl Right {
    /// The scope of the keys that have it.
    fn scope(self) -> Scope {
        match self {
            Self::Read => Scope::Read,
            Self::Edit | Self::Admin => Scope::Admin,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key as it is stored. It does not hold the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `k_` and 16 hexadecimal digits; names the key in replies, logs and quarantine.
    pub id: String,
    /// What it may do.
    pub scope: Scope,
    /// Sources that it may write; empty for any.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Types that it may write; empty for any.
    #[serde(default)]
    pub types: Vec<String>,
    /// Web origins (`https://shop.example`) that it may be used from, in lower case; empty for any, and for no browser at all.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Oldest allowed age of an event in days; `None` for imports and replays.
    #[serde(default)]
    pub max_age_days: Option<u32>,
    /// Events per second that it may send on average; `None` for no limit.
    #[serde(default)]
    pub rate_per_s: Option<u32>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it was revoked, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// What it is for, for people.
    #[serde(default)]
    pub name: String,
}

impl KeyRecord {
    /// Whether it may write events of this source.
    pub fn may_write_source(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|s| s == source)
    }

    /// Whether it may write events of this type; reserved areas are another matter.
    pub fn may_write_type(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|t| t == event_type)
    }

    /// Whether it may be used from a web origin, or from no browser where there is none.
    pub fn may_be_used_from(&self, origin: Option<&str>) -> bool {
        self.origins.is_empty() || origin.is_some_and(|o| self.origins.iter().any(|own| own.eq_ignore_ascii_case(o)))
    }

    /// The source of events that name none: its only one.
    pub fn default_source(&self) -> Option<&str> {
        match self.sources.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// See [`KeyRecord::scope`].
    pub scope: Scope,
    /// See [`KeyRecord::sources`]. A write key names at least one; `*` alone stands for any.
    pub sources: Vec<String>,
    /// See [`KeyRecord::types`].
    pub types: Vec<String>,
    /// See [`KeyRecord::origins`].
    pub origins: Vec<String>,
    /// See [`KeyRecord::max_age_days`].
    pub max_age_days: Option<u32>,
    /// See [`KeyRecord::rate_per_s`].
    pub rate_per_s: Option<u32>,
    /// See [`KeyRecord::name`].
    pub name: String,
}

impl KeySpec {
    /// A key for these sources with the usual age limit.
    pub fn write(sources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            scope: Scope::Write,
            sources: sources.into_iter().map(Into::into).collect(),
            types: Vec::new(),
            origins: Vec::new(),
            max_age_days: Some(DEFAULT_MAX_AGE_DAYS),
            rate_per_s: None,
            name: String::new(),
        }
    }

    /// A key that reads.
    pub fn read() -> Self {
        Self { scope: Scope::Read, ..Self::write([] as [&str; 0]) }
    }

    /// A key for everything: any source, no age limit.
    pub fn admin() -> Self {
        Self { scope: Scope::Admin, max_age_days: None, ..Self::write([] as [&str; 0]) }
    }

    /// The spec as it is stored, or what is wrong with it.
    fn normal(mut self) -> Result<Self, String> {
        if self.sources == ["*"] {
            self.sources.clear();
        } else if self.scope == Scope::Write && self.sources.is_empty() {
            return Err("a write key names at least one source; `*` stands for any".into());
        }
        for (what, names, max_bytes) in [
            ("source", &mut self.sources, MAX_SOURCE_BYTES),
            ("type", &mut self.types, MAX_TYPE_BYTES),
            ("origin", &mut self.origins, 512),
        ] {
            if names.len() > MAX_NAMES {
                return Err(format!("a key names at most {MAX_NAMES} {what}s"));
            }
            if let Some(bad) = names.iter().find(|n| n.is_empty() || n.len() > max_bytes) {
                return Err(format!("a {what} has 1 to {max_bytes} bytes, not {}", bad.len()));
            }
            names.sort();
            names.dedup();
        }
        if self.sources.iter().any(|s| s == "*") {
            return Err("`*` stands alone: a key is for any source or for those it names".into());
        }
        for origin in &mut self.origins {
            *origin = origin.trim_end_matches('/').to_ascii_lowercase();
            let host = origin.split_once("://").map(|(_, host)| host).unwrap_or_default();
            if host.is_empty() || host.contains(['/', '*', ' ']) {
                return Err(format!("`{origin}` is not an origin of the form `https://host`"));
            }
        }
        if self.rate_per_s == Some(0) {
            return Err("`rate_per_s` is at least 1".into());
        }
        if self.name.len() > 256 {
            return Err("`name` has at most 256 bytes".into());
        }
        Ok(self)
    }
}

/// A new secret: `sk_<scope>_` and 256 random bits in base64url.
pub fn new_secret(scope: Scope) -> Result<String, PortError> {
    Ok(format!("sk_{scope}_{}", new_token("keys.create")?))
}

/// 256 random bits in base64url.
pub(crate) fn new_token(operation: &'static str) -> Result<String, PortError> {
    let mut bytes = [0; 32];
    random(operation, &mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Fills `bytes` from the system's random source.
pub(crate) fn random(operation: &'static str, bytes: &mut [u8]) -> Result<(), PortError> {
    getrandom::fill(bytes)
        .map_err(|e| PortError::new(ErrorKind::Unavailable, operation, "no random bytes").with_source(e.to_string()))
}

/// The keys of the table, read through a small cache.
pub struct Keys {
    pub(crate) table: Arc<dyn Table>,
    cache: Mutex<Cache>,
    /// The public game's, once it was read; see [`crate::game`].
    pub(crate) game: OnceLock<String>,
}

type Hash = [u8; 32];

/// Hits and misses apart, so that a flood of guesses cannot push the keys out.
#[derive(Default)]
struct Cache {
    found: HashMap<Hash, (Arc<KeyRecord>, Timestamp)>,
    missing: HashMap<Hash, Timestamp>,
}

impl Keys {
    /// Keys of this table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, cache: Mutex::default(), game: OnceLock::new() }
    }

    /// The key with this secret; `None` where there is none or it was revoked. Answers are cached for [`CACHE_US`]; while the table does
    /// not answer, a key that was found within [`STALE_US`] still counts, so that events are taken on.
    pub async fn authenticate(&self, secret: &str, now: Timestamp) -> Result<Option<Arc<KeyRecord>>, PortError> {
        if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
            return Ok(None);
        }
        let hash: Hash = Sha256::digest(secret).into();
        if let Some(answer) = self.with_cache(|c| c.get(&hash, now)) {
            return Ok(answer);
        }
        let rows = match self.table.get(&[Key::new(PARTITION, hex(&hash))]).await {
            Ok(rows) => rows,
            Err(error) if error.is_transient() => {
                let stale =
                    self.with_cache(|c| c.found.get(&hash).filter(|(_, at)| fresh(*at, now, STALE_US)).cloned());
                return stale.map(|(record, _)| Some(record)).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let record = match rows.into_iter().next().flatten() {
            Some(item) => Some(Arc::new(read(&item)?)).filter(|r| r.revoked_at.is_none()),
            None => None,
        };
        self.with_cache(|c| c.put(hash, record.clone(), now));
        Ok(record)
    }

    /// Makes a key and answers its secret, which is shown this once. A given secret (16 to 256 bytes) is taken as it is. A spec that
    /// makes no sense is [`ErrorKind::Invalid`], a secret that is taken [`ErrorKind::Conflict`].
    pub async fn create(
        &self,
        spec: KeySpec,
        secret: Option<String>,
        now: Timestamp,
    ) -> Result<(String, KeyRecord), PortError> {
        let invalid = |what: String| PortError::new(ErrorKind::Invalid, "keys.create", what);
        let spec = spec.normal().map_err(invalid)?;
        let secret = match secret {
            Some(secret) if (16..=MAX_SECRET_BYTES).contains(&secret.len()) => secret,
            Some(_) => return Err(invalid(format!("a secret has 16 to {MAX_SECRET_BYTES} bytes"))),
            None => new_secret(spec.scope)?,
        };
        let hash: Hash = Sha256::digest(&secret).into();
        let record = KeyRecord {
            id: format!("k_{}", &hex_id(&[b"key", &hash])[..16]),
            scope: spec.scope,
            sources: spec.sources,
            types: spec.types,
            origins: spec.origins,
            max_age_days: spec.max_age_days,
            rate_per_s: spec.rate_per_s,
            created: now.to_micros_text(),
            revoked_at: None,
            name: spec.name,
        };
        self.put(&Key::new(PARTITION, hex(&hash)), &record, Condition::Absent).await?;
        self.with_cache(|c| c.forget(&hash));
        Ok((secret, record))
    }

    /// All keys, revoked ones too, in the order in which they were made.
    pub async fn list(&self) -> Result<Vec<KeyRecord>, PortError> {
        let mut records =
            rows::all(self.table.as_ref(), PARTITION).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        records.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        Ok(records)
    }

    /// Revokes the key with this id and answers it as it then stands; `None` where there is none. A key that was revoked before keeps
    /// its time.
    pub async fn revoke(&self, id: &str, now: Timestamp) -> Result<Option<KeyRecord>, PortError> {
        for item in rows::all(self.table.as_ref(), PARTITION).await? {
            let mut record = read(&item)?;
            if record.id != id {
                continue;
            }
            if record.revoked_at.is_none() {
                record.revoked_at = Some(now.to_micros_text());
                // Nothing else changes a key, so a conflict means that it is being revoked by another.
                match self.put(&item.key, &record, Condition::Version(item.version)).await {
                    Err(error) if error.kind != ErrorKind::Conflict => return Err(error),
                    _ => {}
                }
            }
            self.with_cache(|c| c.found.retain(|_, (r, _)| r.id != id));
            return Ok(Some(record));
        }
        Ok(None)
    }

    async fn put(&self, key: &Key, record: &KeyRecord, condition: Condition) -> Result<(), PortError> {
        let value = serde_json::to_value(record).map_err(|e| {
            PortError::new(ErrorKind::Invalid, "keys.put", format!("key `{}`", record.id)).with_source(e)
        })?;
        self.table.write(vec![Write::Put { key: key.clone(), value, condition, expires_at: None }]).await
    }

    fn with_cache<R>(&self, call: impl FnOnce(&mut Cache) -> R) -> R {
        call(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

fn read(item: &Item) -> Result<KeyRecord, PortError> {
    KeyRecord::deserialize(&item.value).map_err(|e| {
        PortError::new(ErrorKind::Corrupt, "keys.get", format!("row `{}` is not a key", item.key.sort)).with_source(e)
    })
}

/// Whether something read at `at` is still believed; a clock that went back ends it.
fn fresh(at: Timestamp, now: Timestamp, for_us: i64) -> bool {
    at <= now && now < at.plus_micros(for_us)
}

impl Cache {
    fn get(&self, hash: &Hash, now: Timestamp) -> Option<Option<Arc<KeyRecord>>> {
        match (self.found.get(hash), self.missing.get(hash)) {
            (Some((record, at)), _) if fresh(*at, now, CACHE_US) => Some(Some(Arc::clone(record))),
            (_, Some(at)) if fresh(*at, now, CACHE_US) => Some(None),
            _ => None,
        }
    }

    fn put(&mut self, hash: Hash, record: Option<Arc<KeyRecord>>, now: Timestamp) {
        self.forget(&hash);
        match record {
            Some(record) => {
                if self.found.len() >= CACHE_ENTRIES {
                    self.found.retain(|_, (_, at)| fresh(*at, now, STALE_US));
                    if self.found.len() >= CACHE_ENTRIES {
                        self.found.clear();
                    }
                }
                self.found.insert(hash, (record, now));
            }
            None => {
                if self.missing.len() >= CACHE_ENTRIES {
                    self.missing.clear();
                }
                self.missing.insert(hash, now);
            }
        }
    }

    fn forget(&mut self, hash: &Hash) {
        self.found.remove(hash);
        self.missing.remove(hash);
    }
}

/// Where a request carried its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `Authorization: Bearer …`
    Bearer,
    /// `X-Write-Key: …`
    Header,
    /// `?key=…`, which ends up in histories and logs of others, and so takes write keys only.
    Query,
}

/// The secret that a request presents, and where. Headers go before the query.
pub fn present(request: &Request) -> Option<(&str, Via)> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, secret) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    let found = [
        (bearer, Via::Bearer),
        (request.header("x-write-key").map(str::trim), Via::Header),
        (request.query("key"), Via::Query),
    ];
    found.into_iter().find_map(|(secret, via)| secret.filter(|s| !s.is_empty()).map(|s| (s, via)))
}

/// Who a request is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Whoever has this key.
    Key(Arc<KeyRecord>),
    /// The member of a session.
    Member(Box<Member>),
}

impl Principal {
    /// Names it in records: the id of the key, or `member:` and the id of the member.
    pub fn name(&self) -> String {
        match self {
            Self::Key(key) => key.id.clone(),
            Self::Member(member) => format!("member:{}", member.id),
        }
    }
}

/// A request that may not do what it asks for.
#[derive(Debug)]
pub struct Denial {
    /// Stable code of the reason, for example `wrong_scope`.
    pub code: &'static str,
    /// Who it is from, where that is known.
    pub who: Option<Principal>,
    /// What to answer: 401 without a key that is known and not revoked or a session that has not ended, 403 where that is for something
    /// else, 503 where the table does not say.
    pub reply: Response,
}

/// What to answer while the table does not say who asks.
pub(crate) fn unreadable(error: &PortError) -> Response {
    tracing::warn!(error.kind = ?error.kind, error.message = %error, "keys and sessions cannot be read");
    let after_s = error.retry_after.map_or(1, |d| d.as_secs().max(1));
    Response::error(503, "unavailable", "keys and sessions cannot be read for the moment")
        .with_header("retry-after", after_s.to_string())
}

fn unknown(code: &'static str, message: &str) -> Denial {
    let reply = Response::error(401, code, message).with_header("www-authenticate", "Bearer realm=\"sluice\"");
    Denial { code, who: None, reply }
}

fn unavailable(error: &PortError) -> Denial {
    Denial { code: "unavailable", who: None, reply: unreadable(error) }
}

/// The key of a request, whatever it may do.
pub(crate) async fn present_key(request: &Request, keys: &Keys, now: Timestamp) -> Result<Arc<KeyRecord>, Denial> {
    find_key(request, keys, now).await.map(|(key, _)| key)
}

async fn find_key(request: &Request, keys: &Keys, now: Timestamp) -> Result<(Arc<KeyRecord>, Via), Denial> {
    let Some((secret, via)) = present(request) else {
        return Err(unknown("no_key", "a key is needed: `Authorization: Bearer <key>`"));
    };
    match keys.authenticate(secret, now).await {
        Ok(Some(key)) => Ok((key, via)),
        Ok(None) => Err(unknown("unknown_key", "the key is not known, or was revoked")),
        Err(error) => Err(unavailable(&error)),
    }
}

/// The key of a request that may do what needs `needed`.
pub async fn authorize_key(
    request: &Request,
    keys: &Keys,
    needed: Scope,
    now: Timestamp,
) -> Result<Arc<KeyRecord>, Denial> {
    let (key, via) = find_key(request, keys, now).await?;
    let (code, message) = if via == Via::Query && key.scope != Scope::Write {
        let what = format!("`?key=` takes write keys only; send this {} key in `Authorization: Bearer`", key.scope);
        ("key_in_query", what)
    } else if !key.scope.includes(needed) {
        ("wrong_scope", format!("this needs a key for {needed}, and this one is for {}", key.scope))
    } else {
        return Ok(key);
    };
    Err(Denial { code, who: Some(Principal::Key(key)), reply: Response::error(403, code, message) })
}

/// Who a request is from, where that may do what takes `right`: a key, or, where it presents none, a session. What a session changes must
/// come from a page of this site.
pub async fn authorize(
    request: &Request,
    keys: &Keys,
    sessions: &Sessions,
    right: Right,
    now: Timestamp,
) -> Result<Principal, Denial> {
    let token = sessions::token(request).filter(|_| present(request).is_none());
    let Some(token) = token else {
        return authorize_key(request, keys, right.scope(), now).await.map(Principal::Key);
    };
    let member = match sessions.find(token, now).await {
        Ok(Some(member)) => member,
        Ok(None) => return Err(unknown("no_session", "the session has ended; sign in again")),
        Err(error) => return Err(unavailable(&error)),
    };
    let (code, message) = if sessions::is_forgeable(request) {
        (CROSS_SITE, "a session changes something only from a page of this site, by a body of type application/json")
    } else if !member.role.grants(right) {
        ("wrong_role", "the member's role does not allow this")
    } else {
        return Ok(Principal::Member(Box::new(member)));
    };
    Err(Denial { code, who: Some(Principal::Member(Box::new(member))), reply: Response::error(403, code, message) })
}

/// Whether a request is from anybody known, whatever that may do. While the table does not say, nobody is.
pub async fn is_known(request: &Request, keys: &Keys, sessions: &Sessions, now: Timestamp) -> bool {
    match (present(request), sessions::token(request)) {
        (Some((secret, _)), _) => matches!(keys.authenticate(secret, now).await, Ok(Some(_))),
        (None, Some(token)) => matches!(sessions.find(token, now).await, Ok(Some(_))),
        (None, None) => false,
    }
}

/// Code of a request that another site's page may have made a browser send.
pub(crate) const CROSS_SITE: &str = "cross_site";

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::MemoryTable;
    use std::collections::BTreeMap;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000 + seconds * SECOND_US).unwrap()
    }

    fn keys() -> (Arc<Faulty<MemoryTable>>, Keys) {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        (Arc::clone(&table), Keys::new(table))
    }

    fn with_header(name: &str, value: &str) -> Request {
        Request { headers: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..Request::default() }
    }

    #[tokio::test]
    async fn a_key_is_known_by_its_secret_until_it_is_revoked() {
        let (table, keys) = keys();
        let (secret, made) = keys.create(KeySpec::write(["shop"]), None, at(0)).await.unwrap();
        assert!(secret.starts_with("sk_write_") && secret.len() == 9 + 43, "{secret}");
        assert!(!table.inner().items().iter().any(|i| format!("{i:?}").contains(&secret[9..])));
        let found = keys.authenticate(&secret, at(1)).await.unwrap().unwrap();
        assert_eq!(*found, made);
        assert_eq!(keys.authenticate("sk_write_other_secret", at(1)).await.unwrap(), None);
        let revoked = keys.revoke(&made.id, at(2)).await.unwrap().unwrap();
        assert_eq!(revoked.revoked_at.as_deref(), Some("2026-11-21T10:00:02.000000Z"));
        assert_eq!(keys.authenticate(&secret, at(2)).await.unwrap(), None);
        assert_eq!(keys.revoke(&made.id, at(9)).await.unwrap().unwrap(), revoked);
        assert_eq!(keys.revoke("k_0", at(9)).await.unwrap(), None);
        assert_eq!(keys.list().await.unwrap(), [revoked]);
    }

    #[tokio::test]
    async fn hits_and_misses_are_cached_for_five_seconds() {
        let (table, keys) = keys();
        let (secret, made) = keys.create(KeySpec::read(), None, at(0)).await.unwrap();
        for secret in [secret.as_str(), "unknown"] {
            let before = table.calls("table.get");
            for second in [0, 4] {
                keys.authenticate(secret, at(second)).await.unwrap();
            }
            assert_eq!(table.calls("table.get"), before + 1, "{secret}");
            keys.authenticate(secret, at(5)).await.unwrap();
            assert_eq!(table.calls("table.get"), before + 2, "{secret}");
        }
        // Another process revokes it: five seconds later it is over here too.
        let other = Keys::new(table);
        other.revoke(&made.id, at(6)).await.unwrap();
        assert!(keys.authenticate(&secret, at(9)).await.unwrap().is_some());
        assert!(keys.authenticate(&secret, at(10)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_key_made_after_a_miss_is_known_at_once() {
        let (_, keys) = keys();
        let secret = "a-secret-of-my-own".to_owned();
        assert_eq!(keys.authenticate(&secret, at(0)).await.unwrap(), None);
        keys.create(KeySpec::admin(), Some(secret.clone()), at(0)).await.unwrap();
        assert!(keys.authenticate(&secret, at(0)).await.unwrap().is_some());
        let again = keys.create(KeySpec::admin(), Some(secret), at(0)).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn a_known_key_outlives_a_short_outage_of_the_table() {
        let (table, keys) = keys();
        let (secret, _) = keys.create(KeySpec::write(["shop"]), None, at(0)).await.unwrap();
        keys.authenticate(&secret, at(0)).await.unwrap();
        table.always("table.get", Fault::Before(ErrorKind::Unavailable));
        assert!(keys.authenticate(&secret, at(299)).await.unwrap().is_some());
        assert_eq!(keys.authenticate(&secret, at(300)).await.unwrap_err().kind, ErrorKind::Unavailable);
        assert!(keys.authenticate("another secret", at(1)).await.is_err());
    }

    #[tokio::test]
    async fn the_cache_is_bounded_and_guesses_do_not_push_keys_out() {
        let (_, keys) = keys();
        let (secret, _) = keys.create(KeySpec::read(), None, at(0)).await.unwrap();
        keys.authenticate(&secret, at(0)).await.unwrap();
        for guess in 0..CACHE_ENTRIES + 10 {
            keys.authenticate(&format!("guess {guess}"), at(0)).await.unwrap();
        }
        keys.with_cache(|c| {
            assert_eq!(c.found.len(), 1);
            assert!(c.missing.len() <= CACHE_ENTRIES);
        });
    }

    #[tokio::test]
    async fn keys_that_make_no_sense_are_refused() {
        let (table, keys) = keys();
        let spec = || KeySpec::write(["shop"]);
        for bad in [
            KeySpec::write([] as [&str; 0]),
            KeySpec::write([""]),
            KeySpec::write(["*", "shop"]),
            KeySpec { origins: vec!["shop.example".into()], ..spec() },
            KeySpec { origins: vec!["https://*.example".into()], ..spec() },
            KeySpec { rate_per_s: Some(0), ..spec() },
            KeySpec { types: vec!["t".repeat(129)], ..spec() },
            KeySpec { name: "n".repeat(257), ..spec() },
        ] {
            let error = keys.create(bad.clone(), None, at(0)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{bad:?}");
        }
        assert_eq!(keys.create(spec(), Some("short".into()), at(0)).await.unwrap_err().kind, ErrorKind::Invalid);
        assert!(table.inner().items().is_empty());
        let any = keys.create(KeySpec::write(["*"]), None, at(0)).await.unwrap().1;
        assert!(any.sources.is_empty() && any.may_write_source("whatever"));
    }

    #[tokio::test]
    async fn keys_from_many_pages_are_listed_in_order() {
        let (_, keys) = keys();
        for n in 0..=rows::PAGE as i64 {
            keys.create(KeySpec::write([format!("s{n}")]), None, at(n)).await.unwrap();
        }
        let list = keys.list().await.unwrap();
        assert_eq!(list.len(), rows::PAGE + 1);
        assert!(list.iter().enumerate().all(|(n, key)| key.sources == [format!("s{n}")]));
    }

    #[test]
    fn a_key_is_presented_in_three_ways() {
        assert_eq!(present(&with_header("authorization", "bearer  abc ")), Some(("abc", Via::Bearer)));
        assert_eq!(present(&with_header("x-write-key", "abc")), Some(("abc", Via::Header)));
        assert_eq!(present(&with_header("authorization", "Basic abc")), None);
        assert_eq!(present(&with_header("authorization", "Bearer ")), None);
        let mut request = Request { query: vec![("key".into(), "q".into())], ..Request::default() };
        assert_eq!(present(&request), Some(("q", Via::Query)));
        request.headers.insert("x-write-key".into(), "h".into());
        assert_eq!(present(&request), Some(("h", Via::Header)));
        assert_eq!(present(&Request::default()), None);
    }

    #[tokio::test]
    async fn a_scope_opens_what_it_includes_and_nothing_else() {
        let (_, keys) = keys();
        for (spec, opens) in [
            (KeySpec::write(["shop"]), [true, false, false]),
            (KeySpec::read(), [false, true, false]),
            (KeySpec::admin(), [true, true, true]),
        ] {
            let (secret, made) = keys.create(spec, None, at(0)).await.unwrap();
            let request = with_header("authorization", &format!("Bearer {secret}"));
            for (needed, open) in [Scope::Write, Scope::Read, Scope::Admin].into_iter().zip(opens) {
                match authorize_key(&request, &keys, needed, at(0)).await {
                    Ok(key) => assert!(open && *key == made, "{needed} {made:?}"),
                    Err(denial) => {
                        let known = denial.who == Some(Principal::Key(Arc::new(made.clone())));
                        assert!(!open && known && denial.reply.status == 403, "{needed} {made:?} {denial:?}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn refusals_have_their_status_and_never_show_the_secret() {
        let (table, keys) = keys();
        let (admin, _) = keys.create(KeySpec::admin(), None, at(0)).await.unwrap();
        let (write, _) = keys.create(KeySpec::write(["shop"]), None, at(0)).await.unwrap();
        let query = |secret: &str| Request { query: vec![("key".into(), secret.into())], ..Request::default() };
        let status = async |request: Request| match authorize_key(&request, &keys, Scope::Write, at(0)).await {
            Ok(_) => 200,
            Err(Denial { reply, who, .. }) => {
                let body = String::from_utf8(reply.body.to_vec()).unwrap();
                assert!(present(&request).is_none_or(|(s, _)| !body.contains(s)), "{body}");
                assert_eq!(who.is_some(), reply.status == 403);
                reply.status
            }
        };
        assert_eq!(status(Request::default()).await, 401);
        assert_eq!(status(query("sk_write_unknown")).await, 401);
        assert_eq!(status(query(&admin)).await, 403);
        assert_eq!(status(query(&write)).await, 200);
        table.always("table.get", Fault::Before(ErrorKind::Throttled));
        assert_eq!(status(query("sk_write_another")).await, 503);
    }

    #[test]
    fn origins_are_compared_whole() {
        let mut key = KeyRecord {
            id: "k".into(),
            scope: Scope::Write,
            sources: vec![],
            types: vec![],
            origins: vec![],
            max_age_days: None,
            rate_per_s: None,
            created: String::new(),
            revoked_at: None,
            name: String::new(),
        };
        assert!(key.may_be_used_from(None) && key.may_be_used_from(Some("https://x.example")));
        key.origins = vec!["https://shop.example".into()];
        assert!(key.may_be_used_from(Some("HTTPS://shop.example")));
        for other in [None, Some("https://shop.example.evil"), Some("http://shop.example"), Some("null")] {
            assert!(!key.may_be_used_from(other), "{other:?}");
        }
    }
}
