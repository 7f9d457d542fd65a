//! Sessions of members: a random token in a cookie, its hash in the table.
//!
//! A session ends when it was not used for [`IDLE_US`], [`ABSOLUTE_US`] after its beginning, when it is signed out, when the member is
//! removed, and, but for the one that asked, when the member's password is changed. The member is read with every request, so that an end or
//! another role holds at once in every process.

use crate::access::new_token;
use crate::http::Request;
use crate::members::{Account, Member, Members, SEEN};
use crate::rows;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sluice_domain::identity::hex;
use sluice_domain::time::{DAY_US, SECOND_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Key, PortError, Table, Write};
use std::fmt;
use std::sync::Arc;

/// Name of the cookie.
pub const COOKIE: &str = "sluice_session";
/// A session that is not used for this long has ended.
pub const IDLE_US: i64 = 3 * DAY_US;
/// A session has ended this long after it began, however it is used.
pub const ABSOLUTE_US: i64 = 30 * DAY_US;
/// How exactly it is written down when a session was last used.
const SEEN_US: i64 = 300 * SECOND_US;
/// Longer tokens are none.
const MAX_TOKEN_BYTES: usize = 128;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    member: String,
    generation: u64,
    created_at: String,
    seen_at: String,
}

/// The sessions of a table.
pub struct Sessions {
    table: Arc<dyn Table>,
    members: Arc<Members>,
}

impl Sessions {
    /// Sessions of these members, in the same table.
    pub fn new(table: Arc<dyn Table>, members: Arc<Members>) -> Self {
        Self { table, members }
    }

    /// Begins a session and answers its token. Every sign-in has a token of its own, whatever the browser brought with it.
    pub(crate) async fn begin(&self, account: &Account, now: Timestamp) -> Result<String, PortError> {
        let token = new_token("sessions.begin")?;
        let at = now.to_micros_text();
        let session = Session {
            member: account.member.id.clone(),
            generation: account.generation,
            created_at: at.clone(),
            seen_at: at,
        };
        let writes = vec![put(key(&token), &session, Condition::Absent, now)?, seen(&session)];
        self.table.write(writes).await?;
        Ok(token)
    }

    /// The member of the session with this token; `None` where there is none, or it has ended.
    pub async fn find(&self, token: &str, now: Timestamp) -> Result<Option<Member>, PortError> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        let Some(item) = self.table.get(&[key(token)]).await?.pop().flatten() else { return Ok(None) };
        let session = Session::deserialize(&item.value).map_err(|_| rows::corrupt(&item.key))?;
        let since = |at: &str| Timestamp::parse_rfc3339(at).map_or(i64::MAX, |at| now.micros() - at.micros());
        let (age_us, idle_us) = (since(&session.created_at), since(&session.seen_at));
        if age_us >= ABSOLUTE_US || idle_us >= IDLE_US {
            return Ok(None);
        }
        let account = self.members.get(&session.member).await?;
        let Some(account) = account.filter(|account| account.generation == session.generation) else { return Ok(None) };
        let mut member = account.member;
        member.last_seen_at = Some(session.seen_at.clone());
        if idle_us >= SEEN_US {
            let session = Session { seen_at: now.to_micros_text(), ..session };
            let created = Timestamp::parse_rfc3339(&session.created_at).unwrap_or(now);
            let again = put(item.key, &session, Condition::Version(item.version), created)?;
            // Another request of the session writes the same, or it was just signed out; it is only put off.
            if let Err(error) = self.table.write(vec![again, seen(&session)]).await
                && error.kind != ErrorKind::Conflict
            {
                tracing::warn!(error.kind = ?error.kind, error.message = %error, "the use of a session is not written down");
            }
        }
        Ok(Some(member))
    }

    /// Ends the session with this token, if there is one.
    pub async fn end(&self, token: &str) -> Result<(), PortError> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Ok(());
        }
        self.table.write(vec![Write::Delete { key: key(token), condition: Condition::Any }]).await
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

fn key(token: &str) -> Key {
    Key::new("session", hex(&Sha256::digest(token)))
}

/// The row goes away some time after its session can have ended; whether it has is read from what it holds.
fn put(key: Key, session: &Session, condition: Condition, created: Timestamp) -> Result<Write, PortError> {
    let value = serde_json::to_value(session)
        .map_err(|e| PortError::new(ErrorKind::Invalid, "sessions.put", "a session").with_source(e))?;
    Ok(Write::Put { key, value, condition, expires_at: Some(rows::expiry(created, ABSOLUTE_US)) })
}

fn seen(session: &Session) -> Write {
    let value = json!({"at": session.seen_at});
    Write::Put { key: Key::new(SEEN, &session.member), value, condition: Condition::Any, expires_at: None }
}

/// The token of a request's cookie.
pub fn token(request: &Request) -> Option<&str> {
    let cookies = request.header("cookie")?.split(';');
    let mut found = cookies.filter_map(|cookie| cookie.trim().split_once('=')).filter(|(name, _)| *name == COOKIE);
    found.next().map(|(_, token)| token).filter(|token| !token.is_empty())
}

/// The `Set-Cookie` that hands a token to the browser of this request; an empty token takes it away.
pub fn cookie(request: &Request, token: &str) -> String {
    let max_age_s = if token.is_empty() { 0 } else { ABSOLUTE_US / SECOND_US };
    // Browsers keep no `Secure` cookie of a page without TLS; on the own machine nobody else listens.
    let secure = if is_loopback(request.header("host").unwrap_or_default()) { "" } else { "; Secure" };
    format!("{COOKIE}={token}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}")
}

/// Whether a `Host` names this machine to itself.
fn is_loopback(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// Whether the page that sent a request is one of this site, by what browsers say and pages cannot; `None` where the sender says nothing of
/// it, as programs do.
pub fn is_same_site(request: &Request) -> Option<bool> {
    if let Some(site) = request.header("sec-fetch-site") {
        return Some(matches!(site, "same-origin" | "none"));
    }
    let (_, host) = request.header("origin")?.split_once("://").unwrap_or_default();
    Some(!host.is_empty() && request.header("host").is_some_and(|own| own.eq_ignore_ascii_case(host)))
}

/// Whether a request that changes something with a cookie may be one that another site's page made the browser send.
pub fn is_forgeable(request: &Request) -> bool {
    if matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
        return false;
    }
    is_same_site(request) != Some(true) || !(request.body.is_empty() || is_json(request))
}

/// Whether the body is JSON by its content type, which a page cannot send to another site without asking.
pub fn is_json(request: &Request) -> bool {
    let media = request.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    media.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Newcomer, Role};
    use crate::passwords::{Cost, Passwords};
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::MemoryTable;
    use std::collections::BTreeMap;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000 + us).unwrap()
    }

    struct World {
        table: Arc<Faulty<MemoryTable>>,
        members: Arc<Members>,
        sessions: Sessions,
        kim: Account,
    }

    async fn world() -> World {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        let passwords = Passwords::new(Cost { memory_kib: 8, passes: 1 }).unwrap();
        let members = Arc::new(Members::new(table.clone(), passwords));
        let link = members.first_link(at(0)).await.unwrap().unwrap();
        let who = Newcomer { email: "kim@example.org", name: "Kim", password: "correct horse" };
        members.join(&link, who, at(0)).await.unwrap();
        let kim = members.sign_in("kim@example.org", "correct horse").await.unwrap();
        World { sessions: Sessions::new(table.clone(), members.clone()), table, members, kim }
    }

    #[tokio::test]
    async fn a_session_is_known_by_its_token_until_it_is_ended() {
        let world = world().await;
        let token = world.sessions.begin(&world.kim, at(0)).await.unwrap();
        assert_eq!(token.len(), 43, "256 bits in base64url");
        assert!(!world.table.inner().items().iter().any(|item| format!("{item:?}").contains(&token)));
        let found = world.sessions.find(&token, at(1)).await.unwrap().unwrap();
        assert_eq!(found.id, world.kim.member.id);
        for other in ["", "x", &"x".repeat(4_000), &token[..42]] {
            assert_eq!(world.sessions.find(other, at(1)).await.unwrap(), None);
        }
        world.sessions.end(&token).await.unwrap();
        assert_eq!(world.sessions.find(&token, at(1)).await.unwrap(), None);
        world.sessions.end(&token).await.unwrap();
    }

    #[tokio::test]
    async fn every_sign_in_has_a_token_of_its_own() {
        let world = world().await;
        let first = world.sessions.begin(&world.kim, at(0)).await.unwrap();
        assert_ne!(world.sessions.begin(&world.kim, at(0)).await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_session_that_is_not_used_ends() {
        let world = world().await;
        let token = world.sessions.begin(&world.kim, at(0)).await.unwrap();
        assert!(world.sessions.find(&token, at(IDLE_US - 1)).await.unwrap().is_some());
        // That was a use.
        assert!(world.sessions.find(&token, at(2 * IDLE_US - 2)).await.unwrap().is_some());
        assert_eq!(world.sessions.find(&token, at(3 * IDLE_US - 2)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_session_ends_however_it_is_used_and_not_by_its_rows_expiry() {
        let world = world().await;
        let token = world.sessions.begin(&world.kim, at(0)).await.unwrap();
        let mut now = 0;
        while now < ABSOLUTE_US - DAY_US {
            now += DAY_US;
            assert!(world.sessions.find(&token, at(now.min(ABSOLUTE_US - 1))).await.unwrap().is_some(), "{now}");
        }
        assert!(world.sessions.find(&token, at(ABSOLUTE_US - 1)).await.unwrap().is_some());
        assert_eq!(world.sessions.find(&token, at(ABSOLUTE_US)).await.unwrap(), None);
        let row = world.table.inner().items().into_iter().find(|item| item.key.partition == "session").unwrap();
        assert_eq!(row.expires_at, Some(rows::expiry(at(0), ABSOLUTE_US)), "it is still there");
    }

    #[tokio::test]
    async fn a_use_is_written_down_every_few_minutes_only() {
        let world = world().await;
        let token = world.sessions.begin(&world.kim, at(0)).await.unwrap();
        let before = world.table.calls("table.write");
        for us in [1, SEEN_US - 1] {
            world.sessions.find(&token, at(us)).await.unwrap();
        }
        assert_eq!(world.table.calls("table.write"), before);
        world.sessions.find(&token, at(SEEN_US)).await.unwrap();
        assert_eq!(world.table.calls("table.write"), before + 1);
        let seen = world.members.list().await.unwrap().remove(0).last_seen_at;
        assert_eq!(seen, Some(at(SEEN_US).to_micros_text()));
        // Nobody is shut out because that cannot be written.
        world.table.always("table.write", Fault::Before(ErrorKind::Unavailable));
        assert!(world.sessions.find(&token, at(3 * SEEN_US)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_new_password_and_a_removal_end_the_sessions_and_a_new_role_holds_at_once() {
        let world = world().await;
        let token = world.sessions.begin(&world.kim, at(0)).await.unwrap();
        let lee = world.members.invite("lee@example.org", "Lee", Role::Admin, at(0)).await.unwrap();
        let who = Newcomer { email: "lee@example.org", name: "Lee", password: "correct horse" };
        world.members.join(&lee.token, who, at(0)).await.unwrap();
        let lee = world.members.sign_in("lee@example.org", "correct horse").await.unwrap();
        let lees = world.sessions.begin(&lee, at(0)).await.unwrap();
        world.members.change(&lee.member.id, Some(Role::Viewer), None).await.unwrap();
        assert_eq!(world.sessions.find(&lees, at(1)).await.unwrap().unwrap().role, Role::Viewer);
        world.members.remove(&lee.member.id).await.unwrap();
        assert_eq!(world.sessions.find(&lees, at(1)).await.unwrap(), None);
        let changed =
            world.members.set_password(&world.kim.member.id, "correct horse", "battery staple").await.unwrap();
        assert_eq!(world.sessions.find(&token, at(1)).await.unwrap(), None);
        let token = world.sessions.begin(&changed, at(1)).await.unwrap();
        assert!(world.sessions.find(&token, at(1)).await.unwrap().is_some());
    }

    fn request(method: &str, headers: &[(&str, &str)], body: &str) -> Request {
        let headers: BTreeMap<String, String> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Request { method: method.into(), headers, body: body.to_owned().into(), ..Request::default() }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (cookies, found) in [
            ("sluice_session=abc", Some("abc")),
            ("a=b; sluice_session=abc; c=d", Some("abc")),
            ("sluice_session=first; sluice_session=second", Some("first")),
            ("xsluice_session=abc; sluice_session", None),
            ("sluice_session=", None),
        ] {
            assert_eq!(token(&request("GET", &[("cookie", cookies)], "")), found, "{cookies}");
        }
        assert_eq!(token(&request("GET", &[], "")), None);
    }

    #[test]
    fn the_cookie_is_secure_but_on_the_own_machine() {
        for (host, secure) in [
            ("console.example", true),
            ("127.0.0.1:7070", false),
            ("localhost", false),
            ("LOCALHOST:7070", false),
            ("[::1]:7070", false),
            ("localhost.example", true),
            ("127.0.0.1.example:7070", true),
            ("", true),
        ] {
            let cookie = cookie(&request("POST", &[("host", host)], ""), "abc");
            let rest = "sluice_session=abc; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax";
            assert_eq!(cookie, if secure { format!("{rest}; Secure") } else { rest.to_owned() }, "{host}");
        }
        assert!(cookie(&request("POST", &[], ""), "").starts_with("sluice_session=; Path=/; Max-Age=0; "));
    }

    #[test]
    fn what_another_site_makes_a_browser_send_is_told_by_its_headers() {
        let host = ("host", "console.example");
        let json = ("content-type", "application/json; charset=utf-8");
        for (headers, body, forgeable) in [
            (vec![host, json, ("sec-fetch-site", "same-origin")], "{}", false),
            (vec![host, json, ("sec-fetch-site", "none")], "{}", false),
            (vec![host, json, ("sec-fetch-site", "same-site")], "{}", true),
            (vec![host, json, ("sec-fetch-site", "cross-site"), ("origin", "https://console.example")], "{}", true),
            (vec![host, json, ("origin", "https://console.example")], "{}", false),
            (vec![host, json, ("origin", "https://CONSOLE.example")], "{}", false),
            (vec![host, json, ("origin", "https://evil.example")], "{}", true),
            (vec![host, json, ("origin", "https://console.example:8443")], "{}", true),
            (vec![host, json, ("origin", "null")], "{}", true),
            (vec![host, json], "{}", true),
            (vec![host, ("sec-fetch-site", "same-origin")], "", false),
            (vec![host, ("sec-fetch-site", "same-origin")], "{}", true),
            (vec![host, ("content-type", "text/plain"), ("sec-fetch-site", "same-origin")], "{}", true),
        ] {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                assert_eq!(is_forgeable(&request(method, &headers, body)), forgeable, "{method} {headers:?}");
            }
            assert!(!is_forgeable(&request("GET", &headers, body)));
        }
    }
}
