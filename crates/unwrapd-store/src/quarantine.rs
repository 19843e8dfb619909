//! The store as the quarantine uses it: keeps requests that could not be verified.

use std::fmt;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::error::StoreError;
use super::inbox::Accepted;
use unwrapd_core::message::Message;

/// The store as the quarantine uses it: keeps requests that could not be verified.
#[async_trait]
pub trait QuarantineStore: Send + Sync {
    /// Stores a request that could not be verified. Beyond
    /// [`QUARANTINED_MAX`](super::QUARANTINED_MAX), a request of the endpoint with the most
    /// requests is deleted; of endpoints with equally many, the one of the new request. It is the
    /// oldest request without a body, or else the oldest. So no endpoint loses a request to another
    /// one while it has no more than an equal share. Returns the number of deleted requests.
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError>;

    /// As [`Inbox::accept`](super::Inbox::accept), and deletes the request from the quarantine in
    /// the same commit.
    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError>;

    /// Returns the first `limit` requests in the quarantine with a number above `after`, in the
    /// order of arrival, with their bodies.
    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError>;

    /// Returns the first `limit` requests in the quarantine with a number below `after`, the newest
    /// first, without reading bodies. `None`: begin with the newest.
    async fn list_quarantined(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError>;

    /// Returns the number of requests in the quarantine, or `max` if there are more.
    async fn count_quarantined(&self, max: u64) -> Result<u64, StoreError>;

    /// Deletes the requests with these numbers from the quarantine. Returns how many there were.
    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError>;
}

/// Maximum number of requests in the quarantine.
pub const QUARANTINED_MAX: i64 = 1000;

/// A request in the quarantine, with its body, if that is small and was read completely.
pub type QuarantinedRequest = Quarantined<Option<Bytes>>;

/// A request in the quarantine, and whether its body is stored.
pub type QuarantinedSummary = Quarantined<bool>;

/// A request that could not be verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Quarantined<B> {
    /// The number in the quarantine, assigned by the store.
    pub id: i64,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Arrival time.
    pub received_at: Timestamp,
    /// Reason for the refusal.
    pub reason: String,
    /// Names and values of the headers that are useful for a diagnosis. The sender chose the
    /// values.
    pub headers: Vec<(String, String)>,
    /// Size of the body in bytes, if known.
    pub size: Option<u64>,
    /// The body, or whether it is stored.
    pub body: B,
}

impl<B> fmt::Debug for Quarantined<B> {
    /// Omits everything that the sender chose.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantined")
            .field("id", &self.id)
            .field("endpoint", &self.endpoint)
            .field("received_at", &self.received_at)
            .field("reason", &self.reason)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
