//! Kills the gateway again and again while webhooks pour in, and then checks the books.
//!
//! Several senders ([`openai`]) post signed webhooks to the real binary ([`gateway`]), which delivers to two destinations of ours
//! ([`application`]) that fail and hang now and then. It is killed with SIGKILL at random instants, while it starts, and at the
//! named points of `src/crash.rs`, and started again on the same store. Everything that was posted, acknowledged and delivered is
//! written down ([`ledger`]). In the end all calms down, the store is read with plain SQL ([`store`]), and both are compared
//! ([`verdict`]).
//!
//! `scripts/crash-test --kills 1000` makes a long run of it. The seed decides every choice (what is killed when, who fails, who is sent
//! twice), but not how threads and processes interleave: the same seed makes a similar run, not the same one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![allow(
    clippy::print_stderr,
    reason = "a run of many minutes tells how far it is"
)]

mod application;
mod gateway;
mod ledger;
mod openai;
mod store;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;
mod verdict;
mod webhooks;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fastrand::Rng;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use unwrapd::crash::POINTS;

use application::Application;
use gateway::{Gateway, copy_binary, write_config};
use ledger::Ledger;
use store::Database;
use support::PATIENCE;
use support::postgres::Server;
use verdict::Verdict;
use webhooks::Destination;

/// Kills of a run that is not told how many.
const KILLS: u32 = 25;
const SENDERS: usize = 6;
/// The latest instant of a kill after the start of the process: about when it begins to receive.
const STARTING_MS_MAX: u64 = 60;
/// The latest instant of a kill once it receives.
const RUNNING_MS_MAX: u64 = 500;
/// How often a named point may be passed before the process dies there.
const PASSES_MAX: u32 = 24;
/// How long to wait for a process to come to its named point; then it is killed where it is.
const POINT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long everything may take to be acknowledged and delivered after the last kill. Shorter than a lease: what was leased when
/// the process died must not wait for the lease to end, but at most until other gateways take it for dead.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// Restarts after the last kill until nothing waits in the store.
const DRAINS_MAX: u32 = 8;
/// One in so many times the server of the database is killed too.
const SERVER_SPARED: u8 = 5;
/// How often a run tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_after_many_kills() {
    let folder = TempDir::new().unwrap();
    let database = Database::Sqlite(folder.path().join("unwrapd.db"));
    balance(folder, database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_in_postgresql() {
    let folder = TempDir::new().unwrap();
    balance(folder, Database::Postgres(Server::start(&[]))).await;
}

async fn balance(folder: TempDir, database: Database) {
    let plan = Plan::from_environment();
    eprintln!("seed {}, {} kills", plan.seed, plan.kills);
    let mut run = Run::new(&plan, folder.path(), &database).await;
    let ended = run.kill_and_drain(&plan).await;

    let verdict = Verdict::reach(&run.ledger, &database.read());
    eprintln!("{}\n{verdict}", run.tally);
    eprintln!("seconds     {:.0}", run.started.elapsed().as_secs_f64());
    if ended.is_ok() && verdict.is_clean() {
        return;
    }
    if let Err(error) = ended {
        eprintln!("{error:#}");
    }
    panic!(
        "FAILED at seed {}, kill {} of {}; the store is kept in {}",
        plan.seed,
        run.tally.kills(),
        plan.kills,
        folder.keep().display()
    );
}

/// What is asked for, by environment variables: the arguments of a test belong to its harness.
struct Plan {
    seed: u64,
    kills: u32,
}

impl Plan {
    fn from_environment() -> Self {
        Self {
            seed: number("CRASH_SEED").unwrap_or_else(|| fastrand::u64(..)),
            kills: number("CRASH_KILLS").unwrap_or(KILLS),
        }
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let Ok(number) = text.parse() else {
        panic!("{variable} must be a number");
    };
    Some(number)
}

/// How to kill one process.
enum Kill {
    /// So long after it was started.
    Starting(Duration),
    /// So long after it began to receive.
    Running(Duration),
    /// By itself at a named point, the `pass`th time it comes there.
    AtPoint { point: &'static str, pass: u32 },
}

impl Kill {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..10) {
            0 => Self::Starting(Duration::from_millis(rng.u64(..STARTING_MS_MAX))),
            1..6 => Self::Running(Duration::from_millis(rng.u64(..RUNNING_MS_MAX))),
            _ => Self::AtPoint {
                point: POINTS[rng.usize(..POINTS.len())],
                pass: rng.u32(1..=PASSES_MAX),
            },
        }
    }
}

/// Kills that were made.
#[derive(Default)]
struct Tally {
    starting: u32,
    running: u32,
    at_point: u32,
}

impl Tally {
    fn kills(&self) -> u32 {
        self.starting + self.running + self.at_point
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills       {}: {} while it received, {} while it started, {} at a named point",
            self.kills(),
            self.running,
            self.starting,
            self.at_point
        )
    }
}

/// Everything around the gateway, which comes and goes.
struct Run<'a> {
    folder: &'a Path,
    database: &'a Database,
    ledger: Ledger,
    applications: Vec<Application>,
    senders: JoinSet<()>,
    /// Where the senders post; `None` while there is no gateway.
    url: watch::Sender<Option<String>>,
    rng: Rng,
    /// Processes started so far.
    lives: u32,
    tally: Tally,
    started: Instant,
}

impl<'a> Run<'a> {
    async fn new(plan: &Plan, folder: &'a Path, database: &'a Database) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        copy_binary(folder);
        let ledger = Ledger::default();
        let mut applications = Vec::new();
        for destination in Destination::ALL {
            applications.push(Application::start(destination, ledger.clone(), rng.fork()).await);
        }
        let url = watch::Sender::new(None);
        let client = support::client();
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(openai::send(
                ledger.clone(),
                url.subscribe(),
                client.clone(),
                rng.fork(),
            ));
        }
        Self {
            folder,
            database,
            ledger,
            applications,
            senders,
            url,
            rng,
            lives: 0,
            tally: Tally::default(),
            started: Instant::now(),
        }
    }

    async fn kill_and_drain(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let mut told = Instant::now();
        while self.tally.kills() < plan.kills {
            let kill = Kill::draw(&mut self.rng);
            self.live_and_die(kill).await?;
            if self.ledger.has_offences() {
                bail!("stopped at the first offence");
            }
            if told.elapsed() > PROGRESS_EVERY {
                told = Instant::now();
                let seconds = self.started.elapsed().as_secs();
                let kills = self.tally.kills();
                eprintln!("kill {kills}: {} {seconds} s", self.ledger.progress());
            }
        }
        self.drain().await
    }

    async fn live_and_die(&mut self, kill: Kill) -> anyhow::Result<()> {
        let crash_at = match &kill {
            Kill::AtPoint { point, pass } => Some(format!("{point}:{pass}")),
            _ => None,
        };
        let mut gateway = self.start(crash_at.as_deref());
        if let Kill::Starting(after) = kill {
            sleep(after).await;
        } else if let Some(addresses) = gateway.ready().await? {
            self.url.send_replace(Some(addresses.webhooks));
        }
        match kill {
            Kill::Starting(_) => self.tally.starting += 1,
            Kill::Running(after) => {
                sleep(after).await;
                self.tally.running += 1;
            }
            // What an earlier process left to do may bring it there before it receives, and too few passes may come.
            Kill::AtPoint { .. } => match timeout(POINT_WAIT_MAX, gateway.died()).await {
                Ok(()) => self.tally.at_point += 1,
                Err(_) => self.tally.running += 1,
            },
        }
        let killed = gateway.kill().await;
        self.url.send_replace(None);
        if let Database::Postgres(server) = self.database
            && self.rng.u8(..SERVER_SPARED) == 0
        {
            // What was acknowledged a moment ago is on its disk.
            tokio::task::block_in_place(|| {
                server.kill();
                server.start_again();
            });
        }
        killed
    }

    /// Lets everything be acknowledged and delivered, and stops the gateway in peace.
    async fn drain(&mut self) -> anyhow::Result<()> {
        self.ledger.calm();
        let mut gateway = self.start(None);
        let addresses = gateway
            .ready()
            .await?
            .context("it ended before it received")?;
        self.url.send_replace(Some(addresses.webhooks));
        // What is missing when the time is up is for the verdict to say.
        let in_time = timeout(DRAIN_MAX, self.ledger.settled()).await.is_ok();
        gateway.stop().await?;
        if !in_time {
            return Ok(());
        }
        while self.senders.join_next().await.transpose()?.is_some() {}

        // What was delivered and not settled when the process died is still to be delivered again.
        for _ in 0..DRAINS_MAX {
            let open = self.database.open_deliveries();
            if open == 0 {
                return Ok(());
            }
            let aim = self.ledger.receptions() + open;
            let mut gateway = self.start(None);
            gateway.ready().await?;
            let received = timeout(PATIENCE, self.ledger.received_in_all(aim)).await;
            gateway.stop().await?;
            received.context("deliveries wait in the store and are not made")?;
        }
        bail!("after {DRAINS_MAX} starts there are still deliveries in the store that wait")
    }

    fn start(&mut self, crash_at: Option<&str>) -> Gateway {
        self.lives += 1;
        self.ledger.begin_life(self.lives);
        // Each process delivers to URLs of its own: so it is known which one a request is from, even if it is read late.
        let store = self.database.url();
        write_config(self.folder, &store, &self.applications, self.lives);
        Gateway::start(self.folder, crash_at)
    }
}
