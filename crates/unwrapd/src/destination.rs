//! Where messages are delivered.

mod http;

use async_trait::async_trait;

use crate::config::DestinationSettings;
use crate::delivery::{Delivery, Outcome};

pub use http::HttpDestination;
pub(crate) use http::{client, describe};

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
