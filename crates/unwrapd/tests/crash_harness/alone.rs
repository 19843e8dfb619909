//! One gateway on its own store, killed and restarted again and again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use unwrapd::crash::CrashPoint;

use crate::application::{Application, RateLimiter};
use crate::gateway::{Gateway, copy_binary, write_config};
use crate::jumps::Jumps;
use crate::kill::{Kill, Tally};
use crate::ledger::Ledger;
use crate::openai::{self, Door, Wall};
use crate::support::{self, PATIENCE};
use crate::{PROGRESS_EVERY, Plan, SENDERS, store};

/// Longest wait for a process to reach its crash point. Then it is killed wherever it is.
const POINT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for everything to be acknowledged and delivered after the last kill. It is shorter
/// than a lease: deliveries leased by a dead process must not wait for the end of the lease.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// Maximum number of restarts after the last kill until no delivery waits.
const DRAINS_MAX: u32 = 8;

/// The state of a run, which outlives its gateway processes.
pub(crate) struct Run<'a> {
    folder: &'a Path,
    database: &'a Path,
    pub(crate) ledger: Ledger,
    applications: Vec<Application>,
    senders: JoinSet<()>,
    /// Addresses to which the senders post. Empty while no gateway runs.
    doors: watch::Sender<Vec<Door>>,
    wall: Wall,
    rng: Rng,
    /// Number of processes started so far.
    lives: u32,
    pub(crate) tally: Tally,
    pub(crate) started: Instant,
}

impl<'a> Run<'a> {
    pub(crate) async fn new(plan: &Plan, folder: &'a Path, database: &'a Path) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        copy_binary(folder);
        let ledger = Ledger::default();
        let applications = Application::start_all(&ledger, &mut rng, RateLimiter::TIMELESS).await;
        let doors = watch::Sender::new(Vec::new());
        let client = support::client();
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(openai::send(
                ledger.clone(),
                doors.subscribe(),
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
            doors,
            wall: Wall::default(),
            rng,
            lives: 0,
            tally: Tally::default(),
            started: Instant::now(),
        }
    }

    pub(crate) async fn kill_and_drain(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let jumps = plan
            .jumps
            .then(|| Jumps::start(self.folder, self.wall.clone(), self.rng.fork()));
        let mut told = Instant::now();
        while self.tally.kills() < plan.kills {
            let kill = Kill::draw(&mut self.rng, CrashPoint::SQLITE);
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
        drop(jumps);
        self.drain().await
    }

    async fn live_and_die(&mut self, kill: Kill) -> anyhow::Result<()> {
        let mut gateway = self.start(kill.crash_at().as_deref());
        if let Kill::Starting(after) = kill {
            sleep(after).await;
        } else if let Some(addresses) = gateway.ready().await? {
            self.open_door(addresses.webhooks);
        }
        match kill {
            Kill::Starting(_) => self.tally.starting += 1,
            Kill::Running(after) => {
                sleep(after).await;
                self.tally.running += 1;
            }
            // Work left by an earlier process may reach the point before the gateway receives, and
            // the point may be passed too rarely.
            Kill::AtPoint { .. } => match timeout(POINT_WAIT_MAX, gateway.died()).await {
                Ok(()) => self.tally.at_point += 1,
                Err(_) => self.tally.running += 1,
            },
        }
        let killed = gateway.kill().await;
        self.doors.send_replace(Vec::new());
        killed
    }

    /// Waits until everything is acknowledged and delivered, and stops the gateway gracefully.
    async fn drain(&mut self) -> anyhow::Result<()> {
        self.ledger.calm();
        let mut gateway = self.start(None);
        let addresses = gateway
            .ready()
            .await?
            .context("it ended before it received")?;
        self.open_door(addresses.webhooks);
        // The verdict reports what is missing at the time limit.
        let in_time = timeout(DRAIN_MAX, self.ledger.settled()).await.is_ok();
        gateway.stop().await?;
        if !in_time {
            return Ok(());
        }
        while self.senders.join_next().await.transpose()?.is_some() {}

        // A message that was delivered, but not settled when the process died, must be delivered
        // again.
        for _ in 0..DRAINS_MAX {
            let open = store::open_deliveries(self.database);
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
        // Each process delivers to its own URLs. They identify the process of a request even if the
        // request is read late.
        let store = format!("sqlite:{}", self.database.display());
        write_config(self.folder, 0, &store, &self.applications, self.lives);
        Gateway::start(self.folder, self.lives, crash_at)
    }

    fn open_door(&self, url: String) {
        let life = self.lives;
        let wall = self.wall.clone();
        self.doors.send_replace(vec![Door { life, url, wall }]);
    }
}
