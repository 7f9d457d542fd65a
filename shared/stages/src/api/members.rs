//! `/v1/sessions` and `/v1/members`: who signs in to the console.
//!
//! | call | answers |
//! |---|---|
//! | `POST /v1/sessions` `{"email", "password"}` or `{"link", "email", "name", "password"}` | `{"member"}` and a cookie |
//! | `GET /v1/sessions/current` | `{"member"}`, null where nobody is signed in |
//! | `DELETE /v1/sessions/current` | 204; the session has ended |
//! | `GET /v1/members` | `{"members": […]}` |
//! | `POST /v1/members` `{"email", "name", "role"}` | `{"member", "link", "expires_at"}` |
//! | `PATCH /v1/members/{id}` `{"role", "name"}` | `{"member"}` |
//! | `DELETE /v1/members/{id}` | 204; so have all of the member's |
//! | `PUT /v1/members/me/password` `{"old", "new"}` | 204; so have all but this one, which gets a new cookie |
//!
//! Signing in answers an address that is not known as it answers a wrong password, in words and work, and counts both before it looks
//! ([`crate::attempts`]).

use super::{Api, Call, Reply, UNREADABLE, body, failed, of};
use crate::access::{CROSS_SITE, Right};
use crate::attempts::{Attempt, Refused};
use crate::http::{Request, Response};
use crate::members::{Account, Member, MembersError, Newcomer, Role};
use crate::sessions;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    email: String,
    password: String,
    link: Option<String>,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    email: String,
    #[serde(default)]
    name: String,
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    role: Option<Role>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    old: String,
    new: String,
}

impl Api {
    pub(super) async fn sign_in(&self, call: Call<'_>) -> Reply {
        let request = call.request;
        // Nobody is signed in yet, so no cookie of ours can tell; a page of another site could sign a visitor in as somebody else.
        if sessions::is_same_site(request) == Some(false) {
            return Err(Response::error(403, CROSS_SITE, "a page signs in to its own site only"));
        }
        if !sessions::is_json(request) {
            return Err(Response::error(415, "unsupported_type", "`content-type` must be application/json"));
        }
        let ask: SignIn = body(request)?;
        // A link is an account of its own: whoever guesses others' must not keep this one shut.
        let attempt = self.attempt(call, ask.link.as_ref().unwrap_or(&ask.email)).await?;
        let members = &self.ports.members;
        let account = match &ask.link {
            None => self.settle(call, &attempt, members.sign_in(&ask.email, &ask.password).await).await?,
            Some(link) => {
                let who = Newcomer { email: &ask.email, name: &ask.name, password: &ask.password };
                let joined = self.settle(call, &attempt, members.join(link, who, call.now).await).await?;
                let who = format!("member:{}", joined.id);
                if let Err(error) = self.record(call, &who, "members.join", joined.role.name(), "allowed").await {
                    tracing::error!(error.kind = ?error.kind, error.message = %error, "a new member could not be recorded");
                }
                let account = members.get(&joined.id).await.map_err(|e| refused(e.into()))?;
                account.ok_or_else(|| refused(MembersError::NotFound))?
            }
        };
        // What the browser was signed in as before has ended.
        self.end(request).await?;
        self.begin(call, &account).await.map(|cookie| show(&account.member).with_header("set-cookie", cookie))
    }

    pub(super) async fn who(&self, call: Call<'_>) -> Reply {
        let member = self.signed_in(call).await?;
        Ok(Response::json(200, &json!({"member": member})))
    }

    pub(super) async fn sign_out(&self, call: Call<'_>) -> Reply {
        if sessions::token(call.request).is_some() {
            same_site(call.request)?;
            self.end(call.request).await?;
        }
        Ok(Response::empty(204).with_header("set-cookie", sessions::cookie(call.request, "")))
    }

    pub(super) async fn list_members(&self, call: Call<'_>) -> Reply {
        self.look(call, Right::Admin, "members.list", "").await?;
        let members = self.ports.members.list().await.map_err(|e| refused(e.into()))?;
        Ok(Response::json(200, &json!({"members": members})))
    }

    pub(super) async fn invite(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let ask: Invite = body(request)?;
            let target = ask.role.name().to_owned();
            Ok((ask, target))
        };
        let ask = self.allow(call, Right::Admin, "members.invite", "", read).await?;
        let invited = self.ports.members.invite(&ask.email, &ask.name, ask.role, call.now).await.map_err(refused)?;
        let link = link(&invited.token);
        let reply = json!({"member": invited.member, "link": link, "expires_at": invited.expires_at});
        Ok(Response::json(201, &reply))
    }

    pub(super) async fn change_member(&self, call: Call<'_>, id: &str) -> Reply {
        let read = |request: &Request| {
            let ask: Change = body(request)?;
            let target = match ask.role {
                Some(role) => format!("{id} {}", role.name()),
                None => id.to_owned(),
            };
            Ok((ask, target))
        };
        let ask = self.allow(call, Right::Admin, "members.change", id, read).await?;
        let changed = self.ports.members.change(id, ask.role, ask.name.as_deref()).await.map_err(refused)?;
        Ok(show(&changed))
    }

    pub(super) async fn remove_member(&self, call: Call<'_>, id: &str) -> Reply {
        self.allow(call, Right::Admin, "members.remove", id, of(id)).await?;
        self.ports.members.remove(id).await.map_err(refused)?;
        Ok(Response::empty(204))
    }

    pub(super) async fn set_password(&self, call: Call<'_>) -> Reply {
        let member = self.current(call).await?;
        same_site(call.request)?;
        let ask: NewPassword = body(call.request)?;
        // Whoever found a browser that is signed in may not try passwords without end.
        let attempt = self.attempt(call, &member.email).await?;
        let recorded = self.record(call, &format!("member:{}", member.id), "members.password", "", "allowed").await;
        recorded.map_err(|e| failed("the call could not be recorded, so it was not done", &e))?;
        let changed = self.ports.members.set_password(&member.id, &ask.old, &ask.new).await;
        let changed = self.settle(call, &attempt, changed).await?;
        self.end(call.request).await?;
        self.begin(call, &changed).await.map(|cookie| Response::empty(204).with_header("set-cookie", cookie))
    }

    /// The member of the request's session, where there is one.
    async fn signed_in(&self, call: Call<'_>) -> Result<Option<Member>, Response> {
        match sessions::token(call.request) {
            Some(token) => self.ports.sessions.find(token, call.now).await.map_err(|e| refused(e.into())),
            None => Ok(None),
        }
    }

    async fn current(&self, call: Call<'_>) -> Result<Member, Response> {
        self.signed_in(call).await?.ok_or_else(|| Response::error(401, "no_session", "nobody is signed in here"))
    }

    async fn attempt(&self, call: Call<'_>, account: &str) -> Result<Attempt, Response> {
        match self.attempts.begin(&call.request.client_ip, account, call.now).await {
            Ok(attempt) => Ok(attempt),
            Err(Refused::TooMany(after_s)) => {
                let reply = Response::error(429, "too_many_attempts", "too many attempts failed; try again later");
                Err(reply.with_header("retry-after", after_s.to_string()))
            }
            Err(Refused::Port(error)) => Err(refused(error.into())),
        }
    }

    /// What came of an attempt. Only one that knew the wrong secret stays counted.
    async fn settle<T: Send>(
        &self,
        call: Call<'_>,
        attempt: &Attempt,
        outcome: Result<T, MembersError>,
    ) -> Result<T, Response> {
        if !matches!(outcome, Err(MembersError::Credentials | MembersError::Link)) {
            self.attempts.succeeded(attempt, call.now).await;
        }
        outcome.map_err(refused)
    }

    /// Begins a session: its `Set-Cookie`.
    async fn begin(&self, call: Call<'_>, account: &Account) -> Result<String, Response> {
        let token = self.ports.sessions.begin(account, call.now).await.map_err(|e| refused(e.into()))?;
        Ok(sessions::cookie(call.request, &token))
    }

    async fn end(&self, request: &Request) -> Result<(), Response> {
        match sessions::token(request) {
            Some(token) => self.ports.sessions.end(token).await.map_err(|e| refused(e.into())),
            None => Ok(()),
        }
    }
}

/// Where the page takes a token up: behind `#`, so that it stands in no log of a server.
pub fn link(token: &str) -> String {
    format!("/signin#link={token}")
}

fn same_site(request: &Request) -> Result<(), Response> {
    match sessions::is_forgeable(request) {
        true => Err(Response::error(403, CROSS_SITE, "this comes from a page of another site")),
        false => Ok(()),
    }
}

fn show(member: &Member) -> Response {
    Response::json(200, &json!({"member": member}))
}

fn refused(error: MembersError) -> Response {
    let (status, code) = match &error {
        MembersError::Invalid(field, _) => {
            let text = error.to_string();
            let reply: Value = json!({"error": {"code": UNREADABLE, "message": text, "field": field}});
            return Response::json(400, &reply);
        }
        MembersError::Port(e) => return failed("the members cannot be reached", e),
        // The same words for an address that is not known.
        MembersError::Credentials => return Response::error(401, "credentials", "address or password are wrong"),
        MembersError::Link => (401, "link"),
        MembersError::Exists => (409, "exists"),
        MembersError::NotFound => (404, "not_found"),
        MembersError::LastAdmin => (409, "last_admin"),
        MembersError::TooMany => (409, "too_many"),
    };
    Response::error(status, code, error.to_string())
}
