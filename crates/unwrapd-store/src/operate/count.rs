//! Counts messages, within a limit of time.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::scan::{CANDIDATES_MAX, Pages};
use super::search::resolve;
use super::select::matching;
use super::statements::{Order, Statements};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::views::MessageCount;

/// Time after which no further page is read. A page takes some ten milliseconds.
const TIME_MAX: Duration = Duration::from_millis(50);

/// The number of the selected messages, up to `max`. A count that ends early has the newest ones.
pub(crate) async fn count(
    statements: &impl Statements,
    filter: &Filter,
    now: Timestamp,
    max: u64,
) -> Result<MessageCount, StoreError> {
    if *filter == Filter::default() {
        let messages = statements.count_all(max.saturating_add(1)).await?;
        return Ok(up_to(max, messages, true));
    }
    let began = Instant::now();
    let filter = resolve(statements, filter).await?;
    let selection = filter.select(now);
    let newest = statements.newest().await?;
    let mut pages = Pages::open(statements, &selection, 1..=newest, Order::NewestFirst).await?;
    let mut messages = 0;
    while let Some(candidates) = pages.next(CANDIDATES_MAX).await? {
        messages += matching(statements, &filter, candidates).await?.len() as u64;
        let is_late = pages.position().is_some() && began.elapsed() >= TIME_MAX;
        if messages > max || is_late {
            return Ok(up_to(max, messages, false));
        }
    }
    Ok(up_to(max, messages, true))
}

fn up_to(max: u64, messages: u64, is_whole: bool) -> MessageCount {
    MessageCount {
        messages: messages.min(max),
        is_exact: is_whole && messages <= max,
    }
}
