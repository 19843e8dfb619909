//! Details of an accepted request that only traces need.

use tokio::time::Instant;

use crate::trace_context::Trace;

/// The trace of an accepted webhook.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    /// The trace, which is sampled.
    pub trace: Trace,
    /// Id of what the event is about, if the payload names one that has the form of an id.
    pub resource: Option<String>,
    /// The steps before the commit. `None`: the request waited in the quarantine.
    pub steps: Option<Steps>,
    /// When the store got the message. The commit ended just before the event.
    pub stored_at: Instant,
}

/// When the steps of a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// The head had arrived.
    pub head_at: Instant,
    /// The body had arrived.
    pub body_at: Instant,
    /// The request was verified, and its event was read.
    pub verified_at: Instant,
}
