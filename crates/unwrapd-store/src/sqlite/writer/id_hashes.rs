//! The hashes by which a message is found: one of its id, and those of the ids in its payload.

use sha2::{Digest as _, Sha256};

use crate::search_keys::SearchKeys;
use unwrapd_core::message::Message;

/// The hashes of the ids of a message. The task of the request computes them, because the single
/// writer is the bottleneck.
#[derive(Clone, Copy)]
pub(crate) struct IdHashes {
    pub(crate) dedupe: u64,
    pub(crate) search: SearchKeys,
}

impl IdHashes {
    pub(crate) fn of(message: &Message) -> Self {
        Self {
            dedupe: hash(&message.endpoint, &message.webhook_id),
            search: SearchKeys::of(&message.payload),
        }
    }
}

/// The hash of an id as it is stored; it is the same in every version.
pub(crate) fn hash(endpoint: &str, webhook_id: &str) -> u64 {
    let mut hash = Sha256::new();
    // Neither part may contain a NUL.
    for part in [endpoint, "\0", webhook_id] {
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        assert_eq!(hash("production", "wh_1"), 0xF53D_6F29_1F98_F669);
        assert_ne!(hash("production", "wh_1"), hash("productionw", "h_1"));
    }
}
