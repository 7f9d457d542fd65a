//! `quarantine`.

use crate::start::{Start, pairs, run as start};
use sluice_adapters_aws::Resource;
use sluice_adapters_aws::sqs::SqsQueue;
use sluice_entry::Function;
use sluice_entry::functions::QuarantineFunction;
use sluice_entry::settings::SettingError;
use sluice_stages::quarantine::Quarantine;
use sluice_stages::quarantine::sweep::{Letters, Sweep};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What is left of the function's time when a sweep ends.
const ANSWER: Duration = Duration::from_secs(10);

/// Runs the function.
pub fn run() -> ExitCode {
    start("quarantine", async |start| {
        let objects = start.objects()?;
        let sweep = Sweep {
            letters: letters(start)?,
            objects: objects.clone(),
            table: Arc::new(start.table()?),
            budget: crate::timeout("quarantine") - ANSWER,
        };
        Ok(Arc::new(QuarantineFunction { stage: Quarantine::new(objects), sweep }) as Arc<dyn Function>)
    })
}

/// The dead-letter queues of `stage=URL,…`.
fn letters(start: &Start) -> Result<Vec<Letters>, SettingError> {
    let mut letters = Vec::new();
    for (origin, url) in pairs("dead_letters", start.settings.text("dead_letters")?)? {
        let name = url.rsplit('/').next().unwrap_or(url).to_owned();
        let queue = Resource::new("queue", url, "SLUICE_DEAD_LETTERS");
        let queue = Arc::new(SqsQueue::new(&start.connection, queue, start.table()?));
        letters.push(Letters { name, origin: origin.to_owned(), queue });
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_queues_are_read_with_their_stage() {
        assert_eq!(
            pairs("dead_letters", "convert=https://x/1, notify=https://x/2").unwrap(),
            [("convert", "https://x/1"), ("notify", "https://x/2")]
        );
        assert!(pairs("dead_letters", "convert").unwrap_err().to_string().contains("`SLUICE_DEAD_LETTERS`"));
    }
}
