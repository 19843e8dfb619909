//! Lists and shows messages.

use std::time::Instant;

use jiff::Timestamp;

use super::scan::{CANDIDATES_MAX, Pages};
use super::search::resolve;
use super::select::matching;
use super::statements::{Order, Statements, ViewRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::views::{
    ATTEMPTS_SHOWN_MAX, MessagePage, MessageView, PAGE_MAX, Page, PageBuilder, SHOWN_MAX,
};

/// Messages read at once for a page. Each may have 256 deliveries with 2 KiB of an answer.
const MESSAGES_AT_ONCE_MAX: usize = 32;

/// A page of the selected messages, the newest first, with the latest attempt of each delivery.
pub(crate) async fn list(
    statements: &impl Statements,
    filter: &Filter,
    now: Timestamp,
    page: Page,
) -> Result<MessagePage, StoreError> {
    let began = Instant::now();
    let filter = &resolve(statements, filter).await?;
    let selection = filter.select(now);
    let limit = page.limit.clamp(1, PAGE_MAX);
    let newest = match page.after {
        Some(after) => after,
        None => statements.newest().await?,
    };
    let mut pages = Pages::open(statements, &selection, 1..=newest, Order::NewestFirst).await?;
    let mut builder = PageBuilder::default();
    loop {
        let max = if filter.is_sifted() {
            CANDIDATES_MAX
        } else {
            limit - builder.messages.len()
        };
        let Some(candidates) = pages.next(max).await? else {
            break;
        };
        let candidates = matching(statements, filter, candidates).await?;
        for some in candidates.chunks(MESSAGES_AT_ONCE_MAX) {
            let request = ViewRequest {
                messages: some.iter().map(|candidate| candidate.seq).collect(),
                filter: filter.clone(),
                attempts_max: 1,
                with_payload: false,
            };
            for (seq, message) in statements.views(request).await? {
                builder.push(message);
                if builder.is_full(limit) {
                    pages.cut_behind(seq);
                    break;
                }
            }
            if builder.is_full(limit) {
                break;
            }
        }
        // Each page makes progress, so that a client that follows `next` comes to the end.
        if builder.is_full(limit) || began.elapsed() >= page.time_max {
            break;
        }
    }
    Ok(MessagePage {
        messages: builder.messages,
        next: pages.position(),
    })
}

/// The messages with this webhook id, or else with this event id, or else about this resource: the
/// newest [`SHOWN_MAX`], the oldest of them first.
pub(crate) async fn show(
    statements: &impl Statements,
    id: &str,
    with_payload: bool,
) -> Result<Vec<MessageView>, StoreError> {
    for filter in Filter::for_id(id) {
        let found = show_selected(statements, &filter, with_payload).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

async fn show_selected(
    statements: &impl Statements,
    filter: &Filter,
    with_payload: bool,
) -> Result<Vec<MessageView>, StoreError> {
    let selection = filter.select(Timestamp::MIN);
    let mut pages = Pages::open(statements, &selection, 0..=i64::MAX, Order::NewestFirst).await?;
    let mut builder = PageBuilder::default();
    while builder.messages.len() < SHOWN_MAX {
        let left = SHOWN_MAX - builder.messages.len();
        let Some(candidates) = pages.next(left).await? else {
            break;
        };
        for candidate in &candidates {
            let (attempts_max, with_payload) = if builder.is_heavy() {
                (1, false)
            } else {
                (ATTEMPTS_SHOWN_MAX, with_payload)
            };
            let request = ViewRequest {
                messages: vec![candidate.seq],
                // All deliveries.
                filter: Filter::default(),
                attempts_max,
                with_payload,
            };
            for (_, message) in statements.views(request).await? {
                builder.push(message);
            }
        }
    }
    builder.messages.reverse();
    Ok(builder.messages)
}
