//! What keys and rules have in common: a list on the server, shown as a table for people and as it is for programs.

use crate::cli::exit::Failure;
use crate::cli::terminal::{Out, note, table};
use crate::client::{CallError, Client, segment};
use serde_json::Value;
use serde_json::value::RawValue;

/// A list on the server.
pub struct Collection {
    /// What one is called, for people.
    pub noun: &'static str,
    /// Its name in the path and in the reply.
    pub name: &'static str,
    /// Columns of the table.
    pub headings: &'static [&'static str],
    /// One item as a row of the table.
    pub row: fn(&Value) -> Vec<String>,
}

impl Collection {
    fn path(&self) -> String {
        format!("/v1/{}", self.name)
    }

    /// Adds an item. `None` where the reply was asked for as it is, and so is shown already.
    pub async fn add(
        &self,
        client: &Client,
        out: &mut Out,
        body: &Value,
        json: bool,
    ) -> Result<Option<Value>, Failure> {
        let raw: Box<RawValue> = client.post(&self.path(), &[], body).await?;
        if json {
            out.line(raw.get())?;
            return Ok(None);
        }
        Ok(Some(self.read(&raw)?))
    }

    /// Shows all items.
    pub async fn list(&self, client: &Client, out: &mut Out, json: bool) -> Result<(), Failure> {
        let raw: Box<RawValue> = client.get(&self.path(), &[]).await?;
        if json {
            return out.line(raw.get());
        }
        let reply = self.read(&raw)?;
        let items = reply.get(self.name).and_then(Value::as_array);
        let rows: Vec<Vec<String>> = items.into_iter().flatten().map(self.row).collect();
        if rows.is_empty() {
            note(format!("there are no {0}: see `sluice {0} add --help`", self.name));
            return Ok(());
        }
        out.line(table(self.headings, &[], rows))
    }

    /// Takes an item away; `done` says how that is called.
    pub async fn remove(&self, client: &Client, id: &str, done: &str) -> Result<(), Failure> {
        client.delete(&format!("{}/{}", self.path(), segment(id))).await?;
        note(format!("{} `{id}` is {done}", self.noun));
        Ok(())
    }

    fn read(&self, raw: &RawValue) -> Result<Value, CallError> {
        serde_json::from_str(raw.get())
            .map_err(|e| CallError::Strange(format!("the reply to `{}` is not understood: {e}", self.path())))
    }
}

/// A text of an item; empty where there is none.
pub fn text(item: &Value, field: &str) -> String {
    item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
