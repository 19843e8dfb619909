//! The other gateways on the database, as of the last heartbeat.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::fleet::{Configuration, FRESH, FleetGateway, GatewayIdentity};
use crate::mutex::lock;
use crate::postgres::fleet::gateway_row::{Heartbeat, Other, Reply, written};
use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::limit_share::LimitShare;

/// Error of our clock, in milliseconds, above which it is logged.
const CLOCK_MAX_MS: i64 = 2000;
/// Error of our clock, in milliseconds, below which it counts as right again.
const CLOCK_RIGHT_MS: i64 = 1500;

#[derive(Debug)]
pub(crate) struct Membership {
    clock: Clock,
    known: Mutex<State>,
    /// Serialises heartbeats, so that the latest reply counts.
    beating: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    /// The id under which this gateway leases deliveries.
    id: i64,
    identity: GatewayIdentity,
    /// Whether the identity or the list of peers has changes that the others have not received.
    is_news: bool,
    /// Start of the current unbroken run of heartbeats, and start of the latest one.
    alive: Option<(Moment, Moment)>,
    others: Vec<Other>,
    /// Number of heartbeats that included our name, up to two. A peer may have joined at the moment
    /// of the first.
    named_beats: u8,
    /// Time of the last late heartbeat.
    late_at: Option<Instant>,
    /// How far our clock is ahead of the server's, in milliseconds.
    clock_ahead_ms: i64,
    is_clock_wrong: bool,
}

/// Changes by a heartbeat.
pub(crate) struct Changes {
    /// Whether the state on which this gateway acts has changed.
    pub(crate) are_seen: bool,
    /// Whether the list of peers has changed, so that it must be announced.
    pub(crate) are_to_be_said: bool,
    pub(crate) clock: ClockNews,
}

/// A change in the correctness of our clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ClockNews {
    AsBefore,
    Wrong { ahead_ms: i64 },
    RightAgain,
}

/// A moment on three clocks: the first stops while the machine sleeps, the second does not, and the
/// third may be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    instant: Instant,
    monotonic: Duration,
    time: Timestamp,
}

impl Moment {
    pub(crate) fn now(clock: &Clock) -> Self {
        Self {
            instant: Instant::now(),
            monotonic: clock.monotonic(),
            time: clock.local(),
        }
    }

    /// Time since the moment. The clock that may be set is ignored: a jump would count as silence.
    fn elapsed(self, clock: &Clock) -> Duration {
        let slept = clock.monotonic().saturating_sub(self.monotonic);
        self.instant.elapsed().max(slept)
    }
}

impl Membership {
    pub(crate) fn new(clock: Clock) -> Result<Self, StoreError> {
        let known = State {
            clock: clock.clone(),
            id: new_id()?,
            identity: GatewayIdentity::default(),
            is_news: true,
            alive: None,
            others: Vec::new(),
            named_beats: 0,
            late_at: None,
            clock_ahead_ms: 0,
            is_clock_wrong: false,
        };
        Ok(Self {
            clock,
            known: Mutex::new(known),
            beating: tokio::sync::Mutex::default(),
        })
    }

    /// The id under which this gateway leases deliveries.
    pub(crate) fn id(&self) -> i64 {
        lock(&self.known).id
    }

    pub(crate) fn announce(&self, identity: GatewayIdentity) {
        let mut known = lock(&self.known);
        known.identity = identity;
        known.is_news = true;
    }

    pub(crate) async fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.beating.lock().await
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        let known = lock(&self.known);
        Heartbeat {
            id: known.id,
            parts: written(&known.identity.configuration),
            identity: known.identity.clone(),
            sees: known.others.iter().map(|other| other.id).collect(),
            joins: known.alive.is_none(),
            is_news: known.is_news,
        }
    }

    /// Applies the reply to a heartbeat that began at `begun_at`.
    pub(crate) fn reply(
        &self,
        begun_at: Moment,
        heartbeat: &Heartbeat,
        reply: Reply,
        is_late: bool,
    ) -> Changes {
        let mut known = lock(&self.known);
        if is_late {
            known.late_at = Some(Instant::now());
        }
        self.clock.refer(begun_at.monotonic, reply.server_ms);
        let clock = known.compare_clock(begun_at, reply.server_ms);
        let before = known.compared();
        let first = known.alive.map_or(begun_at, |(first, _)| first);
        known.alive = Some((first, begun_at));
        known.others = reply.others;
        if !heartbeat.identity.name.is_empty() && known.named_beats < 2 {
            known.named_beats += 1;
        }
        let after = known.compared();
        let are_to_be_said = before.ids != after.ids || known.named_beats == 1;
        known.is_news = are_to_be_said || known.identity != heartbeat.identity;
        Changes {
            are_seen: before != after,
            are_to_be_said,
            clock,
        }
    }

    /// Whether this gateway has been on time for so long that silence is a fault of the silent
    /// gateway.
    pub(crate) fn may_judge(&self, silence_max: Duration) -> bool {
        let late_at = lock(&self.known).late_at;
        late_at.is_none_or(|late_at| late_at.elapsed() > silence_max)
    }

    /// Starts again with a new id after this gateway was declared dead: it holds no leases, and no
    /// peer lists it.
    pub(crate) fn begin_anew(&self) {
        let mut known = lock(&self.known);
        // The old id plus one works as well; the new id only must be unique.
        known.id = new_id().unwrap_or(known.id.wrapping_add(1));
        known.alive = None;
        known.others.clear();
        known.named_beats = 0;
        known.is_news = true;
    }

    pub(crate) fn share(&self, destination: &str) -> LimitShare {
        let known = lock(&self.known);
        if !known.is_fresh() {
            LimitShare::Nothing
        } else if known.takes_part() {
            let others = known.others.iter().map(|other| other.id);
            LimitShare::beside(destination, known.id, others)
        } else {
            LimitShare::Joining
        }
    }

    /// Whether no other gateway is known.
    pub(crate) fn is_alone(&self) -> bool {
        let known = lock(&self.known);
        known.is_fresh() && known.others.is_empty()
    }

    pub(crate) fn still_holds(&self, claimed_at: Instant) -> bool {
        let known = lock(&self.known);
        let is_since = known
            .alive
            .is_some_and(|(first, _)| first.instant <= claimed_at);
        is_since && known.is_fresh()
    }

    pub(crate) fn gateways(&self) -> Vec<FleetGateway> {
        let known = lock(&self.known);
        let ours = FleetGateway {
            id: known.id,
            name: known.identity.name.clone(),
            is_ours: true,
            takes_part: known.is_fresh() && known.takes_part(),
            silent_for: known
                .alive
                .map_or(Duration::MAX, |(_, last)| last.elapsed(&self.clock)),
            configuration: known.identity.configuration.clone(),
            clock_ahead_ms: known.is_clock_wrong.then_some(known.clock_ahead_ms),
        };
        // The state of the others is as old as our last heartbeat.
        let heard_for = ours.silent_for;
        let others = known.others.iter().map(|other| {
            let mut rest = known.others.iter().filter(|third| third.id != other.id);
            FleetGateway {
                id: other.id,
                name: other.name.clone(),
                is_ours: false,
                takes_part: rest.all(|third| third.sees.contains(&other.id)),
                silent_for: other.silent_for.saturating_add(heard_for),
                configuration: other.configuration.clone(),
                clock_ahead_ms: None,
            }
        });
        std::iter::once(ours).chain(others).collect()
    }
}

impl State {
    /// Whether the others certainly have not declared this gateway dead.
    fn is_fresh(&self) -> bool {
        self.alive
            .is_some_and(|(_, last)| last.elapsed(&self.clock) < FRESH)
    }

    fn takes_part(&self) -> bool {
        self.named_beats != 1
            && self
                .others
                .iter()
                .all(|other| other.sees.contains(&self.id))
    }

    /// The server read its clock between the beginning of the heartbeat and this call.
    fn compare_clock(&mut self, begun_at: Moment, server_ms: i64) -> ClockNews {
        let took = begun_at.instant.elapsed();
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = begun_at.time.as_millisecond() + took_ms / 2 - server_ms;
        self.clock_ahead_ms = ahead_ms;
        let wrong_ms = ahead_ms.abs() - took_ms / 2;
        if !self.is_clock_wrong && wrong_ms > CLOCK_MAX_MS {
            self.is_clock_wrong = true;
            ClockNews::Wrong { ahead_ms }
        } else if self.is_clock_wrong && wrong_ms <= CLOCK_RIGHT_MS {
            self.is_clock_wrong = false;
            ClockNews::RightAgain
        } else {
            ClockNews::AsBefore
        }
    }

    fn compared(&self) -> Compared {
        Compared {
            ids: self.others.iter().map(|other| other.id).collect(),
            said: self
                .others
                .iter()
                .map(|other| (other.name.clone(), other.configuration.clone()))
                .collect(),
            is_fresh: self.is_fresh(),
            takes_part: self.takes_part(),
        }
    }
}

/// State of the membership on which the gateway must act when it changes.
#[derive(PartialEq)]
struct Compared {
    ids: Vec<i64>,
    said: Vec<(String, Configuration)>,
    is_fresh: bool,
    takes_part: bool,
}

/// A unique id.
fn new_id() -> Result<i64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(i64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Membership {
        let membership = Membership::new(Clock::default()).unwrap();
        membership.announce(GatewayIdentity {
            name: name.into(),
            ..GatewayIdentity::default()
        });
        membership
    }

    /// Sends a heartbeat that finds these others.
    fn beat(membership: &Membership, others: &[&Heartbeat]) -> Changes {
        let others = others.iter().map(|other| Other {
            id: other.id,
            name: other.identity.name.clone(),
            configuration: Configuration::default(),
            sees: other.sees.clone(),
            silent_for: Duration::ZERO,
        });
        let now = Moment::now(&membership.clock);
        let reply = Reply {
            is_counted: true,
            silent_ms: Some(0),
            server_ms: now.time.as_millisecond(),
            others: others.collect(),
        };
        membership.reply(now, &membership.heartbeat(), reply, false)
    }

    #[test]
    fn gateways_that_join_at_one_moment_take_no_part_until_each_counts_the_other() {
        let (one, other) = (named("one"), named("other"));
        for membership in [&one, &other] {
            let changes = beat(membership, &[]);
            assert!(changes.are_to_be_said, "once more, and at once");
            assert_eq!(membership.share("app"), LimitShare::Joining);
        }
        // Now each sees what the other had said, which counts with nobody.
        let (of_one, of_other) = (one.heartbeat(), other.heartbeat());
        beat(&one, &[&of_other]);
        beat(&other, &[&of_one]);
        assert_eq!(one.share("app"), LimitShare::Joining);
        assert_eq!(other.share("app"), LimitShare::Joining);
        let (of_one, of_other) = (one.heartbeat(), other.heartbeat());
        beat(&one, &[&of_other]);
        beat(&other, &[&of_one]);
        for membership in [&one, &other] {
            assert!(membership.gateways()[0].takes_part);
            assert_ne!(membership.share("app"), LimitShare::ALONE);
        }
    }

    #[test]
    fn a_wrong_clock_is_reported_once_and_its_correction_once() {
        let membership = named("one");
        let told = |ahead_ms: i64| {
            let now = Moment::now(&membership.clock);
            let server_ms = now.time.as_millisecond() - ahead_ms;
            lock(&membership.known).compare_clock(now, server_ms)
        };
        assert_eq!(told(1500), ClockNews::AsBefore);
        assert!(matches!(
            told(-3000),
            ClockNews::Wrong {
                ahead_ms: -3000..=-2900
            }
        ));
        assert_eq!(told(-3000), ClockNews::AsBefore);
        assert_eq!(told(-1900), ClockNews::AsBefore);
        assert!(membership.gateways()[0].clock_ahead_ms.is_some());
        assert_eq!(told(0), ClockNews::RightAgain);
        assert_eq!(membership.gateways()[0].clock_ahead_ms, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_came_late_judges_no_other_for_a_while() {
        let membership = named("one");
        let silence = Duration::from_secs(10);
        assert!(membership.may_judge(silence));
        let reply = Reply {
            is_counted: true,
            silent_ms: None,
            server_ms: Timestamp::now().as_millisecond(),
            others: Vec::new(),
        };
        membership.reply(
            Moment::now(&membership.clock),
            &membership.heartbeat(),
            reply,
            true,
        );
        beat(&membership, &[]);
        assert!(!membership.may_judge(silence));
        tokio::time::advance(silence + Duration::from_millis(1)).await;
        assert!(membership.may_judge(silence));
    }
}
