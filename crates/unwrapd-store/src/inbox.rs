//! The store as receiving uses it: stores messages.

use async_trait::async_trait;

use super::{Accepted, Recipient, StoreError};
use unwrapd_core::message::Message;

/// The store as receiving uses it: stores messages.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Stores the message, its dedupe key (endpoint and `webhook-id`) and a delivery for each
    /// recipient, all in one commit. A delivery is due at once unless its recipient has a due time.
    /// A copy of a stored message changes nothing.
    /// [`Accepted::Duplicate`](super::Accepted::Duplicate) is returned only once the original is
    /// durable.
    ///
    /// If a recipient has a reservation, its delivery may be leased in the same commit, as by a
    /// claim, and handed off. The hand-off happens even if the caller no longer waits.
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError>;
}
