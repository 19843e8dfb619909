//! The store as receiving uses it: stores messages and quarantined requests.

use async_trait::async_trait;

use super::{Accepted, QuarantinedRequest, Recipient, StoreError};
use unwrapd_core::message::Message;

/// The store as receiving uses it: stores messages and quarantined requests.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Keeps the message, its dedupe key (endpoint and `webhook-id`) and a delivery, due at once,
    /// for each recipient: all of it in one commit. A copy of a message that is already kept
    /// changes nothing, and is told apart only once the original is durable.
    ///
    /// If a recipient has a reservation, its delivery may be leased in the same commit, as by a
    /// claim, and handed off there. The hand-off happens even if the caller no longer waits.
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError>;

    /// Keeps a request that could not be proven. Beyond [`QUARANTINED_MAX`](super::QUARANTINED_MAX) one goes of the
    /// endpoint that holds the most, which is this one's where several hold as much: the oldest
    /// without a body, or else the oldest. So no endpoint loses a request to another one's while it
    /// holds no more than an equal share of the room. Returns how many went.
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError>;

    /// As [`accept`](Self::accept), and takes the request out of the quarantine, in one commit.
    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError>;
}
