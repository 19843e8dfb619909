//! What is kept, for people to look at.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::filter::Status;
use crate::delivery::Lane;

/// Most messages on a page.
pub const PAGE_MAX: usize = 500;
/// Most attempts of a delivery that are shown, the latest: three days of back-off make some ninety.
pub const ATTEMPTS_SHOWN_MAX: usize = 200;

/// Where a page begins and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// What the page before gave as `next`; `None`: the newest.
    pub after: Option<i64>,
    /// Most messages on it; never more than [`PAGE_MAX`].
    pub limit: usize,
}

/// A page of messages, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What the filter wants; of their deliveries, those it wants.
    pub messages: Vec<Kept>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<i64>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its `webhook-id`.
    pub webhook_id: String,
    /// Name of the endpoint that received it.
    pub endpoint: String,
    /// The type of its event, if it is one.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// When OpenAI sent it.
    pub sent_at: Timestamp,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Which secret of the endpoint proved it, counted from 0 as configured then.
    pub secret: Option<u32>,
    /// Size of its body; `None`: the body is removed.
    pub bytes: Option<u64>,
    /// Its deliveries.
    pub deliveries: Vec<KeptDelivery>,
    /// Its body, where that was asked for.
    #[serde(skip)]
    pub payload: Option<Bytes>,
}

/// A delivery as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDelivery {
    /// Name of the destination.
    pub destination: String,
    /// How urgent it is.
    pub lane: Lane,
    /// What has become of it.
    pub status: Status,
    /// When it was first due, or replayed.
    pub since: Timestamp,
    /// Waiting: when it is due. Else: when it was delivered, given up or dropped.
    pub at: Timestamp,
    /// How many attempts were made.
    pub attempts: u32,
    /// The last of them; all where one message is shown.
    pub latest: Vec<KeptAttempt>,
}

/// An attempt as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAttempt {
    /// Which it was, counted from 1.
    pub number: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What the destination answered or what went wrong.
    pub answer: String,
    /// The beginning of the body of the answer, where that is kept. The destination wrote it: hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
