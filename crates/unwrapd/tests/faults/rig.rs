//! A gateway on a simulated disk, and everything around it that the ledger needs: senders of
//! webhooks, and applications that receive them.

use std::path::{Path, PathBuf};

use fastrand::Rng;
use rusqlite::Connection;
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::application::{Application, RateLimiter};
use crate::full_disk::SmallDisk;
use crate::gateway::{Gateway, write_config};
use crate::ledger::{Book, Ledger};
use crate::openai::{Door, Wall};
use crate::power;
use crate::shim::{Fault, SYNC, Shim};
use crate::support::{self, PATIENCE};
use crate::verdict::Verdict;
use crate::webhooks::Destination;
use crate::{openai, store};

const SENDERS: usize = 4;
/// Number of equal answers that prove a state: more than the senders can have in flight at once.
const PLAIN: usize = 40;
/// Maximum number of restarts until no delivery waits.
const DRAINS_MAX: u32 = 8;

pub(crate) struct Rig {
    pub(crate) shim: Shim,
    pub(crate) ledger: Ledger,
    /// Addresses to which the senders post. Empty while no gateway runs.
    pub(crate) doors: watch::Sender<Vec<Door>>,
    pub(crate) client: reqwest::Client,
    folder: TempDir,
    applications: Vec<Application>,
    senders: JoinSet<()>,
    rng: Rng,
    gateway: Option<Gateway>,
    small_disk: Option<SmallDisk>,
    /// SQL of one more migration of the gateways.
    next_migration: Option<&'static str>,
    readyz: String,
    /// Number of processes started so far.
    lives: u32,
}

impl Rig {
    /// Starts everything but the senders.
    pub(crate) async fn start(seed: u64) -> Self {
        let mut rig = Self::before_start(seed).await;
        rig.start_gateway().await.unwrap();
        rig
    }

    /// Starts everything but the gateway and the senders.
    pub(crate) async fn before_start(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let folder = TempDir::new().unwrap();
        let disk = folder.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let ledger = Ledger::default();
        let applications = Application::start_all(&ledger, &mut rng, RateLimiter::BRISK).await;
        let shim = Shim::new(&folder.path().join("shim"), &disk.join("unwrapd.db"));
        shim.seed(rng.u64(1..));
        Self {
            shim,
            ledger,
            doors: watch::Sender::new(Vec::new()),
            client: support::client(),
            folder,
            applications,
            senders: JoinSet::new(),
            rng,
            gateway: None,
            small_disk: None,
            next_migration: None,
            readyz: String::new(),
            lives: 0,
        }
    }

    /// Starts everything, and waits until webhooks arrive.
    pub(crate) async fn start_under_load(seed: u64) -> Self {
        let mut rig = Self::start(seed).await;
        rig.load();
        rig.acknowledges().await;
        rig
    }

    /// Starts everything, and delivers this many webhooks, so that nothing is in progress.
    pub(crate) async fn start_with_deliveries(seed: u64, count: usize) -> Self {
        let mut rig = Self::start(seed).await;
        rig.deliver(count).await;
        rig
    }

    pub(crate) fn load(&mut self) {
        for _ in 0..SENDERS {
            self.senders.spawn(openai::send(
                self.ledger.clone(),
                self.doors.subscribe(),
                self.client.clone(),
                self.rng.fork(),
            ));
        }
    }

    /// Posts this many webhooks and waits until they are delivered and settled, so that nothing is
    /// in progress.
    pub(crate) async fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.ledger.next(false).await.unwrap();
            let mut doors = self.doors.subscribe();
            openai::post(&self.ledger, &mut doors, &self.client, number, 1).await;
        }
        timeout(PATIENCE, self.ledger.settled()).await.unwrap();
        // Changes are made in order, so this one comes after the last settlement.
        let [destination, ..] = Destination::ALL;
        let api = self.readyz.replace("/readyz", "/api/v1/destinations");
        let resume = format!("{api}/{}/resume", destination.name());
        let resumed = self.client.post(resume).send().await.unwrap();
        assert_eq!(resumed.status(), 200);
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.file("")
    }

    /// The path of the database, or of a file beside it.
    pub(crate) fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("disk/unwrapd.db{suffix}"))
    }

    /// Number of messages with this id, as any tool sees it.
    pub(crate) fn count(&self, id: &str) -> u32 {
        let connection = Connection::open(self.database()).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection
            .query_row(
                "SELECT count(*) FROM message WHERE webhook_id = ?",
                [id],
                |row| row.get(0),
            )
            .unwrap()
    }

    /// Makes the gateway reopen its database at the next operation.
    pub(crate) async fn close_database(&self) {
        self.shim.inject(&Fault::new(SYNC, Errno::IO).at_most(1));
        // The gateway may have noticed before the sync.
        self.says_why("").await;
        self.shim.lift();
    }

    /// Puts the database on a disk that can be filled, instead of one with simulated faults.
    pub(crate) async fn use_small_disk(&mut self) {
        self.small_disk = Some(SmallDisk::mount(&self.folder.path().join("disk")).await);
    }

    /// Makes the next gateways behave as a later version, which migrates the store with this SQL
    /// file.
    pub(crate) fn migrate_by(&mut self, sql: &'static str) {
        self.next_migration = Some(sql);
    }

    pub(crate) fn schema_version(&self) -> u32 {
        let connection = Connection::open(self.database()).unwrap();
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    pub(crate) fn schema_version_expected(&self) -> u32 {
        1 + u32::from(self.next_migration.is_some())
    }

    pub(crate) fn small_disk(&self) -> &SmallDisk {
        self.small_disk.as_ref().unwrap()
    }

    /// Starts a process on the present files. Returns an error if it ended before it received.
    pub(crate) async fn start_gateway(&mut self) -> anyhow::Result<()> {
        self.lives += 1;
        let folder = self.folder.path();
        let store = format!("sqlite:{}", self.database().display());
        write_config(folder, 0, &store, &self.applications, self.lives);
        let program = crate::support::process::program();
        let command = if let Some(disk) = &self.small_disk {
            disk.command(&program)
        } else {
            let mut command = Command::new(program);
            command.envs(self.shim.environment());
            if let Some(next) = self.next_migration {
                command.env("UNWRAPD_NEXT_MIGRATION", next);
            }
            command
        };
        let mut gateway = Gateway::start_by(command, folder, self.lives);
        let Some(addresses) = gateway.ready().await? else {
            return gateway.kill().await;
        };
        self.gateway = Some(gateway);
        self.readyz = addresses.readyz;
        let life = self.lives;
        let url = addresses.webhooks;
        self.doors.send_replace(vec![Door {
            life,
            url,
            wall: Wall::default(),
        }]);
        Ok(())
    }

    pub(crate) async fn kill(&mut self) {
        self.doors.send_replace(Vec::new());
        if let Some(gateway) = self.gateway.take() {
            gateway.kill().await.unwrap();
        }
    }

    /// Waits until the gateway has ended by itself, with an error.
    pub(crate) async fn ends(&mut self) {
        let mut gateway = self.gateway.take().unwrap();
        let ended = timeout(PATIENCE, gateway.died()).await;
        assert!(ended.is_ok(), "it does not end");
        let how = gateway.kill().await.unwrap_err().to_string();
        assert!(how.contains("exit status: 1"), "{how}");
        self.doors.send_replace(Vec::new());
    }

    /// Cuts the power: the process is dead, and unsynced writes are lost completely or in part.
    pub(crate) async fn cut_power(&mut self) {
        self.kill().await;
        self.shim.lift();
        power::cut(&self.database(), self.shim.images(), &mut self.rng);
    }

    /// Cuts the power, and starts the gateway on what is left.
    pub(crate) async fn survives_power_cut(&mut self) {
        self.cut_power().await;
        self.start_gateway().await.unwrap();
    }

    /// Ends the test with a power cut, after which the ledger and the store must agree.
    pub(crate) async fn balances_after_power_cut(mut self) {
        self.survives_power_cut().await;
        self.balances().await;
    }

    /// Waits until more webhooks are acknowledged, which shows that it receives.
    pub(crate) async fn acknowledges(&self) {
        let aim = self.ledger.read(|book| book.acknowledged) + PLAIN;
        self.wait_for("acknowledges", |book| book.acknowledged >= aim)
            .await;
    }

    /// Waits until more webhooks are refused.
    pub(crate) async fn refuses(&self) {
        let aim = self.ledger.read(|book| book.refused) + PLAIN;
        self.wait_for("refuses", |book| book.refused >= aim).await;
    }

    /// Injects the fault, and waits until webhooks are refused because of it.
    pub(crate) async fn refuses_under(&self, fault: &Fault) {
        self.shim.inject(fault);
        self.refuses().await;
    }

    /// Kills the gateway while syncs fail. What was not synced is lost, and the disk works again.
    pub(crate) async fn dies_unsynced(&mut self) {
        self.refuses_under(&Fault::new(SYNC, Errno::IO)).await;
        self.kill().await;
        self.shim.lift();
        self.shim.lose_what_is_not_synced();
    }

    async fn wait_for(&self, what: &str, is_so: impl FnMut(&Book) -> bool) {
        let waited = timeout(PATIENCE, self.ledger.wait_for(is_so)).await;
        assert!(
            waited.is_ok(),
            "it no longer {what}: {}",
            self.ledger.progress()
        );
    }

    /// The answer of `/readyz`.
    pub(crate) async fn readyz(&self) -> (u16, String) {
        let answer = self.client.get(&self.readyz).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until `/readyz` reports this reason: a check of the store may be a second old.
    pub(crate) async fn says_why(&self, why: &str) {
        self.says(|status, text| status == 503 && text.contains(why))
            .await;
    }

    /// Waits until `/readyz` reports that the gateway is ready.
    pub(crate) async fn is_ready(&self) {
        self.says(|status, text| status == 200 && text == "ok\n")
            .await;
    }

    async fn says(&self, is_so: impl Fn(u16, &str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, text) = self.readyz().await;
            if is_so(status, &text) {
                return;
            }
            assert!(Instant::now() < deadline, "{status} {text}");
        }
    }

    /// Waits until everything is acknowledged and delivered, and checks the verdict.
    pub(crate) async fn balances(mut self) {
        self.shim.lift();
        self.ledger.calm();
        // The verdict reports what is missing at the time limit.
        let settled = timeout(PATIENCE, self.ledger.settled()).await;
        if settled.is_ok() {
            while let Some(sender) = self.senders.join_next().await {
                sender.unwrap();
            }
            // A message that was delivered when its settlement failed must be delivered again.
            for _ in 0..DRAINS_MAX {
                self.stop().await;
                self.take_from_small_disk();
                let waiting = store::open_deliveries(&self.database());
                if waiting == 0 {
                    break;
                }
                let aim = self.ledger.receptions() + waiting;
                self.start_gateway().await.unwrap();
                let received = timeout(PATIENCE, self.ledger.received_in_all(aim)).await;
                assert!(received.is_ok(), "deliveries wait and are not made");
            }
        }
        self.stop().await;
        self.take_from_small_disk();
        let stored = store::read(&self.database()).unwrap();
        let verdict = Verdict::reach(&self.ledger, &stored);
        if !verdict.is_clean() || settled.is_err() {
            let kept = self.folder.keep();
            panic!("{verdict}\nthe store is kept in {}", kept.display());
        }
    }

    /// Copies the files of the database from the small disk, because SQLite cannot open them
    /// through the paths that the disk has outside its namespace.
    fn take_from_small_disk(&self) {
        if let Some(disk) = &self.small_disk {
            for suffix in ["", "-wal"] {
                let taken = self.file(suffix);
                // Files from before may be gone by then.
                drop(std::fs::remove_file(&taken));
                let name = taken.file_name().unwrap().to_str().unwrap();
                let file = disk.file(name);
                if file.exists() {
                    std::fs::copy(file, &taken).unwrap();
                }
            }
        }
    }

    async fn stop(&mut self) {
        self.doors.send_replace(Vec::new());
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await.unwrap();
        }
    }
}

/// Moves the whole log into the database.
pub(crate) fn move_log(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let is_busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))
        .unwrap();
    assert!(!is_busy, "somebody reads");
    connection
}
