//! The public game's write key.
//!
//! Anybody may play, so the key that a page sends with is public, and kept as text beside its hash, to be shown to every page that asks. It
//! opens no more than the game's own source and types. An admin who revokes it has closed the game.

use crate::access::{KeyRecord, KeySpec, Keys, Scope, new_secret};
use serde_json::json;
use sluice_domain::game::SOURCE;
use sluice_domain::time::Timestamp;
use sluice_ports::{Condition, ErrorKind, Key, PortError, Write};
use std::sync::Arc;

/// What the key may write.
pub const TYPES: [&str; 3] = ["game.result", "game.start", "web.event"];
/// Events per second that all players together may send to one process: a game is two of them a minute.
const RATE_PER_S: u32 = 1_000;

impl Keys {
    /// Makes the key of the public game where there is none yet, for pages of these origins (empty for any). One that was made before stays
    /// as it is, and so does one that was revoked.
    pub async fn make_game_key(&self, origins: Vec<String>, now: Timestamp) -> Result<(), PortError> {
        let secret = match self.game_secret().await? {
            Some(secret) => secret,
            None => {
                let secret = new_secret(Scope::Write)?;
                let value = json!({"secret": &secret});
                let put = Write::Put { key: row(), value, condition: Condition::Absent, expires_at: None };
                match self.table.write(vec![put]).await {
                    Ok(()) => secret,
                    // Another was first, or it was written and the reply lost.
                    Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {
                        self.game_secret().await?.ok_or(e)?
                    }
                    Err(e) => return Err(e),
                }
            }
        };
        if self.authenticate(&secret, now).await?.is_some() {
            return Ok(());
        }
        let spec = KeySpec {
            types: TYPES.map(str::to_owned).to_vec(),
            origins,
            rate_per_s: Some(RATE_PER_S),
            name: "public game".into(),
            ..KeySpec::write([SOURCE])
        };
        match self.create(spec, Some(secret), now).await {
            // It is there already, and was revoked.
            Err(e) if e.kind == ErrorKind::Conflict => Ok(()),
            made => made.map(drop),
        }
    }

    /// The key of the public game with its secret; `None` before it is made, and after it was revoked.
    pub async fn game_key(&self, now: Timestamp) -> Result<Option<(String, Arc<KeyRecord>)>, PortError> {
        let Some(secret) = self.game_secret().await? else { return Ok(None) };
        let record = self.authenticate(&secret, now).await?;
        Ok(record.map(|record| (secret, record)))
    }

    /// It never changes, so it is read once.
    async fn game_secret(&self) -> Result<Option<String>, PortError> {
        if let Some(secret) = self.game.get() {
            return Ok(Some(secret.clone()));
        }
        let Some(item) = self.table.get(&[row()]).await?.pop().flatten() else { return Ok(None) };
        let secret = item.value["secret"].as_str().ok_or_else(|| crate::rows::corrupt(&item.key))?;
        Ok(Some(self.game.get_or_init(|| secret.to_owned()).clone()))
    }
}

fn row() -> Key {
    Key::new("game", "key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::MemoryTable;

    fn now() -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000).unwrap()
    }

    #[tokio::test]
    async fn the_key_is_made_once_and_opens_the_game_only() {
        let table = Arc::new(MemoryTable::new());
        let keys = Keys::new(table.clone());
        assert_eq!(keys.game_key(now()).await.unwrap(), None);
        keys.make_game_key(vec!["https://play.example".into()], now()).await.unwrap();
        let (secret, record) = keys.game_key(now()).await.unwrap().unwrap();
        assert_eq!((record.scope, record.sources.as_slice()), (Scope::Write, ["square-blitz".to_owned()].as_slice()));
        assert_eq!(
            (record.types.as_slice(), record.rate_per_s),
            (TYPES.map(str::to_owned).as_slice(), Some(RATE_PER_S))
        );
        assert!(record.may_be_used_from(Some("https://play.example")) && !record.may_be_used_from(None));
        let other = Keys::new(table);
        other.make_game_key(Vec::new(), now()).await.unwrap();
        assert_eq!(other.game_key(now()).await.unwrap(), Some((secret, record)));
        assert_eq!(other.list().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_start_that_broke_off_is_finished_by_the_next() {
        for fault in [Fault::After, Fault::Before(ErrorKind::Timeout), Fault::Before(ErrorKind::Unavailable)] {
            let table = Arc::new(Faulty::new(MemoryTable::new()));
            let keys = Keys::new(table.clone());
            table.script("table.write", [fault.clone()]);
            let _ = keys.make_game_key(Vec::new(), now()).await;
            let keys = Keys::new(table.clone());
            keys.make_game_key(Vec::new(), now()).await.unwrap();
            let (secret, _) = keys.game_key(now()).await.unwrap().unwrap();
            assert_eq!(table.inner().value("game", "key").unwrap()["secret"], secret, "{fault:?}");
            assert_eq!(keys.list().await.unwrap().len(), 1, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_revoked_key_closes_the_game_and_stays_revoked() {
        let keys = Keys::new(Arc::new(MemoryTable::new()));
        keys.make_game_key(Vec::new(), now()).await.unwrap();
        let id = keys.game_key(now()).await.unwrap().unwrap().1.id.clone();
        keys.revoke(&id, now()).await.unwrap();
        keys.make_game_key(Vec::new(), now()).await.unwrap();
        assert_eq!(keys.game_key(now().plus_micros(crate::access::CACHE_US)).await.unwrap(), None);
    }
}
