//! `DELETE /v1/users/{userid}` and `/v1/erasures`: a user is forgotten, with a receipt. Neither the record of the call nor the receipt names
//! the user.

use super::{Api, Call, Reply, failed, missing, of};
use crate::access::Right;
use crate::erase::{Erasures, Receipt, State};
use crate::http::{Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// What a record of the call names where the id cannot be read.
const SOMEBODY: &str = "a user";

impl Api {
    /// Where the lake can be reached from here, all that is there is erased before the reply, as far as there is time.
    pub(super) async fn erase_user(&self, call: Call<'_>, user: &str) -> Reply {
        let read = |_: &Request| {
            let unreadable = |_| Response::error(400, "userid", "the user's id in the path is not UTF-8");
            let user = percent_decode_str(user).decode_utf8().map_err(unreadable)?.into_owned();
            let target = Erasures::id(&user);
            Ok((user, target))
        };
        let user = self.allow(call, Right::Admin, "users.erase", SOMEBODY, read).await?;
        let erasures = Erasures::new(self.ports.table.clone());
        let asked = erasures.ask(&user, call.now).await.map_err(|e| failed("the erasure could not be noted", &e))?;
        let receipt = match &self.ports.erase {
            None => asked,
            Some(erase) => {
                // What fails is tried again by the clock: the erasure is noted.
                if let Err(error) = erase.run(call.now).await {
                    tracing::warn!(erasure = %asked.id, %error, "not everything could be erased at once");
                }
                let found = erasures.find(&asked.id).await.map_err(|e| failed("the receipt could not be read", &e))?;
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
