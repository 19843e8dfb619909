//! Two PostgreSQL stores take turns according to a seed, and each step must give the result of a
//! model of one table. Time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use unwrapd::delivery::{Lane, Next};
use unwrapd::store::{Accepted, Attempt, Lease, Settled, Store};

use crate::store_conformance::{LEASE, Place as _, PostgresPlace, accept, at, attempt};
use crate::support::tally::Counted as _;

const STEPS: u64 = 300;
const SEEDS: u64 = 4;
/// Longer than the interval between two searches.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum number of deliveries in a claim.
const LIMIT: usize = 4;
/// A lease may end some milliseconds later, because each claim has its own end.
const LEASE_SECONDS: i64 = 60;

/// The expected state of a delivery.
#[derive(Debug, Default)]
struct Model {
    due: i64,
    /// Number of the last claim that was not released, with its holder and its end.
    number: u32,
    held: Option<Held>,
    /// Number of the last settled attempt.
    settled: u32,
    is_over: bool,
}

impl Model {
    /// Whether this is the last claim, and was not settled. Its end does not matter.
    fn is_open(&self, number: u32) -> bool {
        self.number == number && self.settled < number && !self.is_over
    }
}

#[derive(Clone, Copy, Debug)]
struct Held {
    by: usize,
    lease: Lease,
    until: i64,
}

struct World {
    place: PostgresPlace,
    stores: [Arc<dyn Store>; 2],
    rng: Rng,
    now: i64,
    step: u64,
    accepted: u64,
    deliveries: BTreeMap<i64, Model>,
    /// All claims so far, to be settled in time, late, twice or never.
    claims: Vec<Lease>,
}

#[tokio::test]
async fn a_delivery_has_one_holder_however_two_stores_interleave() {
    let asked = std::env::var("INTERLEAVED_SEED").ok();
    let first = asked.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    for seed in first..first.saturating_add(SEEDS) {
        // Shown if the test fails.
        println!("INTERLEAVED_SEED={seed}");
        World::begin(seed).await.live().await;
    }
}

impl World {
    async fn begin(seed: u64) -> Self {
        let place = PostgresPlace::new();
        let stores = [place.open().await, place.open().await];
        Self {
            place,
            stores,
            rng: Rng::with_seed(seed),
            now: 0,
            step: 0,
            accepted: 0,
            deliveries: BTreeMap::new(),
            claims: Vec::new(),
        }
    }

    async fn live(mut self) {
        while self.step < STEPS {
            self.step += 1;
            let by = self.rng.usize(..2);
            match self.rng.u8(..20) {
                0..5 => self.accept(by).await,
                5..10 => self.claim(by).await,
                10..15 => self.settle(by).await,
                15..17 => self.release(by).await,
                17..19 => self.now += self.rng.i64(0..40),
                _ => self.open_again(by).await,
            }
        }
        // At the end everything is claimed again, and settled.
        self.now += 1_000_000;
        while self.deliveries.values().any(|delivery| !delivery.is_over) {
            self.claim(0).await;
            let Lease {
                delivery: id,
                number,
                ..
            } = *self.claims.last().unwrap();
            let settled = self.settle_as(1, id, number, Next::Delivered).await;
            self.settled(id, number, Next::Delivered, settled);
            self.now += LEASE_SECONDS + 1;
        }
        let tally = self.stores[1].tally().await;
        assert_eq!((tally.messages, tally.pending), (self.accepted, 0));
    }

    async fn accept(&mut self, by: usize) {
        let id = format!("wh_{}", self.accepted);
        self.accepted += 1;
        let new = accept(&self.stores[by], &id, self.now).await;
        assert_eq!(new, Accepted::New);
        let copy = accept(&self.stores[1 - by], &id, self.now).await;
        assert_eq!(copy, Accepted::Duplicate);
        let due = self.now;
        // Its id is known once it is claimed; until then it has a temporary key.
        self.deliveries.insert(
            -i64::try_from(self.accepted).unwrap(),
            Model {
                due,
                ..Model::default()
            },
        );
    }

    async fn claim(&mut self, by: usize) {
        let limit = self.rng.usize(1..=LIMIT);
        let mut claimed = self.claim_at_most(by, limit).await;
        // A free delivery is not skipped; one that the other store released may be until the next
        // search.
        let deadline = Instant::now() + PATIENCE;
        while claimed < limit && self.free().is_some() {
            let now = Instant::now();
            assert!(now < deadline, "{:?} at {}", self.free(), self.now);
            self.stores[by].fleet().unwrap().next_change().await;
            claimed += self.claim_at_most(by, limit - claimed).await;
        }
    }

    async fn claim_at_most(&mut self, by: usize, limit: usize) -> usize {
        let claimed = self.stores[by]
            .claim("app", Lane::Standard, at(self.now), LEASE, limit)
            .await
            .unwrap();
        for delivery in &claimed.deliveries {
            let accepted: i64 = delivery.message.webhook_id[3..].parse().unwrap();
            if let Some(unknown) = self.deliveries.remove(&-(accepted + 1)) {
                self.deliveries.insert(delivery.id, unknown);
            }
            let now = self.now;
            let model = self.deliveries.get_mut(&delivery.id).unwrap();
            assert!(!model.is_over && model.due <= now, "{model:?} at {now}");
            assert!(
                model.held.is_none_or(|held| held.until <= now),
                "{model:?} at {now}"
            );
            model.number += 1;
            assert_eq!(delivery.attempt, model.number);
            let until = now + LEASE_SECONDS;
            let lease = Lease::from(delivery);
            model.held = Some(Held { by, lease, until });
            self.claims.push(lease);
        }
        claimed.deliveries.len()
    }

    /// The deliveries that may be claimed.
    fn free(&self) -> Option<&Model> {
        let now = self.now;
        self.deliveries.values().find(|model| {
            let is_held = model.held.is_some_and(|held| held.until >= now);
            !model.is_over && model.due <= now && !is_held
        })
    }

    async fn settle(&mut self, by: usize) {
        let Some(lease) = self.rng.choice(&self.claims).copied() else {
            return;
        };
        let (id, number) = (lease.delivery, lease.number);
        let due_at = at(self.now + self.rng.i64(0..60));
        let next = if self.rng.bool() {
            Next::Delivered
        } else {
            Next::Retry { due_at }
        };
        let settled = self.settle_as(by, id, number, next).await;
        self.settled(id, number, next, settled);
    }

    async fn settle_as(&self, by: usize, id: i64, number: u32, next: Next) -> Settled {
        let attempt = Attempt {
            // All are different: a repetition with equal details would take effect.
            took: Duration::from_millis(self.step * 1_000 + u64::from(number)),
            answer: "as a seed has it".into(),
            ..attempt(id, number, at(self.now), next)
        };
        self.stores[by].settle(attempt).await.unwrap()
    }

    /// Only the last claim can be settled, and only once.
    fn settled(&mut self, id: i64, number: u32, next: Next, settled: Settled) {
        let model = self.deliveries.get_mut(&id).unwrap();
        let counts = model.is_open(number);
        let expected = if counts {
            Settled::Settled
        } else {
            Settled::Fenced
        };
        assert_eq!(settled, expected, "attempt {number} of {model:?}");
        if counts {
            model.held = None;
            model.settled = number;
            match next {
                Next::Retry { due_at } => model.due = due_at.as_second() - at(0).as_second(),
                Next::Delivered | Next::Dead => model.is_over = true,
            }
        }
    }

    /// A store that has not claimed it releases nothing.
    async fn release(&mut self, by: usize) {
        let Some(lease) = self.rng.choice(&self.claims).copied() else {
            return;
        };
        self.stores[by].release(vec![lease]).await.unwrap();
        let model = self.deliveries.get_mut(&lease.delivery).unwrap();
        let is_held = model
            .held
            .is_some_and(|held| (held.by, held.lease) == (by, lease));
        if is_held && model.is_open(lease.number) {
            model.held = None;
            model.number -= 1;
            // It is claimed again with this number.
            self.claims.retain(|claimed| *claimed != lease);
        }
    }

    /// Its deliveries are free, and may still be settled.
    async fn open_again(&mut self, by: usize) {
        self.stores[by].close().await;
        self.stores[by] = self.place.open().await;
        for model in self.deliveries.values_mut() {
            model.held = model.held.filter(|held| held.by != by);
        }
    }
}
