//! Replays: a plan first, then the run, in requests of a few seconds. Each request continues the
//! previous one.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::json::{Refusal, answer, read};
use super::messages::{Stored, check, only_dead};
use crate::api::{DropDeadRequest, DropDeadResult, ReplayPlan, ReplayProgress, ReplayRequest};
use crate::printable::counted;
use crate::store::StoreError;
use crate::store::filter::{Filter, Status};
use crate::store::replay::{DropRun, Replay, ReplayRun, ReplayStep};

/// Number of deliveries changed in one commit. It takes about ten milliseconds, for which new
/// messages may wait.
const STEP: usize = 500;
/// Time after which one request begins no further step.
const RUN_MAX: Duration = Duration::from_secs(5);

pub(super) async fn replay(
    State(stored): State<Stored>,
    request: Request,
) -> Result<Response, Refusal> {
    plan_or_run(&stored, read(request).await?).await
}

pub(super) async fn replay_dead(
    State(stored): State<Stored>,
    request: Request,
) -> Result<Response, Refusal> {
    let mut asked: ReplayRequest = read(request).await?;
    only_dead(&mut asked.filter)?;
    plan_or_run(&stored, asked).await
}

async fn plan_or_run(stored: &Stored, asked: ReplayRequest) -> Result<Response, Refusal> {
    Ok(if asked.dry_run {
        answer(&plan(stored, asked).await?)
    } else {
        answer(&run(stored, asked).await?)
    })
}

/// Counts what a replay would do.
pub(super) async fn plan(stored: &Stored, asked: ReplayRequest) -> Result<ReplayPlan, Refusal> {
    let replay = checked(stored, asked.filter, asked.to)?;
    let plan = stored.store.plan(&replay, stored.clock.now()).await?;
    let names = plan.destinations.keys();
    let unconfigured = names.filter(|name| !stored.registry.is_configured(name));
    Ok(ReplayPlan {
        unconfigured: unconfigured.cloned().collect(),
        plan,
    })
}

/// Takes the steps of a replay, for as long as a request may take.
pub(super) async fn run(stored: &Stored, asked: ReplayRequest) -> Result<ReplayProgress, Refusal> {
    let replay = checked(stored, asked.filter, asked.to)?;
    let token = asked.token.ok_or_else(|| {
        Refusal::bad("a replay needs a `token`: the same token replays only once")
    })?;
    let run = ReplayRun {
        replay,
        token,
        as_of: asked.as_of,
        limit: STEP,
    };
    finish(stored, run).await
}

fn checked(stored: &Stored, filter: Filter, to: Option<String>) -> Result<Replay, Refusal> {
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
            tracing::info!(
                token = run.token.as_str(),
                "replayed: {} of {}; {} more were waiting already and are due now",
                counted(counts.deliveries, "delivery", "deliveries"),
                counted(counts.messages, "message", "messages"),
                counts.waiting
            );
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

pub(super) async fn drop_dead(
    State(Stored { store, clock, .. }): State<Stored>,
    request: Request,
) -> Result<Response, Refusal> {
    let mut asked: DropDeadRequest = read(request).await?;
    let names_some = Filter {
        status: Vec::new(),
        ..asked.filter.clone()
    } != Filter::default();
    if names_some == asked.all {
        return Err(Refusal::bad(
            "name the dead letters to drop: some with `filter`, or all with `all: true`",
        ));
    }
    only_dead(&mut asked.filter)?;
    check(&asked.filter)?;
    check_ids_are_whole(&asked.filter)?;
    if asked.filter.status.contains(&Status::Dropped) {
        return Err(Refusal::bad("dropped dead letters cannot be dropped again"));
    }
    let mut filter = asked.filter;
    // The believed time counts: a jump of the clock must not make a dead letter old enough to be
    // dropped.
    let believed = clock.believed();
    let now = asked.as_of.map_or(believed, |as_of| as_of.at.min(believed));
    filter.until = filter.until.map(|when| when.as_time(now));
    let until = Instant::now() + RUN_MAX;
    let planned = match asked.as_of {
        Some(as_of) if !asked.dry_run => DropDeadResult {
            as_of,
            deliveries: 0,
            done: false,
            unknown: Vec::new(),
        },
        _ => {
            let replay = Replay {
                filter: filter.clone(),
                to: None,
            };
            let plan = store.plan(&replay, clock.stamp()).await?;
            DropDeadResult {
                as_of: plan.as_of,
                deliveries: plan.counts.deliveries + plan.counts.gone,
                done: false,
                unknown: plan.unknown,
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
