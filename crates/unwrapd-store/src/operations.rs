//! The store as operators use it: lists and replays messages, and drops dead letters.

use async_trait::async_trait;
use jiff::Timestamp;

use super::filter::Filter;
use super::replay::{AsOf, Dropped, Plan, Replay, ReplayStep, Token};
use super::{MessagePage, MessageView, Page, StoreError, TrafficCount, TrafficRange};
use unwrapd_core::clock::Moment;

/// The store as operators use it: lists and replays messages, and drops dead letters.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Returns a page of the messages that match a filter, newest first. Messages that arrive
    /// between two pages are on neither.
    async fn list_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        page: Page,
    ) -> Result<MessagePage, StoreError>;

    /// Returns the messages with this webhook id, one for each endpoint that received it, with
    /// their attempts and, if requested, their payloads. If there are none, it looks for messages
    /// with this event id, and then for messages with this resource.
    async fn get_message(
        &self,
        id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError>;

    /// Counts what a replay would do, and changes nothing.
    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError>;

    /// Takes one step of a replay: makes at least `limit` deliveries due `now`, or all that are
    /// left, message by message. Call it until it returns [`ReplayStep::Done`].
    ///
    /// The first use of a token fixes the messages, as of `as_of` or now. Each message is visited
    /// once, and the commit that makes its deliveries due also records the progress. So a second
    /// call with the same token, after a crash or at the same time, makes no delivery twice. A
    /// waiting delivery becomes due at once, under the same number; a leased one stays as it is.
    /// [`StoreError::Full`] means that as many deliveries wait as a replay may cause: finished
    /// steps stay, and the same token continues later.
    async fn replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Moment,
        limit: usize,
    ) -> Result<ReplayStep, StoreError>;

    /// Drops up to `limit` dead letters that match the filter, or a few more, if they were dead at
    /// `as_of`. They stay visible as dropped, and filters for dead letters no longer match them.
    /// `after` is where the previous step ended.
    async fn drop_dead(
        &self,
        filter: &Filter,
        as_of: AsOf,
        after: Option<i64>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Dropped, StoreError>;

    /// Returns the sums of the counts of each step, ordered by its beginning, kind and name: the
    /// first `max` of them.
    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError>;
}
