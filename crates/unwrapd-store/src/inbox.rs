//! The store as receiving uses it: stores messages.

use async_trait::async_trait;

use super::{Accepted, Recipient, StoreError};
use unwrapd_core::message::Message;

/// The store as receiving uses it: stores messages.
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
}
