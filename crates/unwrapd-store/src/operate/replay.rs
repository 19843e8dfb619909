//! Plans and runs replays.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::replay_batch::StoredMessage;
use super::replay_record::ReplayRecord;
use super::scan::{CANDIDATES_MAX, Pages};
use super::select::{for_replay, select};
use super::statements::{Candidate, Order, ReplayPage, Statements};
use crate::bulk::BulkAction;
use crate::error::StoreError;
use crate::filter::Filter;
use crate::replay::{AsOf, Counts, Plan, PlanSoFar, Replay, ReplayRun, ReplayStep};
use unwrapd_core::clock::Moment;
use unwrapd_core::crash::{self, CrashPoint};

/// Counts what a replay would do, until `time_max` is over. It changes nothing.
pub(crate) async fn plan(
    statements: &impl Statements,
    replay: &Replay,
    now: Timestamp,
    time_max: Duration,
) -> Result<PlanSoFar, StoreError> {
    let began = Instant::now();
    // Stores keep times in milliseconds. With the same precision the replay does what was planned.
    let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let selection = replay.filter.select(at);
    let newest = statements.newest().await?;
    let mut plan = Plan {
        as_of: AsOf { at, newest },
        counts: Counts::default(),
        oldest: None,
        newest: None,
        destinations: BTreeMap::new(),
        unrouted: 0,
        unknown: unknown(statements, &replay.filter.webhook_id).await?,
    };
    let mut pages = Pages::open(statements, &selection, 0..=newest, Order::OldestFirst).await?;
    while let Some(candidates) = pages.next(CANDIDATES_MAX).await? {
        let messages = for_replay(statements, &candidates, replay).await?;
        for (candidate, message) in candidates.iter().zip(&messages) {
            count(&mut plan, replay, candidate, message);
        }
        if pages.position().is_some() && began.elapsed() >= time_max {
            let is_whole = false;
            return Ok(PlanSoFar { plan, is_whole });
        }
    }
    let is_whole = true;
    Ok(PlanSoFar { plan, is_whole })
}

fn count(plan: &mut Plan, replay: &Replay, candidate: &Candidate, message: &StoredMessage) {
    if replay.leaves_unrouted(&message.deliveries, message.has_payload) {
        plan.unrouted += 1;
    }
    let (choice, can_be_made) = message.choose(replay);
    if !plan.counts.add(&choice, message.lane, can_be_made) {
        return;
    }
    let at = candidate.received_at;
    plan.oldest = Some(plan.oldest.map_or(at, |oldest| oldest.min(at)));
    plan.newest = Some(plan.newest.map_or(at, |newest| newest.max(at)));
    let again = choice.again.iter().map(|delivery| &delivery.destination);
    for destination in again.chain(replay.to.as_ref().filter(|_| choice.is_missing)) {
        *plan.destinations.entry(destination.clone()).or_default() += 1;
    }
}

/// Of these webhook ids, those of no stored message.
async fn unknown(statements: &impl Statements, ids: &[String]) -> Result<Vec<String>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter {
        webhook_id: ids.to_vec(),
        ..Filter::default()
    };
    let selection = filter.select(Timestamp::MIN);
    let mut known = HashSet::new();
    let mut pages = Pages::open(statements, &selection, 0..=i64::MAX, Order::OldestFirst).await?;
    while let Some(candidates) = pages.next(CANDIDATES_MAX).await? {
        known.extend(candidates.into_iter().map(|candidate| candidate.webhook_id));
    }
    let unknown: BTreeSet<&String> = ids.iter().filter(|id| !known.contains(*id)).collect();
    Ok(unknown.into_iter().cloned().collect())
}

/// Takes the next step of a replay.
pub(crate) async fn step(
    statements: &impl Statements,
    run: &ReplayRun,
    now: Moment,
) -> Result<ReplayStep, StoreError> {
    let record = statements.replay_record(run, now.now).await?;
    if !record.is_of(BulkAction::Replay, &run.replay) {
        return Ok(ReplayStep::AnotherReplay);
    }
    go_on(statements, record, run.limit, now).await
}

/// Takes the next step of the replay with this record.
pub(super) async fn go_on(
    statements: &impl Statements,
    record: ReplayRecord,
    limit: usize,
    now: Moment,
) -> Result<ReplayStep, StoreError> {
    if let Some(end) = record.end() {
        return Ok(end);
    }
    let replay = &record.request;
    let selection = replay.filter.select(record.started_at);
    let within = record.next..=record.newest;
    let selected = select(
        statements,
        &selection,
        within,
        limit,
        Some(replay),
        |message| message.choose(replay).0.deliveries(),
    )
    .await?;
    let page = ReplayPage { record, selected };
    let step = statements.make_due(page, now).await;
    crash::point(CrashPoint::ReplayCommitted);
    step
}
