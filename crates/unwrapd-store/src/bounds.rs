//! How long and how much a store keeps.

use std::time::Duration;

/// Limits of the store in time and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long an id is stored to recognise copies of its message. OpenAI retries for [72
    /// hours](https://developers.openai.com/api/docs/guides/webhooks).
    pub dedupe: Duration,
    /// Maximum number of waiting deliveries. Above it, messages that have a destination are
    /// refused.
    pub undelivered_max: u64,
    /// How long a message is stored after its arrival, and after its last delivery was settled.
    /// Messages with waiting deliveries are stored longer.
    pub retention: Duration,
    /// Maximum size in bytes. Near it, messages without waiting deliveries are deleted early; at
    /// it, new messages are refused. `None`: no limit but the disk.
    pub size_max: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            dedupe: Duration::from_secs(7 * 24 * 3600),
            undelivered_max: 10_000_000,
            retention: Duration::from_secs(30 * 24 * 3600),
            size_max: None,
        }
    }
}
