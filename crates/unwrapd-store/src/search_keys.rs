//! Hashes of the ids in a payload, by which messages are found.
//!
//! A payload names its event (`evt_…`) and its resource (`resp_…`, `batch_…`). A second copy of
//! these ids would make a message a tenth larger. So a store keeps a hash of four bytes of each,
//! and compares the payloads that it finds. An id whose payload was deleted is not found.

use openai_webhooks::Envelope;

/// The search keys of one message; 0 for an id that the payload does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SearchKeys {
    pub(super) event: u32,
    pub(super) resource: u32,
}

impl SearchKeys {
    pub(super) const BYTES: usize = 8;

    pub(super) fn of(payload: &[u8]) -> Self {
        let envelope = Envelope::read(payload);
        let envelope = envelope.as_ref();
        Self {
            event: envelope.and_then(Envelope::event_id).map_or(0, key),
            resource: envelope.and_then(Envelope::resource_id).map_or(0, key),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        (u64::from(self.event) | u64::from(self.resource) << 32).to_le_bytes()
    }

    /// The keys of event and resource, for signed columns.
    pub(super) fn signed(self) -> (i32, i32) {
        (self.event.cast_signed(), self.resource.cast_signed())
    }

    /// Reads the result of [`to_bytes`](Self::to_bytes).
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self {
            event: both as u32,
            resource: (both >> 32) as u32,
        }
    }
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), whose result is fixed across versions.
/// Only OpenAI chooses the ids, and equal hashes cost one comparison.
pub(super) fn key(id: &str) -> u32 {
    let hash = id.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_key_is_the_same_in_every_version() {
        assert_eq!(key(""), 0x811C_9DC5);
        assert_eq!(key("foobar"), 0xBF9C_F968);
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let payload = br#"{"type":"batch.completed","id":"evt_1","data":{"id":"batch_1"}}"#;
        let keys = SearchKeys::of(payload);
        assert_eq!(keys.event, key("evt_1"));
        assert_eq!(keys.resource, key("batch_1"));
        assert_eq!(SearchKeys::from_bytes(keys.to_bytes()), keys);
    }
}
