//! `POST /v1/erasures`, `DELETE /v1/users/{userid}`: a user is forgotten, with a receipt. Neither the record of the call nor the receipt names
//! the user.

use super::{Api, Call, Reply, body, failed, missing, of};
use crate::access::Right;
use crate::erase::{Erasures, Receipt, State};
use crate::http::{Request, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;

/// What a record of the call names where it cannot be read.
const SOMEBODY: &str = "a user";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    userid: String,
}

impl Api {
    pub(super) async fn create_erasure(&self, call: Call<'_>) -> Reply {
        self.erase(call, |request| body::<Ask>(request).map(|ask| ask.userid)).await
    }

    pub(super) async fn erase_user(&self, call: Call<'_>, user: &str) -> Reply {
        let user = user.to_owned();
        self.erase(call, move |_| plain(&user)).await
    }

    /// Where the lake can be reached from here, all that is there is erased before the reply, as far as there is time.
    async fn erase(&self, call: Call<'_>, user: impl FnOnce(&Request) -> Result<String, Response> + Send) -> Reply {
        let id = Erasures::new_id();
        let read = |request: &Request| Ok((user(request)?, id.clone()));
        let user = self.allow(call, Right::Admin, "users.erase", SOMEBODY, read).await?;
        let erasures = Erasures::new(self.ports.table.clone());
        let asked =
            erasures.ask(&id, &user, call.now).await.map_err(|e| failed("the erasure could not be noted", &e))?;
        let receipt = match &self.ports.erase {
            None => asked,
            Some(erase) => {
                // What fails is told in the log and tried again by the clock: the erasure is noted.
                let _ = erase.run_one(&id, call.now).await;
                let found = erasures.find(&id).await.map_err(|e| failed("the receipt could not be read", &e))?;
                found.unwrap_or(asked)
            }
        };
        let status = if receipt.state == State::Waiting { 202 } else { 200 };
        Ok(Response::json(status, &json!(receipt)))
    }

    pub(super) async fn list_erasures(&self, call: Call<'_>) -> Reply {
        self.look(call, Right::Admin, "erasures.list", "").await?;
        let receipts: Vec<Receipt> = Erasures::new(self.ports.table.clone())
            .list()
            .await
            .map_err(|e| failed("the erasures could not be read", &e))?;
        Ok(Response::json(200, &json!({"erasures": receipts})))
    }

    pub(super) async fn show_erasure(&self, call: Call<'_>, id: &str) -> Reply {
        self.allow(call, Right::Admin, "erasures.show", id, of(id)).await?;
        let found = Erasures::new(self.ports.table.clone()).find(id).await;
        let found = found.map_err(|e| failed("the erasure could not be read", &e))?;
        found.map(|receipt| Response::json(200, &json!(receipt))).ok_or_else(|| missing("erasure", id))
    }
}

/// The user's id in a path. A gateway may have decoded the path once already, and it cannot be undone whom this erases: so an id in a path
/// has only such characters as mean the same then.
fn plain(segment: &str) -> Result<String, Response> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~@:".contains(c);
    let decoded = percent_decode_str(segment).decode_utf8().unwrap_or_default();
    if !decoded.is_empty() && decoded.chars().all(is_plain) {
        return Ok(decoded.into_owned());
    }
    let what = "an id in a path has letters, digits and `-_.~@:`; `POST /v1/erasures` with `{\"userid\"}` takes any";
    Err(Response::error(400, "userid", what))
}
