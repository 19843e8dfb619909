//! Counts of the messages and deliveries of a store, for tests.

use async_trait::async_trait;
use jiff::Timestamp;
use unwrapd::store::filter::{Filter, Status};
use unwrapd::store::{Operations, PAGE_MAX, Page};

/// Messages, and deliveries by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub messages: u64,
    /// Deliveries that wait for an attempt, or for the end of one.
    pub pending: u64,
    pub delivered: u64,
    /// Dead letters, without those that were dropped.
    pub dead: u64,
}

impl Tally {
    /// One message without deliveries.
    pub const KEPT: Self = Self {
        messages: 1,
        pending: 0,
        delivered: 0,
        dead: 0,
    };
    /// One message that was delivered.
    pub const DELIVERED: Self = Self {
        delivered: 1,
        ..Self::KEPT
    };
    /// One message that is a dead letter.
    pub const DEAD: Self = Self {
        dead: 1,
        ..Self::KEPT
    };
}

/// A store whose messages and deliveries can be counted.
#[async_trait]
pub trait Counted: Send + Sync {
    async fn tally(&self) -> Tally;
}

/// Reads all pages that an operator can see.
#[async_trait]
impl<S: Operations + ?Sized> Counted for S {
    async fn tally(&self) -> Tally {
        let all = Filter::default();
        let mut tally = Tally::default();
        let mut page = Page::new(None, PAGE_MAX);
        loop {
            let read = self.list_messages(&all, Timestamp::MIN, page).await;
            let read = read.unwrap();
            tally.messages += read.messages.len() as u64;
            for delivery in read.messages.iter().flat_map(|message| &message.deliveries) {
                match delivery.status {
                    Status::Waiting => tally.pending += 1,
                    Status::Delivered => tally.delivered += 1,
                    Status::Dead => tally.dead += 1,
                    Status::Dropped | Status::Unrouted => {}
                }
            }
            page.after = read.next;
            if page.after.is_none() {
                return tally;
            }
        }
    }
}
