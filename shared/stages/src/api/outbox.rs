//! `/v1/outbox`: the mails that were written to a folder in place of being sent, where there is one. They are other people's, so they take
//! an admin.

use super::{Api, Call, Reply, failed, missing, of};
use crate::access::Right;
use crate::http::Response;
use serde_json::{Value, json};
use sluice_ports::{Outbox, SentMail};

/// Most mails that a list shows.
pub(super) const MAX_SHOWN: usize = 200;

impl Api {
    pub(super) async fn list_outbox(&self, call: Call<'_>) -> Reply {
        let outbox = self.outbox()?;
        self.look(call, Right::Admin, "outbox.list", "").await?;
        let mails = outbox.list(MAX_SHOWN).await.map_err(|e| failed("the outbox could not be read", &e))?;
        let mails: Vec<Value> = mails.iter().map(row).collect();
        Ok(Response::json(200, &json!({"mails": mails})))
    }

    pub(super) async fn show_mail(&self, call: Call<'_>, id: &str) -> Reply {
        let outbox = self.outbox()?;
        self.allow(call, Right::Admin, "outbox.show", id, of(id)).await?;
        let found = outbox.get(id).await.map_err(|e| failed("the mail could not be read", &e))?;
        let (mail, text, html) = found.ok_or_else(|| missing("mail", id))?;
        let mut mail = row(&mail);
        mail["text"] = text.into();
        mail["html"] = html.into();
        Ok(Response::json(200, &mail))
    }

    fn outbox(&self) -> Result<&dyn Outbox, Response> {
        let none = || Response::error(404, "no_outbox", "mails are sent from here, and not kept");
        self.ports.outbox.as_deref().ok_or_else(none)
    }
}

fn row(mail: &SentMail) -> Value {
    json!({"id": mail.id, "to": mail.to, "subject": mail.subject, "at": mail.at})
}
