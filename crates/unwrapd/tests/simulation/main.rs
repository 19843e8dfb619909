//! Simulates the deliveries of a gateway in thousands of different schedules, in paused time.
//!
//! A seed determines a schedule ([`world`]): single and duplicate messages arrive; destinations
//! ([`script`]) succeed, fail, hang, panic and refuse; the store ([`store`]) is slow, and fails
//! before or after its work; the process crashes and restarts; the wall clock jumps; destinations
//! are paused and resumed, and their limits change. The dispatchers are the real ones, and the time
//! is Tokio's paused time, which advances to the next event. A ledger ([`ledger`]) watches every
//! claim, attempt and settlement. The first broken promise ends the schedule and reports its seed.
//!
//! There is no schedule on PostgreSQL: paused time advances while bytes are in transit to a server,
//! so every answer would be too late. Its place is taken by the crash harness with three gateways
//! in real time (`scripts/crash-test --store postgres`), in which the database records the leases,
//! and by `tests/it/interleaved.rs`, in which a seed alternates two stores.
//!
//! - `SIM_SEED=7 cargo test --test simulation` repeats one schedule and prints each step;
//! - `SIM_SCHEDULES=100000 cargo test --release --test simulation` makes a long run, from
//!   `SIM_SEED` on if that is set.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod ledger;
mod script;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use unwrapd_testkit::{memory_store, tally};

use memory_store::Disk;
use world::Place;

/// Default number of schedules of a run.
const SCHEDULES: u64 = 1000;
/// One of so many schedules runs on SQLite, where time does not advance while the disk works.
const FOR_ONE_ON_SQLITE: u64 = 100;
/// One for each processor.
const THREADS: usize = 2;

#[test]
fn the_promises_hold_in_every_schedule() {
    run_all(1, || Place::Memory(Disk::default()));
}

#[test]
fn the_promises_hold_in_every_schedule_on_sqlite() {
    run_all(FOR_ONE_ON_SQLITE, || Place::Sqlite(TempDir::new().unwrap()));
}

#[test]
fn a_seed_makes_the_same_schedule_again() {
    for seed in 0..20 {
        let [first, second] = [(); 2].map(|()| run(seed, Place::Memory(Disk::default()), false));
        assert_eq!(first.unwrap(), second.unwrap(), "seed {seed}");
    }
}

fn run_all(for_one: u64, place: impl Fn() -> Place + Sync) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed: Option<u64> = number("SIM_SEED");
    let schedules = number("SIM_SCHEDULES").unwrap_or(seed.map_or(SCHEDULES, |_| 1));
    let schedules = schedules.div_ceil(for_one);
    let from = seed.unwrap_or_default();
    let is_told = seed.is_some() && schedules == 1;
    let next = AtomicU64::new(from);
    let broken = std::thread::scope(|scope| {
        let walk = || {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= from + schedules {
                    return None;
                }
                if let Err(broken) = run(seed, place(), is_told) {
                    // Stops the other thread.
                    next.store(u64::MAX / 2, Ordering::SeqCst);
                    return Some(format!("SIM_SEED={seed}: {broken}"));
                }
            }
        };
        let threads = [(); THREADS].map(|()| scope.spawn(walk));
        threads.map(|thread| thread.join().unwrap())
    });
    let broken: Vec<String> = broken.into_iter().flatten().collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Runs one schedule. Returns a digest of all its events.
fn run(seed: u64, place: Place, is_told: bool) -> Result<u64, String> {
    // Seeds the jitter of retries.
    fastrand::seed(seed);
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(world::live(seed, place, is_told))
}
