//! Deliveries that wait for a destination that is not configured, or no longer. No dispatcher
//! delivers them and pruning does not delete them, so an operator must know of them and be able to
//! give them up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::sleep;

use super::bounds::Bounds;
use super::json::{Refusal, answer, read};
use super::{Admin, Route};
use crate::api::{GiveUpRequest, GiveUpResult};
use crate::destinations::Registry;
use crate::observe::refusals::shown;
use crate::observe::warnings::Warnings;
use crate::store::{Store, gateways, give_up, waiting};

/// Name of the warning while such deliveries wait.
pub(super) const CONDITION: &str = "unconfigured-destinations";
/// Maximum number of destinations that `/readyz` names.
const NAMES_MAX: usize = 5;
/// Time after which one request gives up no further deliveries.
const RUN_MAX: Duration = Duration::from_secs(5);
/// Interval between counts while such deliveries wait.
const LOOK_EVERY: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post(
            "/api/v1/destinations/{name}/give-up",
            Bounds::CHANGE_MUCH,
            give_up_waiting,
        )
        .json::<GiveUpResult>(
            "give_up",
            "Ends the deliveries that wait for a destination that is not configured.",
        )
        .takes::<GiveUpRequest>()
        .refuses(StatusCode::NOT_FOUND, "nothing waits for this destination")
        .refuses(
            StatusCode::CONFLICT,
            "the destination is configured, or another gateway has other destinations",
        ),
    ]
}

/// The remedy for deliveries that wait for `name`, for a line that states their number.
#[must_use]
pub(crate) fn remedy(name: &str, other: &str) -> String {
    format!(
        "configure `{name}` again, or deliver copies to another destination with \
         `unwrapd replay --destination {name} --status waiting --to {other}`. What waits stays in \
         the store until you run `unwrapd destinations give-up {name}`"
    )
}

/// Makes `/readyz` name the destinations for which deliveries wait and that are not configured.
pub(crate) fn note(waiting: &[(String, u64)], registry: &Registry, warnings: &Warnings) {
    let waiting: Vec<_> = waiting
        .iter()
        .filter(|(name, _)| !registry.is_configured(name))
        .collect();
    if waiting.is_empty() {
        return warnings.end(
            CONDITION,
            "no delivery waits for an unconfigured destination any more",
        );
    }
    let more = match waiting.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more destinations"),
    };
    let named: Vec<String> = waiting
        .iter()
        .take(NAMES_MAX)
        .map(|(name, deliveries)| format!("`{name}` ({deliveries})"))
        .collect();
    warnings.note(
        CONDITION,
        format!(
            "deliveries wait for {}{more}, not configured here: configure them again, or run `unwrapd destinations give-up NAME`",
            named.join(", ")
        ),
    );
}

/// Updates the warning until `end`, because another gateway on the database may deliver such
/// deliveries or give them up.
pub(crate) async fn watch(
    store: Arc<dyn Store>,
    registry: Registry,
    warnings: Warnings,
    end: impl Future<Output = ()>,
) {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            () = sleep(LOOK_EVERY) => {}
        }
        if warnings.has(CONDITION) {
            match waiting(&*store).await {
                Ok(waiting) => note(&waiting, &registry, &warnings),
                Err(error) => tracing::debug!("cannot count the waiting deliveries: {error}"),
            }
        }
    }
}

async fn give_up_waiting(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let asked: GiveUpRequest = read(request).await?;
    if admin.registry.is_configured(&name) {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            format!(
                "`{name}` is configured: its deliveries are attempted, or given up after `deadline_hours`"
            ),
        ));
    }
    if let Some(gateway) = configured_differently(&*admin.store) {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            format!(
                "gateway {gateway}, on the same database, has other destinations, and may still \
                 deliver to `{}`: give all gateways the same configuration first",
                shown(&name)
            ),
        ));
    }
    let all = waiting(&*admin.store).await?;
    let Some((_, deliveries)) = all.into_iter().find(|(waiting, _)| *waiting == name) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("no delivery waits for `{}`", shown(&name)),
        ));
    };
    if asked.dry_run {
        return Ok(answer(&GiveUpResult {
            deliveries,
            done: false,
        }));
    }
    let may_go_on = || !admin.registry.is_configured(&name);
    let given_up = give_up(&admin.store, &name, &admin.clock, RUN_MAX, may_go_on).await?;
    tracing::info!(
        destination = name,
        "{} waiting deliveries given up by an operator; they are dead letters now",
        given_up.deliveries
    );
    if given_up.done {
        let all = waiting(&*admin.store).await?;
        note(&all, &admin.registry, &admin.warnings);
    }
    Ok(answer(&GiveUpResult {
        deliveries: given_up.deliveries,
        done: given_up.done,
    }))
}

/// A live gateway with other destinations.
fn configured_differently(store: &dyn Store) -> Option<String> {
    let gateways = gateways(store);
    let ours = gateways.iter().find(|gateway| gateway.is_ours)?;
    let other = gateways.iter().find(|gateway| {
        !gateway.is_ours && ours.differs_from(gateway).contains(&"destinations".into())
    })?;
    Some(other.name.clone())
}
