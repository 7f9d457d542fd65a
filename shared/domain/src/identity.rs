//! Ids that come from content, so that doing something again makes the same id.

use crate::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// SHA-256 over parts, each preceded by its length, so that no two lists of parts run together.
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// 128 bits of [`digest`] as 32 lower-case hexadecimal digits.
pub fn hex_id(parts: &[&[u8]]) -> String {
    hex(&digest(parts)[..16])
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        for digit in [b >> 4, b & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    out
}

/// The search document id of an event: base64url of 128 bits of SHA-256 over its identity (`source`, `id`, `time`); 22 characters.
pub fn document_id(source: &str, id: &str, time: Timestamp) -> String {
    let hash = digest(&[source.as_bytes(), id.as_bytes(), &time.micros().to_le_bytes()]);
    URL_SAFE_NO_PAD.encode(&hash[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(hex_id(&[b"a"]).len(), 32);
    }

    #[test]
    fn every_part_of_the_identity_counts() {
        let t = Timestamp::default();
        let id = document_id("shop", "1", t);
        assert_eq!(id.len(), 22);
        assert_ne!(id, document_id("shop", "2", t));
        assert_ne!(id, document_id("game", "1", t));
        assert_ne!(id, document_id("shop", "1", t.plus_micros(1)));
    }
}
