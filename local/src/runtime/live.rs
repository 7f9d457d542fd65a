//! Tells pages that are open what has changed, over a WebSocket at [`PATH`]. It says topics and never values: whatever a page shows is asked
//! for by the calls that everybody uses, with their rights.
//!
//! A frame is `{"topics": ["events", …]}`, at most one a second; an empty one comes every 15 seconds. Who may read may listen: by a session's
//! cookie, then only for a page of this site, by a key in `Authorization`, or by a first frame `{"key": "…"}`, which browsers need, since
//! they set no header here. It is asked again with each empty frame whether that still holds.

use crate::runtime::calls::{self, Listener};
use crate::runtime::{gateway, now};
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use sluice_entry::Function;
use sluice_stages::access::{self, Keys, Right, present};
use sluice_stages::http::Request;
use sluice_stages::sessions::{self, Sessions};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Where pages connect to.
pub const PATH: &str = "/v1/live";
/// Pages that listen at once.
const MAX_LISTENERS: usize = 200;
/// Largest frame from a page.
const FRAME_BYTES: usize = 4 * 1_024;
/// Most frames from a page in [`PACE`].
const MAX_FRAMES: u32 = 10;
const PACE: Duration = Duration::from_secs(1);
/// Between two frames to a page.
const PAUSE: Duration = Duration::from_secs(1);
/// After this long an empty frame says that the connection is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a page may take to say its key, and to take a frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// What pages show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// What search finds.
    Events,
    /// Messages that wait, dead letters, quarantine.
    Queues,
    /// What came in and what is stored.
    Ledger,
    /// Counters of requests and events.
    Metrics,
    /// Alerts.
    Incidents,
}

const TOPICS: [(Topic, &str); 5] = [
    (Topic::Events, "events"),
    (Topic::Queues, "queues"),
    (Topic::Ledger, "ledger"),
    (Topic::Metrics, "metrics"),
    (Topic::Incidents, "incidents"),
];

/// For each topic how often it has changed.
type Changes = [u64; TOPICS.len()];

/// Hears of changes, and tells whoever listens.
#[derive(Debug, Clone)]
pub struct Live {
    changes: watch::Sender<Changes>,
    room: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        Self { changes: watch::Sender::new([0; TOPICS.len()]), room: Arc::new(Semaphore::new(MAX_LISTENERS)) }
    }
}

/// What a function changes. What `api` changes, another function works on next; that it was asked for a page's values is no news to pages.
fn changed_by(verb: &str) -> &'static [Topic] {
    use Topic::{Events, Incidents, Ledger, Metrics, Queues};
    match verb {
        "api" => &[],
        "index" => &[Events, Queues, Ledger, Metrics],
        "notify" => &[Queues, Incidents],
        "detect" => &[Queues, Ledger, Metrics, Incidents],
        _ => &[Queues, Ledger, Metrics],
    }
}

/// Who may listen.
#[derive(Clone)]
pub struct Doorman {
    /// The keys.
    pub keys: Arc<Keys>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
}

impl Doorman {
    async fn lets_in(&self, request: &Request) -> bool {
        access::authorize(request, &self.keys, &self.sessions, Right::Read, now()).await.is_ok()
    }
}

/// The first frame of whoever has no cookie.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    key: String,
}

impl Live {
    /// From now on each call of these functions tells what it changes. One that fails may have changed it too.
    pub fn follow(&self, functions: &mut HashMap<String, Arc<dyn Function>>) {
        calls::tell(functions, |verb| {
            let (topics, live) = (changed_by(verb), self.clone());
            (!topics.is_empty()).then(|| Box::new(move |_| live.tell(topics)) as Listener)
        });
    }

    fn tell(&self, changed: &[Topic]) {
        self.changes.send_modify(|changes| {
            for (count, (topic, _)) in changes.iter_mut().zip(TOPICS) {
                *count += u64::from(changed.contains(&topic));
            }
        });
    }

    /// Answers a request at [`PATH`]; `request` is the same one as the functions read it.
    pub async fn listen(
        &self,
        parts: &mut Parts,
        request: Request,
        doorman: Doorman,
        stop: watch::Receiver<bool>,
    ) -> Response {
        let upgrade = match WebSocketUpgrade::from_request_parts(parts, &()).await {
            Ok(upgrade) => upgrade.max_message_size(FRAME_BYTES).max_frame_size(FRAME_BYTES),
            Err(refusal) => return refusal.into_response(),
        };
        // A cookie goes with whatever page asks, and a WebSocket may be asked for by any.
        let has_cookie = sessions::token(&request).is_some();
        let refusal = if has_cookie && sessions::is_same_site(&request) == Some(false) {
            Some((403, "cross_site", "only pages of this site may listen"))
        } else if (has_cookie || present(&request).is_some()) && !doorman.lets_in(&request).await {
            Some((401, "unknown", "who may read may listen: sign in, or send a key that may read"))
        } else {
            None
        };
        if let Some((status, code, message)) = refusal {
            return gateway::error(status, code, message, &[]);
        }
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            return gateway::error(503, "busy", "too many pages listen", &[("retry-after", "10".into())]);
        };
        let listener = Page { changes: self.changes.subscribe(), doorman, request, stop };
        upgrade.on_upgrade(async move |mut socket| {
            let code = listener.serve(&mut socket).await;
            let frame = code.map(|code| CloseFrame { code, reason: "".into() });
            let _ = tokio::time::timeout(PATIENCE, socket.send(Message::Close(frame))).await;
            drop(place);
        })
    }
}

/// A page that listens.
struct Page {
    changes: watch::Receiver<Changes>,
    doorman: Doorman,
    /// By what it was let in.
    request: Request,
    stop: watch::Receiver<bool>,
}

impl Page {
    /// Until the page goes, the process stops or the page does what it may not: the code that says why.
    async fn serve(mut self, socket: &mut WebSocket) -> Option<u16> {
        if let Err(code) = self.greet(socket).await {
            return code;
        }
        let mut told = *self.changes.borrow_and_update();
        let (mut next, mut beat) = (Instant::now(), Instant::now() + HEARTBEAT);
        let (mut frames, mut since) = (0, Instant::now());
        loop {
            let due = tokio::select! {
                changed = changed_after(&mut self.changes, next) => changed.then_some(true),
                () = tokio::time::sleep_until(beat) => Some(false),
                message = socket.recv() => match received(message) {
                    Ok(()) => {
                        if since.elapsed() >= PACE {
                            (frames, since) = (0, Instant::now());
                        }
                        frames += 1;
                        if frames > MAX_FRAMES {
                            return Some(close_code::POLICY);
                        }
                        continue;
                    }
                    Err(code) => return code,
                },
                _ = self.stop.wait_for(|stop| *stop) => None,
            };
            let Some(has_changed) = due else { return Some(close_code::AWAY) };
            let changes = *self.changes.borrow_and_update();
            let is_new = |i: &usize| changes[*i] != told[*i];
            let topics: Vec<&str> = (0..TOPICS.len()).filter(is_new).map(|i| TOPICS[i].1).collect();
            if !has_changed && !self.doorman.lets_in(&self.request).await {
                return Some(close_code::POLICY);
            }
            let frame = Message::text(json!({"topics": topics}).to_string());
            if !matches!(tokio::time::timeout(PATIENCE, socket.send(frame)).await, Ok(Ok(()))) {
                return None;
            }
            told = changes;
            next = Instant::now() + PAUSE;
            // Only the beat asks whether it may still listen, so changes do not put it off.
            if !has_changed {
                beat = Instant::now() + HEARTBEAT;
            }
        }
    }

    /// Lets in who has not said yet who they are; else the code of the refusal.
    async fn greet(&mut self, socket: &mut WebSocket) -> Result<(), Option<u16>> {
        if sessions::token(&self.request).is_some() || present(&self.request).is_some() {
            return Ok(());
        }
        let Ok(message) = tokio::time::timeout(PATIENCE, socket.recv()).await else {
            return Err(Some(close_code::POLICY));
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            other => return Err(received(other).err().unwrap_or(Some(close_code::POLICY))),
        };
        let Ok(hello) = serde_json::from_str::<Hello>(&text) else { return Err(Some(close_code::POLICY)) };
        self.request.headers.insert("authorization".into(), format!("Bearer {}", hello.key));
        if self.doorman.lets_in(&self.request).await { Ok(()) } else { Err(Some(close_code::POLICY)) }
    }
}

/// Waits until something changes, and no less than until `next`; `false` where nobody is left to change anything.
async fn changed_after(changes: &mut watch::Receiver<Changes>, next: Instant) -> bool {
    tokio::time::sleep_until(next).await;
    changes.changed().await.is_ok()
}

/// What a page sends is not asked for and not read; where it is too large, or the page goes, the code that says so.
fn received(message: Option<Result<Message, axum::Error>>) -> Result<(), Option<u16>> {
    match message {
        Some(Ok(Message::Close(_))) | None => Err(None),
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err(Some(close_code::SIZE)),
    }
}
