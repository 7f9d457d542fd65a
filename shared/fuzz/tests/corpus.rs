//! What fuzzing once found worth keeping still holds.
#![allow(clippy::unwrap_used)]

use sluice_fuzz::{TARGETS, quick_events};
use std::path::Path;

#[test]
fn the_kept_corpus_passes_every_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut quick = 0;
    for (name, target) in TARGETS.iter().copied() {
        let mut files: Vec<_> =
            std::fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() > 3, "the corpus of `{name}` is missing");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "`{name}` does not hold for {}", file.display());
            if let ("decoder", Ok(text)) = (name, std::str::from_utf8(&bytes)) {
                quick += quick_events(text);
            }
        }
    }
    assert!(quick > 3, "the quick reader is not reached");
}
