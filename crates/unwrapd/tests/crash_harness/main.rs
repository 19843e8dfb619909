//! Kills the gateway again and again while webhooks arrive, and then compares the ledger with the
//! store.
//!
//! Several senders ([`openai`]) post signed webhooks to the real binary ([`gateway`]), which
//! delivers to two destinations ([`application`]) that fail and hang from time to time. It is
//! killed ([`kill`]) with SIGKILL at random instants, while it starts, and at the crash points of
//! `src/crash.rs`, and restarted on the same store. Everything that was posted, acknowledged and
//! delivered is recorded ([`ledger`]). At the end the faults stop, the store is read with plain SQL
//! ([`store`]), and both are compared ([`verdict`]).
//!
//! On SQLite this is one gateway ([`alone`]). On PostgreSQL there are three ([`fleet`]), which are
//! also frozen, while the database is stopped and killed. These faults are recorded too
//! ([`chronicle`]). Triggers in the database record which gateway leased which delivery during
//! which time ([`audit`]), so that double leases are found, and every repeated delivery must have a
//! reason there.
//!
//! Meanwhile the wall clocks of the gateways jump ([`jumps`]), ahead and back, by hours and by
//! years. This must neither give up nor withhold anything. On PostgreSQL the gateways use the clock
//! of the database.
//!
//! `scripts/crash-test --kills 1000` makes a long run. The seed decides every choice: which process
//! is killed when, which delivery fails, which webhook is sent twice. It does not decide how
//! threads and processes interleave, so the same seed makes a similar run, not the same one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![allow(
    clippy::print_stderr,
    reason = "a run of many minutes tells how far it is"
)]

mod alone;
mod audit;
mod chronicle;
mod database;
mod fleet;
mod jumps;
mod kill;

use std::time::{Duration, Instant};

use tempfile::TempDir;
use unwrapd_testkit as support;
use unwrapd_testkit::crash::{application, gateway, ledger, openai, store, verdict, webhooks};

use audit::Audit;
use database::Database;
use fleet::Fleet;
use verdict::Verdict;

/// Default number of kills of a run.
const KILLS: u32 = 25;
const SENDERS: usize = 6;
/// Interval between reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_matches_the_store_after_many_kills() {
    let plan = Plan::from_environment();
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("unwrapd.db");
    let mut run = alone::Run::new(&plan, folder.path(), &database).await;
    let ended = run.kill_and_drain(&plan).await;

    let verdict = Verdict::reach(&run.ledger, &store::read(&database).unwrap());
    eprintln!("{}\n{verdict}", run.tally);
    plan.conclude(run.started, ended, verdict.is_clean(), folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_matches_the_store_in_postgresql() {
    let plan = Plan::from_environment();
    let folder = TempDir::new().unwrap();
    let database = Database::start();
    let fleet = Fleet::start(&plan, folder.path(), &database).await;
    let ended = fleet.strike_and_drain(&plan).await;

    let audit = Audit::read(&database);
    let stored = database.read();
    let (verdict, offences) = fleet.chronicle.read(|deeds| {
        let verdict = audit.verdict(&fleet.ledger, &stored, deeds);
        eprintln!("{deeds}\n{verdict}\n{audit}");
        (verdict, audit.offences(deeds))
    });
    for offence in &offences {
        eprintln!("{offence}");
    }
    let is_clean = verdict.is_clean() && offences.is_empty();
    plan.conclude(fleet.started, ended, is_clean, folder);
}

/// The plan of a run, from environment variables: the arguments of a test belong to its harness.
struct Plan {
    seed: u64,
    kills: u32,
    /// Whether clocks jump.
    jumps: bool,
}

impl Plan {
    fn from_environment() -> Self {
        let plan = Self {
            seed: number("CRASH_SEED").unwrap_or_else(|| fastrand::u64(..)),
            kills: number("CRASH_KILLS").unwrap_or(KILLS),
            jumps: number("CRASH_JUMPS").unwrap_or(1) > 0,
        };
        eprintln!(
            "seed {}, {} kills, clocks jump: {}",
            plan.seed, plan.kills, plan.jumps
        );
        plan
    }

    /// Fails the test unless the verdict is good, and keeps the evidence.
    fn conclude(
        &self,
        started: Instant,
        ended: anyhow::Result<()>,
        is_clean: bool,
        folder: TempDir,
    ) {
        eprintln!("seconds     {:.0}", started.elapsed().as_secs_f64());
        if ended.is_ok() && is_clean {
            return;
        }
        if let Err(error) = ended {
            eprintln!("{error:#}");
        }
        panic!(
            "FAILED at seed {}, {} kills; what it kept is in {}",
            self.seed,
            self.kills,
            folder.keep().display()
        );
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let Ok(number) = text.parse() else {
        panic!("{variable} must be a number");
    };
    Some(number)
}
