//! Where messages are delivered.

mod http;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::DestinationSettings;
use crate::delivery::{Delivery, Outcome};

pub use http::HttpDestination;
pub(crate) use http::{client, describe};

/// How much earlier than its caller, at most, a destination ends by itself.
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// Takes messages. A failure we expect (a refusal, nobody there) is an [`Outcome`], not an error.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Tries once to hand the message over. Whoever calls it bounds the time: dropped, it lets go of everything it holds.
    async fn send(&self, delivery: &Delivery) -> Outcome;
}

/// Makes a destination of its settings.
pub fn build(settings: &DestinationSettings) -> anyhow::Result<Box<dyn Destination>> {
    Ok(Box::new(HttpDestination::new(settings)?))
}

/// How much longer a destination may take that was called at `started`: until a moment before its caller gives up, so that what it
/// knows by then counts.
fn left(timeout: Duration, started: Instant) -> Duration {
    let margin = (timeout / 10).min(MARGIN_MAX);
    timeout
        .saturating_sub(margin)
        .saturating_sub(started.elapsed())
}
