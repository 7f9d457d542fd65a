//! `/v1/channels`: where alerts go. An editor reads, an admin changes. The web address of a webhook is never shown again, and the key by which
//! its messages are signed is shown once.

use super::{Api, Call, Reply, UNREADABLE, body, failed, missing, of};
use crate::access::Right;
use crate::channels::{Channel, ChannelChange, ChannelsError, NewChannel};
use crate::http::{Request, Response};
use serde_json::{Value, json};

impl Api {
    pub(super) async fn list_channels(&self, call: Call<'_>) -> Reply {
        self.look(call, Right::Edit, "channels.list", "").await?;
        let channels = self.ports.channels.list().await.map_err(|e| refused(e.into()))?;
        let rows: Vec<Value> = channels.iter().map(|(channel, last)| channel.to_json(last.as_ref())).collect();
        Ok(Response::json(200, &json!({"channels": rows})))
    }

    pub(super) async fn create_channel(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let asked: NewChannel = body(request)?;
            let target = format!("{} `{}`", asked.kind.name(), asked.name);
            Ok((asked, target))
        };
        let asked = self.allow(call, Right::Admin, "channels.create", "", read).await?;
        let channel = self.ports.channels.create(asked, call.now).await.map_err(refused)?;
        let mut reply = json!({"channel": channel.to_json(None)});
        if let Some(key) = channel.signing_key() {
            reply["signing_key"] = key.into();
        }
        Ok(Response::json(201, &reply))
    }

    pub(super) async fn change_channel(&self, call: Call<'_>, id: &str) -> Reply {
        let read = |request: &Request| {
            let change: ChannelChange = body(request)?;
            Ok((change, id.to_owned()))
        };
        let change = self.allow(call, Right::Admin, "channels.change", id, read).await?;
        let channel = self.ports.channels.change(id, change).await.map_err(refused)?;
        let last = self.ports.channels.last(id).await.map_err(|e| refused(e.into()))?;
        Ok(Response::json(200, &channel.to_json(last.as_ref())))
    }

    pub(super) async fn remove_channel(&self, call: Call<'_>, id: &str) -> Reply {
        self.allow(call, Right::Admin, "channels.remove", id, of(id)).await?;
        self.ports.channels.remove(id).await.map_err(refused)?;
        Ok(Response::empty(204))
    }

    /// The answer comes when the message was sent, or could not be.
    pub(super) async fn test_channel(&self, call: Call<'_>, id: &str) -> Reply {
        self.allow(call, Right::Admin, "channels.test", id, of(id)).await?;
        let found = self.ports.channels.get(id).await.map_err(|e| refused(e.into()))?;
        let channel: Channel = found.ok_or_else(|| missing("channel", id))?;
        let (ok, detail) = match self.ports.channels.test(&channel, call.now).await {
            Ok(detail) => (true, detail),
            Err(error) => (false, error.detail),
        };
        Ok(Response::json(200, &json!({"ok": ok, "detail": detail})))
    }
}

fn refused(error: ChannelsError) -> Response {
    match &error {
        ChannelsError::Invalid(field, _) => {
            let error = json!({"error": {"code": UNREADABLE, "message": error.to_string(), "field": field}});
            Response::json(400, &error)
        }
        ChannelsError::NotFound => Response::error(404, "not_found", error.to_string()),
        ChannelsError::TooMany => Response::error(409, "too_many", error.to_string()),
        ChannelsError::Port(e) => failed("the channels cannot be reached", e),
    }
}
