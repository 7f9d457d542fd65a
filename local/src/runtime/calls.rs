//! Tells, of each call of a function, when it is over and how.

use async_trait::async_trait;
use sluice_domain::time::Timestamp;
use sluice_entry::{Function, InvokeError};
use std::collections::HashMap;
use std::sync::Arc;

/// How a call was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered, whatever the answer says of its messages.
    Answered,
    /// By an error, a panic, or because it took too long.
    Failed,
}

/// Who is told.
pub type Listener = Box<dyn Fn(Ending) + Send + Sync>;

/// From now on the calls of each function are told to its listener, where it has one: whoever calls them is to call what stands in their place.
pub fn tell(functions: &mut HashMap<String, Arc<dyn Function>>, mut listener: impl FnMut(&str) -> Option<Listener>) {
    for (verb, function) in functions {
        if let Some(listener) = listener(verb) {
            *function = Arc::new(Told { inner: function.clone(), listener });
        }
    }
}

struct Told {
    inner: Arc<dyn Function>,
    listener: Listener,
}

/// A call that has failed when it is dropped, unless it was answered before.
struct Call<'c> {
    listener: &'c Listener,
    ending: Ending,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        (self.listener)(self.ending);
    }
}

#[async_trait]
impl Function for Told {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        let mut call = Call { listener: &self.listener, ending: Ending::Failed };
        let reply = self.inner.invoke(event, now).await?;
        call.ending = Ending::Answered;
        Ok(reply)
    }
}
