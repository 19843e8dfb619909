//! Replays: a plan first, then the run, in requests of a few seconds, each of which continues the
//! previous one, or in the background.

use std::time::{Duration, Instant};

use axum::extract::{FromRef, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Admin;
use super::bulk::{self, BulkRequest, accepted};
use super::json::{Refusal, answer, read};
use super::messages::{Stored, check, only_dead};
use crate::api::{
    BulkView, DropDeadRequest, DropDeadResult, ReplayPlan, ReplayProgress, ReplayRequest,
};
use crate::bulk::{STEP, log_done};
use crate::clock::Clock;
use crate::printable::counted;
use crate::store::filter::{Filter, Status};
use crate::store::replay::{AsOf, DropRun, Plan, PlanSoFar, Replay, ReplayRun, ReplayStep, Token};
use crate::store::{BulkAction, BulkState, StoreError};

/// Time after which one request begins no further step.
const RUN_MAX: Duration = Duration::from_secs(5);

pub(super) async fn replay(
    State(admin): State<Admin>,
    request: Request,
) -> Result<Response, Refusal> {
    plan_or_run(&admin, read(request).await?).await
}

pub(super) async fn replay_dead(
    State(admin): State<Admin>,
    request: Request,
) -> Result<Response, Refusal> {
    let mut asked: ReplayRequest = read(request).await?;
    only_dead(&mut asked.filter)?;
    plan_or_run(&admin, asked).await
}

async fn plan_or_run(admin: &Admin, asked: ReplayRequest) -> Result<Response, Refusal> {
    let stored = Stored::from_ref(admin);
    if asked.dry_run {
        return Ok(answer(&plan(&stored, asked).await?));
    }
    if !asked.background {
        return Ok(answer(&run(&stored, asked).await?));
    }
    let begun = BulkRequest {
        action: BulkAction::Replay,
        token: Some(token_of(asked.token)?),
        filter: asked.filter,
        to: asked.to,
        as_of: asked.as_of,
        planned: asked.planned,
    };
    let run = bulk::start(admin, begun).await?;
    let progress = progress(run);
    Ok(accepted(answer(&progress), progress.done))
}

/// The progress of a run that gateways carry on.
fn progress(run: BulkView) -> ReplayProgress {
    let done = run.state == BulkState::Done;
    ReplayProgress {
        token: run.token,
        done,
        repeated: done,
        counts: run.counts,
    }
}

/// Counts what a replay would do.
async fn plan(stored: &Stored, asked: ReplayRequest) -> Result<ReplayPlan, Refusal> {
    let replay = checked(stored, asked.filter, asked.to)?;
    let plan = stored.store.plan(&replay, stored.clock.now()).await?;
    Ok(with_unconfigured(stored, plan))
}

/// Does the same for a limited time. Returns also whether all messages were counted.
pub(super) async fn plan_within(
    stored: &Stored,
    filter: Filter,
    to: Option<String>,
    time_max: Duration,
) -> Result<(ReplayPlan, bool), Refusal> {
    let replay = checked(stored, filter, to)?;
    let now = stored.clock.now();
    let PlanSoFar { plan, is_whole } = stored.store.plan_within(&replay, now, time_max).await?;
    Ok((with_unconfigured(stored, plan), is_whole))
}

fn with_unconfigured(stored: &Stored, plan: Plan) -> ReplayPlan {
    let names = plan.destinations.keys();
    let unconfigured = names.filter(|name| !stored.registry.is_configured(name));
    ReplayPlan {
        unconfigured: unconfigured.cloned().collect(),
        plan,
    }
}

/// Takes the steps of a replay, for as long as a request may take.
pub(super) async fn run(stored: &Stored, asked: ReplayRequest) -> Result<ReplayProgress, Refusal> {
    let replay = checked(stored, asked.filter, asked.to)?;
    let run = ReplayRun {
        replay,
        token: token_of(asked.token)?,
        as_of: asked.as_of,
        limit: STEP,
    };
    finish(stored, run).await
}

fn token_of(token: Option<Token>) -> Result<Token, Refusal> {
    token.ok_or_else(|| Refusal::bad("a replay needs a `token`: the same token replays only once"))
}

/// The replay, if it can be made.
pub(super) fn checked(
    stored: &Stored,
    filter: Filter,
    to: Option<String>,
) -> Result<Replay, Refusal> {
    check(&filter)?;
    check_ids_are_whole(&filter)?;
    if let Some(to) = &to
        && !stored.registry.is_configured(to)
    {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`to` names no destination of the configuration",
        ));
    }
    Ok(Replay { filter, to })
}

/// A search for a part of an id reads payloads, and finds more than one thing.
fn check_ids_are_whole(filter: &Filter) -> Result<(), Refusal> {
    match filter.id_part {
        Some(_) => Err(Refusal::bad(
            "`id_part` is for lists and counts: name the messages with `webhook_id`, `event_id` or `resource`",
        )),
        None => Ok(()),
    }
}

async fn finish(stored: &Stored, run: ReplayRun) -> Result<ReplayProgress, Refusal> {
    let until = Instant::now() + RUN_MAX;
    let mut before = None;
    loop {
        let now = stored.clock.moment_due();
        let step = stored.store.replay(&run, now).await;
        let (replayed, done) = match (step, before) {
            (Ok(ReplayStep::More(replayed)), _) => (replayed, false),
            (Ok(ReplayStep::Done(replayed)), _) => (replayed, true),
            (Ok(ReplayStep::AnotherReplay), _) => {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "this token was used for another replay; use a new one",
                ));
            }
            (Ok(ReplayStep::Ended(_)), _) => return Err(bulk::ended_early()),
            // Earlier steps are durable, so their counts are reported.
            (Err(StoreError::Full(_)), Some(counts)) => {
                return Ok(ReplayProgress {
                    token: run.token,
                    done: false,
                    repeated: false,
                    counts,
                });
            }
            (Err(error), _) => return Err(error.into()),
        };
        for (destination, lane) in &replayed.due {
            stored.registry.notify(destination, *lane);
        }
        let counts = replayed.counts;
        let is_first = before.replace(counts).is_none();
        let repeated = is_first && done && replayed.due.is_empty() && counts.deliveries > 0;
        if done && !repeated {
            log_done(&run.token, BulkAction::Replay, counts);
        }
        if done || Instant::now() >= until {
            return Ok(ReplayProgress {
                token: run.token,
                done,
                repeated,
                counts,
            });
        }
    }
}

/// The filter of a drop, if it can be made. Its `until` is a time.
pub(super) fn checked_drop(
    mut filter: Filter,
    as_of: Option<AsOf>,
    clock: &Clock,
) -> Result<Filter, Refusal> {
    only_dead(&mut filter)?;
    check(&filter)?;
    check_ids_are_whole(&filter)?;
    if filter.status.contains(&Status::Dropped) {
        return Err(Refusal::bad("dropped dead letters cannot be dropped again"));
    }
    // The believed time counts: a jump of the clock must not make a dead letter old enough to be
    // dropped.
    let believed = clock.believed();
    let now = as_of.map_or(believed, |as_of| as_of.at.min(believed));
    filter.until = filter.until.map(|when| when.as_time(now));
    Ok(filter)
}

pub(super) async fn drop_dead(
    State(admin): State<Admin>,
    request: Request,
) -> Result<Response, Refusal> {
    let asked: DropDeadRequest = read(request).await?;
    let names_some = Filter {
        status: Vec::new(),
        ..asked.filter.clone()
    } != Filter::default();
    if names_some == asked.all {
        return Err(Refusal::bad(
            "name the dead letters to drop: some with `filter`, or all with `all: true`",
        ));
    }
    if asked.background && !asked.dry_run {
        return drop_in_background(&admin, asked).await;
    }
    let Stored { store, clock, .. } = Stored::from_ref(&admin);
    let filter = checked_drop(asked.filter, asked.as_of, &clock)?;
    let until = Instant::now() + RUN_MAX;
    let planned = match asked.as_of {
        Some(as_of) if !asked.dry_run => begun(as_of, None),
        _ => {
            let replay = Replay {
                filter: filter.clone(),
                to: None,
            };
            let plan = store.plan(&replay, clock.stamp()).await?;
            DropDeadResult {
                deliveries: plan.counts.deliveries + plan.counts.gone,
                unknown: plan.unknown,
                ..begun(plan.as_of, None)
            }
        }
    };
    if asked.dry_run {
        return Ok(answer(&planned));
    }
    let mut run = DropRun {
        filter,
        as_of: planned.as_of,
        after: None,
        limit: STEP,
    };
    let mut deliveries = 0;
    loop {
        let step = store.drop_dead(&run, clock.stamp()).await?;
        deliveries += step.deliveries;
        run.after = step.next;
        if run.after.is_none() || Instant::now() >= until {
            break;
        }
    }
    tracing::info!(
        "dropped {}",
        counted(deliveries, "dead letter", "dead letters")
    );
    Ok(answer(&DropDeadResult {
        deliveries,
        done: run.after.is_none(),
        ..planned
    }))
}

async fn drop_in_background(admin: &Admin, asked: DropDeadRequest) -> Result<Response, Refusal> {
    let asked = BulkRequest {
        action: BulkAction::Drop,
        filter: asked.filter,
        to: None,
        token: asked.token,
        as_of: asked.as_of,
        planned: asked.planned,
    };
    let run = bulk::start(admin, asked).await?;
    let done = run.state == BulkState::Done;
    let result = DropDeadResult {
        deliveries: run.counts.deliveries,
        done,
        ..begun(run.as_of, Some(run.token))
    };
    Ok(accepted(answer(&result), done))
}

/// The result of a drop that has dropped nothing yet.
fn begun(as_of: AsOf, token: Option<Token>) -> DropDeadResult {
    DropDeadResult {
        as_of,
        deliveries: 0,
        done: false,
        token,
        unknown: Vec::new(),
    }
}
