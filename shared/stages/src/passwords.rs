//! Passwords: Argon2id, on threads of their own and only so many at once.
//!
//! A hash is slow and takes much memory on purpose, so the number that run bounds what sign-ins can take from everything else.

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use futures::channel::oneshot;
use futures::lock::{Mutex, OwnedMutexGuard};
use sluice_ports::{ErrorKind, PortError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Shortest password, in characters. Source: NIST SP 800-63B, 5.1.1.2.
pub const MIN_CHARS: usize = 8;
/// Longest password, in bytes.
pub const MAX_BYTES: usize = 256;
/// Hashes that run at once.
const AT_ONCE: usize = 2;
/// Hashes that run or wait; a further one is asked to come again.
const MAX_WAITING: usize = 32;

/// What a hash takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// For a deployment. Source: OWASP Password Storage Cheat Sheet, Argon2id: m = 19 MiB, t = 2, p = 1.
    pub const USUAL: Self = Self { memory_kib: 19_456, passes: 2 };
}

/// Makes and checks hashes, as text in the PHC string format, which names its cost.
pub struct Passwords {
    hasher: Argon2<'static>,
    /// A hash holds one of these until it is done, whether or not somebody still waits for it.
    room: [Arc<Mutex<()>>; AT_ONCE],
    waiting: Arc<AtomicUsize>,
}

/// Counted among those that wait until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    /// Hashes of this cost; one that cannot be is an error of kind [`ErrorKind::Invalid`].
    pub fn new(cost: Cost) -> Result<Self, PortError> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)
            .map_err(|e| PortError::new(ErrorKind::Invalid, "passwords.new", e.to_string()))?;
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self { hasher, room: Default::default(), waiting: Arc::default() })
    }

    /// The hash of a new password.
    pub async fn hash(&self, password: &str) -> Result<String, PortError> {
        let mut salt = [0; 16];
        crate::access::random("passwords.hash", &mut salt)?;
        let (hasher, password) = (self.hasher.clone(), password.to_owned());
        let made =
            self.run(move || hasher.hash_password_with_salt(password.as_bytes(), &salt).map(|hash| hash.to_string()));
        made.await?.map_err(|e| PortError::new(ErrorKind::Invalid, "passwords.hash", e.to_string()))
    }

    /// Whether this is the password of a kept hash. Where there is none, it takes the same work and says no: how long an answer takes does
    /// not tell who has an account.
    pub async fn verify(&self, password: &str, kept: Option<&str>) -> Result<bool, PortError> {
        let (hasher, password, kept) = (self.hasher.clone(), password.to_owned(), kept.map(str::to_owned));
        let verified = self.run(move || match kept {
            Some(kept) => hasher.verify_password(password.as_bytes(), kept.as_str()).is_ok(),
            None => hasher.hash_password_with_salt(password.as_bytes(), &[0; 16]).is_err(),
        });
        verified.await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PortError> {
        let number = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.waiting.clone());
        if number >= MAX_WAITING {
            let busy = PortError::new(ErrorKind::Throttled, "passwords.run", "too many sign-ins at once");
            return Err(busy.with_retry_after(Duration::from_secs(1)));
        }
        let room: OwnedMutexGuard<()> = self.room[number % AT_ONCE].clone().lock_owned().await;
        let (sender, receiver) = oneshot::channel();
        let failed = |e: String| PortError::new(ErrorKind::Unavailable, "passwords.run", "no thread").with_source(e);
        std::thread::Builder::new()
            .name("password".into())
            .spawn(move || {
                // Nobody may wait for the answer any more.
                let _ = sender.send(work());
                drop((room, place));
            })
            .map_err(|e| failed(e.to_string()))?;
        receiver.await.map_err(|e| failed(e.to_string()))
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As little as there can be.
    const QUICK: Cost = Cost { memory_kib: 8, passes: 1 };

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_and_two_hashes_differ() {
        let passwords = Passwords::new(QUICK).unwrap();
        let first = passwords.hash("correct horse").await.unwrap();
        let second = passwords.hash("correct horse").await.unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=8,t=1,p=1$") && first != second, "{first}");
        assert!(passwords.verify("correct horse", Some(&first)).await.unwrap());
        assert!(!passwords.verify("correct horses", Some(&first)).await.unwrap());
        assert!(!passwords.verify("correct horse", Some("damaged")).await.unwrap());
        assert!(!passwords.verify("correct horse", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_names_its_cost_so_that_older_ones_stay_good() {
        let old = Passwords::new(QUICK).unwrap().hash("correct horse").await.unwrap();
        let now = Passwords::new(Cost { memory_kib: 16, passes: 2 }).unwrap();
        assert!(now.verify("correct horse", Some(&old)).await.unwrap());
    }

    #[tokio::test]
    async fn the_usual_cost_is_what_owasp_asks_for() {
        let hash = Passwords::new(Cost::USUAL).unwrap().hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(Passwords::new(Cost { memory_kib: 1, passes: 0 }).is_err());
    }

    #[tokio::test]
    async fn only_so_many_run_and_wait() {
        let passwords = Passwords::new(QUICK).unwrap();
        let held: Vec<_> = futures::future::join_all(passwords.room.iter().map(|room| room.lock())).await;
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(passwords.hash("correct horse"))).collect();
        for hash in &mut waiting {
            assert!(futures::poll!(hash).is_pending());
        }
        let refused = passwords.hash("correct horse").await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(1))));
        // Whoever gives up makes room.
        drop(waiting.pop());
        let mut next = Box::pin(passwords.hash("correct horse"));
        assert!(futures::poll!(&mut next).is_pending());
        drop(held);
        assert!(futures::future::join_all(waiting).await.iter().all(Result::is_ok));
        assert!(next.await.is_ok());
    }
}
