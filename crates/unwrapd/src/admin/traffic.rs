//! `/api/v1/traffic`: counts of webhooks and attempts over time.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};

use super::bounds::Bounds;
use super::json::{Refusal, answer};
use super::operation::Parameter;
use super::query::{Query, parsed};
use super::{Admin, Route};
use crate::api::{
    DestinationStep, DestinationTraffic, EndpointStep, EndpointTraffic, TrafficReport,
};
use crate::store::filter::When;
use crate::store::{TrafficCount, TrafficKind, TrafficRange};

/// Maximum number of steps: a day of minutes, or two months of hours.
const STEPS_MAX: u64 = 1_500;
/// Maximum number of sums of an answer: one for each step, kind and name. It is some 4 MB of JSON.
const SUMS_MAX: usize = 50_000;
/// Default of `since`.
const SINCE: SignedDuration = SignedDuration::from_hours(1);
/// The steps, and their length in seconds.
const STEPS: [(&str, u64); 4] = [("1m", 60), ("5m", 300), ("1h", 3_600), ("1d", 86_400)];

const PARAMETERS: &[Parameter] = &[
    Parameter::text("since", "a time or an age; default 1h"),
    Parameter::text("until", "a time or an age; default now"),
    Parameter::one_of(
        "step",
        "length of a step; default 1m",
        &[STEPS[0].0, STEPS[1].0, STEPS[2].0, STEPS[3].0],
    ),
];

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/api/v1/traffic", Bounds::READ_MUCH, show).json::<TrafficReport>(
            "get_traffic",
            "Returns counts of webhooks by endpoint, and of attempts by destination, over time.",
        )
        .parameters(PARAMETERS)]
}

async fn show(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let range = read_query(query.as_deref(), admin.clock.now())?;
    Ok(answer(&within(&admin, range).await?))
}

/// The counts within a time.
pub(super) async fn within(admin: &Admin, range: TrafficRange) -> Result<TrafficReport, Refusal> {
    up_to(admin, range, SUMS_MAX).await
}

/// The counts within a time, if there are not more than `sums_max`.
pub(super) async fn up_to(
    admin: &Admin,
    range: TrafficRange,
    sums_max: usize,
) -> Result<TrafficReport, Refusal> {
    let sums = admin.store.traffic(range, sums_max + 1).await?;
    if sums.len() > sums_max {
        return Err(Refusal::bad(format!(
            "the answer would have more than {sums_max} counts; choose a longer `step` or a shorter time"
        )));
    }
    Ok(report(range, sums))
}

fn read_query(query: Option<&str>, now: Timestamp) -> Result<TrafficRange, Refusal> {
    let query = Query::of(query);
    let since = query.one("since", parsed)?.unwrap_or(When::Ago(SINCE));
    let until = query.one("until", parsed)?.unwrap_or(When::At(now));
    let seconds = query.one("step", read_step)?.unwrap_or(STEPS[0].1);
    let step = Duration::from_secs(seconds);
    let (since, until) = (
        beginning(since.seen_from(now), step),
        end_of_minute(until.seen_from(now)),
    );
    let steps_max = SignedDuration::try_from(step)
        .ok()
        .and_then(|step| step.checked_mul(STEPS_MAX.try_into().ok()?));
    if since >= until {
        return Err(Refusal::bad("`since` must be earlier than `until`"));
    }
    if steps_max.is_none_or(|longest| until.duration_since(since) > longest) {
        return Err(Refusal::bad(format!(
            "more than {STEPS_MAX} steps are asked for; choose a longer `step` or a shorter time"
        )));
    }
    Ok(TrafficRange { since, until, step })
}

fn read_step(text: &str) -> Result<u64, Refusal> {
    let step = STEPS.into_iter().find(|(name, _)| *name == text);
    step.map(|(_, seconds)| seconds)
        .ok_or_else(|| Refusal::bad("`step` must be 1m, 5m, 1h or 1d"))
}

/// The next full minute: counts are of whole minutes, so one that has begun is in the answer.
fn end_of_minute(time: Timestamp) -> Timestamp {
    let minute = Duration::from_secs(60);
    let beginning = beginning(time, minute);
    if beginning == time {
        return time;
    }
    beginning.checked_add(minute).unwrap_or(Timestamp::MAX)
}

/// The beginning of the step that holds this time.
fn beginning(time: Timestamp, step: Duration) -> Timestamp {
    let step = i64::try_from(step.as_secs()).unwrap_or(i64::MAX);
    let second = time.as_second();
    Timestamp::from_second(second - second.rem_euclid(step)).unwrap_or(Timestamp::MIN)
}

/// The steps of each endpoint or destination.
type ByName<S> = BTreeMap<String, BTreeMap<Timestamp, S>>;

fn step<S: Default>(all: &mut ByName<S>, name: String, at: Timestamp) -> &mut S {
    all.entry(name).or_default().entry(at).or_default()
}

fn report(range: TrafficRange, sums: Vec<TrafficCount>) -> TrafficReport {
    let mut endpoints: ByName<EndpointStep> = BTreeMap::new();
    let mut destinations: ByName<DestinationStep> = BTreeMap::new();
    for TrafficCount {
        minute: at,
        kind,
        name,
        count,
    } in sums
    {
        let total = match kind {
            TrafficKind::Accepted => &mut step(&mut endpoints, name, at).accepted,
            TrafficKind::Duplicate => &mut step(&mut endpoints, name, at).duplicates,
            TrafficKind::Refused => &mut step(&mut endpoints, name, at).refused,
            TrafficKind::Delivered => &mut step(&mut destinations, name, at).delivered,
            TrafficKind::Retried => &mut step(&mut destinations, name, at).retried,
            TrafficKind::Rejected | TrafficKind::Dead => {
                &mut step(&mut destinations, name, at).dead
            }
        };
        // Two kinds of dead letters are one number.
        *total += count;
    }
    TrafficReport {
        since: range.since,
        until: range.until,
        step_seconds: range.step.as_secs(),
        endpoints: listed(
            endpoints,
            |at, step| EndpointStep { at, ..step },
            |name, steps| EndpointTraffic { name, steps },
        ),
        destinations: listed(
            destinations,
            |at, step| DestinationStep { at, ..step },
            |name, steps| DestinationTraffic { name, steps },
        ),
    }
}

fn listed<S, T>(
    all: ByName<S>,
    begun_at: impl Fn(Timestamp, S) -> S,
    named: impl Fn(String, Vec<S>) -> T,
) -> Vec<T> {
    let steps_of = |steps: BTreeMap<_, _>| {
        let steps = steps.into_iter();
        steps.map(|(at, step)| begun_at(at, step)).collect()
    };
    let all = all.into_iter();
    all.map(|(name, steps)| named(name, steps_of(steps)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(query: &str) -> Result<TrafficRange, Refusal> {
        read_query(Some(query), "2026-11-24T08:30:15Z".parse().unwrap())
    }

    fn times(query: &str) -> (String, String) {
        let Ok(range) = range(query) else {
            panic!("{query} is refused");
        };
        (range.since.to_string(), range.until.to_string())
    }

    #[test]
    fn a_step_that_has_begun_is_whole_and_so_is_the_last_minute() {
        let end = "2026-11-24T08:31:00Z";
        assert_eq!(times(""), ("2026-11-24T07:30:00Z".into(), end.into()));
        assert_eq!(
            times("since=2d&step=1h"),
            ("2026-11-22T08:00:00Z".into(), end.into())
        );
        assert_eq!(times("until=2026-11-24T08:30:00.001Z").1, end);
        assert_eq!(
            times("until=2026-11-24T08:29:00Z").1,
            "2026-11-24T08:29:00Z"
        );
        assert_eq!(
            times("since=2026-11-20T12:00:00Z&until=2026-11-21&step=1d"),
            ("2026-11-20T00:00:00Z".into(), "2026-11-21T00:00:00Z".into())
        );
    }

    #[test]
    fn a_time_of_too_many_steps_or_none_is_refused() {
        assert!(range("since=24h").is_ok());
        assert!(range("since=26h").is_err());
        assert!(range("since=26h&step=5m").is_ok());
        assert!(range("since=1h&until=2h").is_err());
        assert!(range("step=2m").is_err());
    }
}
