//! Random faults under load, with power failures between them, and the verdict at the end.
//!
//! `FAULT_SEED` is the seed of an earlier run, for a similar one; `FAULT_ROUNDS` makes a long run.

use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;
use tokio::time::sleep;

use crate::rig::Rig;
use crate::shim::{ALL_FILES, Fault, OPEN, READ, SYNC, TRUNCATE, WRITE};

/// Default number of faults of a run.
const ROUNDS: u64 = 10;
/// Longest duration of a fault, in milliseconds.
const LASTING_MS_MAX: u64 = 300;
/// Percentage of faults that end with a power failure.
const POWER_CUT_PERCENT: u8 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_matches_the_store_after_many_faults() {
    let seed = number("FAULT_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = number("FAULT_ROUNDS").unwrap_or(ROUNDS);
    // Shown if the test fails.
    println!("FAULT_SEED={seed} FAULT_ROUNDS={rounds}");
    let mut rng = Rng::with_seed(seed);
    let mut rig = Rig::start_under_load(rng.u64(..)).await;
    for round in 1..=rounds {
        let fault = draw(&mut rng);
        println!("{round}: {fault:?}");
        rig.shim.inject(&fault);
        sleep(Duration::from_millis(rng.u64(..LASTING_MS_MAX))).await;
        if rng.u8(..100) < POWER_CUT_PERCENT {
            println!("{round}: power cut");
            rig.survives_power_cut().await;
        }
        rig.shim.lift();
        rig.acknowledges().await;
    }
    rig.balances().await;
}

fn draw(rng: &mut Rng) -> Fault {
    let some = |rng: &mut Rng, all: u64| loop {
        let some = rng.u64(..) & all;
        if some != 0 {
            return some;
        }
    };
    let calls = some(rng, OPEN | WRITE | SYNC | TRUNCATE | READ);
    let fault = Fault::new(calls, [Errno::IO, Errno::NOSPC][rng.usize(..2)])
        .of_files(some(rng, ALL_FILES))
        .at_random([1, 10, 100][rng.usize(..3)])
        .after(rng.u64(..20))
        .at_most([1, 10, u64::MAX][rng.usize(..3)]);
    if rng.bool() { fault.torn() } else { fault }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let Ok(number) = text.parse() else {
        panic!("{variable} must be a number");
    };
    Some(number)
}
