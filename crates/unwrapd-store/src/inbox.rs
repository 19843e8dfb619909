//! The store as receiving uses it: stores messages.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;
use unwrapd_core::handoff::Reservation;
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

/// A destination of a message.
#[derive(Debug)]
pub struct Recipient {
    /// Name of the destination.
    pub destination: String,
    /// The reservation of its lane, if the lane has a free one.
    pub reservation: Option<Reservation>,
    /// Due time of the delivery. `None`: the arrival time of the message.
    pub due_at: Option<Timestamp>,
}

impl Recipient {
    pub(crate) fn due_at(&self, message: &Message) -> Timestamp {
        self.due_at.unwrap_or(message.received_at)
    }
}

impl<D: Into<String>> From<D> for Recipient {
    fn from(destination: D) -> Self {
        Self {
            destination: destination.into(),
            reservation: None,
            due_at: None,
        }
    }
}

/// Result of storing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The message is new, and is stored.
    New,
    /// The message was stored before this commit: it is a copy, or the answer to its own first
    /// commit was lost.
    Duplicate,
}
