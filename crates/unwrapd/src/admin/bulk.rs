//! `/api/v1/replays`: bulk runs, which gateways carry on by themselves: begin, list, show and stop.

use std::time::Duration;

use axum::extract::{FromRef, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::bounds::Bounds;
use super::json::{Refusal, answer};
use super::messages::Stored;
use super::replay::{checked, checked_drop};
use super::{Admin, Route};
use crate::api::{BulkList, BulkView};
use crate::store::filter::Filter;
use crate::store::replay::{AsOf, Replay, Token};
use crate::store::{BULK_RUNS_MAX, BulkAction, BulkBegun, BulkEnd, BulkRun, BulkStart, BulkState};

/// Number of runs in the list.
const LIST_MAX: usize = 100;
/// Size of the filters in the list, in bytes, after which it ends. A filter may have a thousand
/// ids.
const LIST_BYTES_MAX: usize = 1024 * 1024;
/// Longest time for the plan of a run that has none. Without a plan it begins all the same.
const PLAN_TIME_MAX: Duration = Duration::from_secs(2);
const NO_SUCH_RUN: &str = "no run has this token";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/replays", Bounds::READ_MUCH, list_all).json::<BulkList>(
            "list_replays",
            "Lists the latest replays and drops of dead letters, the newest first.",
        ),
        Route::get("/api/v1/replays/{token}", Bounds::READ_LITTLE, show_by_path)
            .json::<BulkView>(
                "get_replay",
                "Returns a replay, or a drop of dead letters, by its token.",
            )
            .refuses(StatusCode::NOT_FOUND, NO_SUCH_RUN),
        Route::post(
            "/api/v1/replays/{token}/stop",
            Bounds::CHANGE_WITHOUT_BODY,
            stop_by_path,
        )
        .json::<BulkView>(
            "stop_replay",
            "Ends a replay, or a drop of dead letters, after its present step.",
        )
        .refuses(StatusCode::NOT_FOUND, NO_SUCH_RUN),
    ]
}

/// A bulk run to begin.
pub(super) struct BulkRequest {
    pub(super) action: BulkAction,
    /// For a drop, the dead letters among the selected deliveries.
    pub(super) filter: Filter,
    /// Destination of a replay, instead of the original ones.
    pub(super) to: Option<String>,
    /// The same token runs only once. `None`: a new one.
    pub(super) token: Option<Token>,
    /// From the plan, so that the run selects the same messages. `None`: the run is planned first,
    /// if that takes little time.
    pub(super) as_of: Option<AsOf>,
    /// Number of deliveries of the plan.
    pub(super) planned: Option<u64>,
}

/// Begins a run, which the gateways carry on. A run that was begun before under its token is
/// returned as it is.
pub(super) async fn start(admin: &Admin, asked: BulkRequest) -> Result<BulkView, Refusal> {
    let BulkRequest { action, as_of, .. } = asked;
    let stored = Stored::from_ref(admin);
    let request = match action {
        BulkAction::Replay => checked(&stored, asked.filter, asked.to)?,
        BulkAction::Drop => Replay {
            filter: checked_drop(asked.filter, as_of, &admin.clock)?,
            to: None,
        },
    };
    let (as_of, planned) = match as_of {
        Some(as_of) => (as_of, asked.planned),
        None => plan(admin, action, &request).await?,
    };
    let start = BulkStart {
        token: match asked.token {
            Some(token) => token,
            None => new_token()?,
        },
        action,
        request,
        as_of,
        planned,
    };
    let run = match admin
        .store
        .begin_bulk_run(&start, admin.clock.stamp())
        .await?
    {
        BulkBegun::Begun(run) => *run,
        BulkBegun::AnotherRun => {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "this token was used for another replay; use a new one",
            ));
        }
        BulkBegun::TooMany => {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{BULK_RUNS_MAX} replays and drops are in progress in the background, which is \
                     the limit; wait until one has ended, or stop one"
                ),
            ));
        }
    };
    if matches!(run.state, BulkState::Stopped | BulkState::Failed) {
        return Err(ended_early());
    }
    admin.bulk.notify();
    Ok(view(admin, run))
}

/// The moment and the number of deliveries of a run that has no plan. The number is not known if
/// it takes long to count.
async fn plan(
    admin: &Admin,
    action: BulkAction,
    request: &Replay,
) -> Result<(AsOf, Option<u64>), Refusal> {
    let at = match action {
        BulkAction::Replay => admin.clock.now(),
        BulkAction::Drop => admin.clock.stamp(),
    };
    let planned = admin.store.plan_within(request, at, PLAN_TIME_MAX).await?;
    let plan = planned.plan;
    let more = match action {
        // They become due at once.
        BulkAction::Replay => plan.counts.waiting,
        // Only a replay needs the payloads.
        BulkAction::Drop => plan.counts.gone,
    };
    let deliveries = plan.counts.deliveries + more;
    Ok((plan.as_of, planned.is_whole.then_some(deliveries)))
}

/// The refusal of a token whose run has ended early.
pub(super) fn ended_early() -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "the run with this token was stopped before all was done; use a new token",
    )
}

fn new_token() -> Result<Token, Refusal> {
    let token = uuid::Uuid::now_v7().to_string();
    token
        .parse()
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no token can be made"))
}

/// The latest runs, the newest first.
pub(super) async fn list(admin: &Admin) -> Result<BulkList, Refusal> {
    let mut runs = Vec::new();
    let mut bytes = 0;
    for run in admin.store.list_bulk_runs(LIST_MAX).await? {
        let filter = serde_json::to_vec(&run.request.filter);
        bytes += filter.map_or(0, |filter| filter.len());
        if bytes > LIST_BYTES_MAX && !runs.is_empty() {
            break;
        }
        runs.push(view(admin, run));
    }
    Ok(BulkList { runs })
}

/// The run with this token.
pub(super) async fn show(admin: &Admin, token: &Token) -> Result<BulkView, Refusal> {
    let run = admin.store.bulk_run(token).await?;
    run.map(|run| view(admin, run)).ok_or_else(no_such_run)
}

/// Ends the run with this token after its present step, unless it has ended.
pub(super) async fn stop(admin: &Admin, token: &Token) -> Result<BulkView, Refusal> {
    let now = admin.clock.stamp();
    let ended = admin
        .store
        .end_bulk_run(token, &BulkEnd::Stopped, now)
        .await?;
    let run = ended.ok_or_else(no_such_run)?;
    admin.bulk.notify();
    Ok(view(admin, run))
}

async fn list_all(State(admin): State<Admin>) -> Result<Response, Refusal> {
    Ok(answer(&list(&admin).await?))
}

async fn show_by_path(State(admin): State<Admin>, path: Path<String>) -> Result<Response, Refusal> {
    Ok(answer(&show(&admin, &token(&path)?).await?))
}

async fn stop_by_path(State(admin): State<Admin>, path: Path<String>) -> Result<Response, Refusal> {
    Ok(answer(&stop(&admin, &token(&path)?).await?))
}

/// The token in the path. A text that cannot be one names no run.
fn token(path: &str) -> Result<Token, Refusal> {
    path.parse().map_err(|_| no_such_run())
}

fn no_such_run() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, NO_SUCH_RUN)
}

fn view(admin: &Admin, run: BulkRun) -> BulkView {
    let waits_for = match run.state {
        BulkState::Running => admin.bulk.waits_for(&run.token),
        _ => None,
    };
    BulkView {
        token: run.token,
        action: run.action,
        filter: run.request.filter,
        to: run.request.to,
        as_of: run.as_of,
        planned: run.planned,
        counts: run.counts,
        state: run.state,
        reason: run.reason.or(waits_for),
        background: run.is_background,
        began_at: run.began_at,
        ended_at: run.ended_at,
    }
}

/// The answer to a run that goes on in the background: 202, unless all of it was done before.
pub(super) fn accepted(response: Response, is_done: bool) -> Response {
    if is_done {
        return response;
    }
    (StatusCode::ACCEPTED, response).into_response()
}
