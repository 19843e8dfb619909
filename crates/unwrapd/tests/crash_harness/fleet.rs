//! Three gateways on one database. A task for each gateway kills, freezes and restarts it, all at
//! the same time, and another task stops and kills the database.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use unwrapd::crash::CrashPoint;

use crate::application::{Application, RateLimiter};
use crate::audit;
use crate::chronicle::{Chronicle, Deeds, now_ms};
use crate::database::Database;
use crate::gateway::{Gateway, copy_binary, write_config};
use crate::jumps::Jumps;
use crate::kill::Kill;
use crate::ledger::Ledger;
use crate::openai::{self, Door, Wall};
use crate::support::postgres::free_port;
use crate::support::{self, PATIENCE};
use crate::{PROGRESS_EVERY, Plan, SENDERS};

const GATEWAYS: usize = 3;
/// Time after which a sender tries another gateway. A frozen gateway does not answer.
const ANSWER_MAX: Duration = Duration::from_millis(700);
/// Rest before a gateway that did not find the database is restarted.
const TURNED_AWAY: Duration = Duration::from_millis(200);
/// Number of processes out of ten that are frozen once before they are killed.
const FROZEN_IN_TEN: u8 = 3;
/// One of this many freezes is longer than the silence after which the others declare a gateway
/// dead.
const LONG_ONE_IN: u8 = 5;
/// Silence after which a gateway is declared dead, and longest freeze, in milliseconds.
const SILENCE_MS: u64 = 10_000;
const LONG_MS_MAX: u64 = 16_000;
const SHORT_MS_MAX: u64 = 1_500;
/// Latest beginning of a freeze after the process receives, in milliseconds.
const FREEZING_MS_MAX: u64 = 400;
/// Longest wait for a process to reach its crash point. Then it is killed wherever it is.
const POINT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Number of kills and freezes between two outages of the database.
const SPARED: std::ops::Range<u32> = 4..9;
/// Longest outage of the database, besides its start, in milliseconds.
const AWAY_MS_MAX: u64 = 700;
/// Longest wait for everything to be acknowledged and delivered after the last fault. It is shorter
/// than a lease: deliveries of a dead gateway must wait only until the others declare it dead.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// Interval between checks for the end of a run.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct Fleet<'a> {
    database: &'a Database,
    pub(crate) ledger: Ledger,
    pub(crate) chronicle: Chronicle,
    pub(crate) started: Instant,
    applications: Vec<Application>,
    senders: tokio::sync::Mutex<JoinSet<()>>,
    /// Addresses to which the senders post.
    doors: watch::Sender<Vec<Door>>,
    /// The folder and the port of each gateway. A restarted gateway replaces the one before.
    seats: Vec<(PathBuf, u16)>,
    rng: std::sync::Mutex<Rng>,
    /// Number of processes started so far.
    lives: AtomicU32,
    /// Whether each gateway is in a long freeze. Its neighbour stays alive meanwhile, because some
    /// gateway must notice.
    frozen: watch::Sender<[bool; GATEWAYS]>,
    /// Increases with every fault.
    blows: watch::Sender<u32>,
    is_over: AtomicBool,
}

impl<'a> Fleet<'a> {
    pub(crate) async fn start(plan: &Plan, folder: &Path, database: &'a Database) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let mut seats = Vec::new();
        for seat in 1..=GATEWAYS {
            let folder = folder.join(format!("gateway-{seat}"));
            std::fs::create_dir(&folder).unwrap();
            copy_binary(&folder);
            seats.push((folder, free_port()));
        }
        let ledger = Ledger::default();
        let applications = Application::start_all(&ledger, &mut rng, RateLimiter::SLOW).await;
        let fleet = Self {
            database,
            ledger,
            chronicle: Chronicle::default(),
            started: Instant::now(),
            applications,
            senders: tokio::sync::Mutex::default(),
            doors: watch::Sender::new(Vec::new()),
            seats,
            rng: std::sync::Mutex::new(rng),
            lives: AtomicU32::new(0),
            frozen: watch::Sender::new([false; GATEWAYS]),
            blows: watch::Sender::new(0),
            is_over: AtomicBool::new(false),
        };
        // The first gateway creates the tables.
        let (_, mut first) = fleet.start_gateway(0, None);
        first.ready().await.unwrap().expect("it starts");
        first.stop().await.unwrap();
        audit::install(database);
        fleet
    }

    pub(crate) async fn strike_and_drain(&self, plan: &Plan) -> anyhow::Result<()> {
        let client = support::client_that_waits(ANSWER_MAX);
        for _ in 0..SENDERS * GATEWAYS {
            self.senders.lock().await.spawn(openai::send(
                self.ledger.clone(),
                self.doors.subscribe(),
                client.clone(),
                self.fork(),
            ));
        }
        let jumps = self.seats.iter().filter(|_| plan.jumps);
        let jumps: Vec<Jumps> = jumps
            .map(|(folder, _)| Jumps::start(folder, Wall::default(), self.fork()))
            .collect();
        let over = async {
            let ended = tokio::try_join!(
                self.strike_gateways(0, plan),
                self.strike_gateways(1, plan),
                self.strike_gateways(2, plan),
            );
            self.is_over.store(true, Ordering::SeqCst);
            // Wakes waiting tasks, so that they see the end of the run.
            self.blows.send_modify(|_| {});
            ended
        };
        let (gateways, database, ()) =
            tokio::join!(over, self.strike_database(), self.log_progress());
        database?;
        let (one, other, third) = gateways?;
        drop(jumps);
        self.drain([one, other, third]).await
    }

    /// Runs one process after another in this seat. The last one keeps running.
    async fn strike_gateways(&self, seat: usize, plan: &Plan) -> anyhow::Result<(u32, Gateway)> {
        let mut rng = self.fork();
        // The first process of each run gets a long freeze, so that no run lacks one.
        let mut freeze = (seat == 0).then_some(Freeze::Long);
        while self.chronicle.read(Deeds::blows) < plan.kills && !self.is_over() {
            let mut kill = Kill::draw(&mut rng, CrashPoint::POSTGRES);
            let mut freeze = freeze.take().or_else(|| Freeze::draw(&mut rng));
            if self.frozen.borrow()[neighbour(seat)] {
                (kill, freeze) = (Kill::Running(Duration::ZERO), None);
            }
            let lived = self.live_and_die(seat, &kill, freeze, &mut rng).await;
            if lived.is_err() || self.ledger.has_offences() {
                self.is_over.store(true, Ordering::SeqCst);
            }
            lived?;
        }
        loop {
            let from = now_ms();
            let (life, mut gateway) = self.start_gateway(seat, None);
            if let Some(addresses) = gateway.ready().await? {
                self.open_door(life, addresses.webhooks);
                return Ok((life, gateway));
            }
            let ended = gateway.kill().await;
            if !self.was_away_since(from) {
                ended?;
            }
            self.turned_away().await;
        }
    }

    async fn turned_away(&self) {
        self.chronicle.note(|deeds| deeds.turned_away += 1);
        sleep(TURNED_AWAY).await;
    }

    async fn live_and_die(
        &self,
        seat: usize,
        kill: &Kill,
        freeze: Option<Freeze>,
        rng: &mut Rng,
    ) -> anyhow::Result<()> {
        let from = now_ms();
        let (life, mut gateway) = self.start_gateway(seat, kill.crash_at().as_deref());
        let mut has_received = false;
        if let Kill::Starting(after) = kill {
            sleep(*after).await;
        } else if let Some(addresses) = gateway.ready().await? {
            has_received = true;
            self.open_door(life, addresses.webhooks);
            if let Some(freeze) = freeze {
                sleep(Duration::from_millis(rng.u64(..FREEZING_MS_MAX))).await;
                self.freeze(seat, life, &gateway, freeze).await?;
            }
        }
        let mut is_at_point = false;
        match kill {
            Kill::Starting(_) => {}
            Kill::Running(after) => {
                let mut frozen = self.frozen.subscribe();
                frozen.wait_for(|frozen| !frozen[neighbour(seat)]).await?;
                sleep(*after).await;
            }
            Kill::AtPoint { .. } => {
                is_at_point = timeout(POINT_WAIT_MAX, gateway.died()).await.is_ok();
            }
        }
        let killed = gateway.kill().await;
        self.close_door(life);
        self.chronicle.note(|deeds| deeds.ended(life));
        if killed.is_err() && !has_received && self.was_away_since(from) {
            self.turned_away().await;
            return Ok(());
        }
        killed?;
        self.chronicle.note(|deeds| match kill {
            Kill::Starting(_) => deeds.tally.starting += 1,
            Kill::AtPoint { .. } if is_at_point => deeds.tally.at_point += 1,
            _ => deeds.tally.running += 1,
        });
        self.blows.send_modify(|blows| *blows += 1);
        Ok(())
    }

    /// Freezes the process. The senders continue to post to it.
    async fn freeze(
        &self,
        seat: usize,
        life: u32,
        gateway: &Gateway,
        freeze: Freeze,
    ) -> anyhow::Result<()> {
        if matches!(freeze, Freeze::Long) {
            self.holds(life).await;
        }
        let from = now_ms();
        if gateway.freeze().is_err() {
            // The process reached its crash point before.
            return Ok(());
        }
        match freeze {
            Freeze::Short(time) => sleep(time).await,
            Freeze::Long => {
                self.frozen.send_modify(|frozen| frozen[seat] = true);
                self.inherited(life, from).await;
            }
        }
        let thawed = gateway.thaw();
        self.frozen.send_modify(|frozen| frozen[seat] = false);
        thawed?;
        self.chronicle.note(|deeds| {
            deeds.thawed(life, from);
            match freeze {
                Freeze::Short(_) => deeds.short_freezes += 1,
                Freeze::Long => deeds.long_freezes += 1,
            }
        });
        self.blows.send_modify(|blows| *blows += 1);
        Ok(())
    }

    /// Waits until the process holds a lease, but no longer than [`POINT_WAIT_MAX`]: perhaps no
    /// delivery waits.
    async fn holds(&self, life: u32) {
        let deadline = Instant::now() + POINT_WAIT_MAX;
        while Instant::now() < deadline
            && !tokio::task::block_in_place(|| audit::holds(self.database, life))
        {
            sleep(LOOK_EVERY / 10).await;
        }
    }

    /// Waits until another gateway holds a delivery of the process: the worst moment to resume. The
    /// wait is bounded, because the process may have held none.
    async fn inherited(&self, life: u32, from: u64) {
        sleep(Duration::from_millis(SILENCE_MS)).await;
        let deadline = from + LONG_MS_MAX;
        while now_ms() < deadline
            && !tokio::task::block_in_place(|| audit::is_inherited(self.database, life))
        {
            sleep(LOOK_EVERY / 10).await;
        }
    }

    /// Interrupts the database from time to time: by a fast shutdown, an immediate one, or a kill
    /// like a power failure.
    async fn strike_database(&self) -> anyhow::Result<()> {
        let mut rng = self.fork();
        let mut blows = self.blows.subscribe();
        loop {
            let aim = *blows.borrow() + rng.u32(SPARED);
            blows
                .wait_for(|blows| *blows >= aim || self.is_over())
                .await?;
            if self.is_over() {
                return Ok(());
            }
            let server = &self.database.0;
            let from = now_ms();
            self.chronicle.note(|deeds| deeds.goes_away(from));
            let how = rng.u8(..3);
            tokio::task::block_in_place(|| match how {
                0 => server.stop(Signal::INT),
                1 => server.stop(Signal::QUIT),
                _ => server.kill(),
            });
            sleep(Duration::from_millis(rng.u64(..AWAY_MS_MAX))).await;
            tokio::task::block_in_place(|| server.start_again());
            self.chronicle.note(|deeds| {
                deeds.is_back(from);
                match how {
                    0 => deeds.stopped += 1,
                    1 => deeds.aborted += 1,
                    _ => deeds.killed += 1,
                }
            });
        }
    }

    async fn log_progress(&self) {
        let mut blows = self.blows.subscribe();
        let mut every = interval(PROGRESS_EVERY);
        while !self.is_over() {
            tokio::select! {
                _ = blows.wait_for(|_| self.is_over()) => {}
                _ = every.tick() => {
                    let seconds = self.started.elapsed().as_secs();
                    let blows = *self.blows.borrow();
                    eprintln!("blow {blows}: {} {seconds} s", self.ledger.progress());
                }
            }
        }
    }

    /// Waits until everything is acknowledged and delivered, and stops the gateways gracefully.
    async fn drain(&self, gateways: [(u32, Gateway); GATEWAYS]) -> anyhow::Result<()> {
        self.ledger.calm();
        // The verdict reports what is missing at the time limit.
        let drained = timeout(DRAIN_MAX, async {
            self.ledger.settled().await;
            // A message that was delivered and not settled must be delivered again.
            let mut looks = interval(LOOK_EVERY);
            while tokio::task::block_in_place(|| self.database.open_deliveries()) > 0 {
                looks.tick().await;
            }
        });
        let in_time = drained.await.is_ok();
        let waiting = self.database.waiting();
        for (life, gateway) in gateways {
            self.close_door(life);
            gateway.stop().await?;
        }
        if in_time {
            let mut senders = self.senders.lock().await;
            let ended = async {
                while senders.join_next().await.transpose()?.is_some() {}
                Ok::<_, anyhow::Error>(())
            };
            timeout(PATIENCE, ended)
                .await
                .context("a sender does not end")??;
        }
        let open = self.database.open_deliveries();
        ensure!(
            open == 0,
            "{open} deliveries wait in the store {} s after the last blow:\n{waiting}",
            DRAIN_MAX.as_secs()
        );
        if !in_time {
            bail!("not everything is acknowledged");
        }
        Ok(())
    }

    fn start_gateway(&self, seat: usize, crash_at: Option<&str>) -> (u32, Gateway) {
        let life = self.lives.fetch_add(1, Ordering::SeqCst) + 1;
        let (folder, port) = &self.seats[seat];
        let store = self.database.url(life);
        write_config(folder, *port, &store, &self.applications, life);
        (life, Gateway::start(folder, life, crash_at))
    }

    fn open_door(&self, life: u32, url: String) {
        // The gateways use the clock of the database, which is right.
        let wall = Wall::default();
        self.doors
            .send_modify(|doors| doors.push(Door { life, url, wall }));
    }

    fn close_door(&self, life: u32) {
        self.doors
            .send_modify(|doors| doors.retain(|door| door.life != life));
    }

    fn fork(&self) -> Rng {
        self.rng.lock().unwrap().fork()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn was_away_since(&self, from: u64) -> bool {
        self.chronicle
            .read(|deeds| deeds.was_away(&(from..now_ms())))
    }
}

/// The gateway that this one watches.
fn neighbour(seat: usize) -> usize {
    (seat + GATEWAYS - 1) % GATEWAYS
}

/// Length of a freeze.
#[derive(Clone, Copy)]
enum Freeze {
    /// Too short to be noticed.
    Short(Duration),
    /// Until another gateway has taken over.
    Long,
}

impl Freeze {
    fn draw(rng: &mut Rng) -> Option<Self> {
        (rng.u8(..10) < FROZEN_IN_TEN).then(|| {
            if rng.u8(..LONG_ONE_IN) == 0 {
                Self::Long
            } else {
                Self::Short(Duration::from_millis(rng.u64(..SHORT_MS_MAX)))
            }
        })
    }
}
