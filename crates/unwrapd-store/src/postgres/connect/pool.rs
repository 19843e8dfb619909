//! The connections of this process. Each purpose has its own limit, so that none blocks another: a
//! scan of millions of messages does not delay a claim. The limits also protect the server: a
//! statement that the server still executes occupies its connection, even if its caller has given
//! up.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::mutex::lock;
use crate::postgres::connect::connection::{Begin, Params, PgConnection, Work};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::hosts::{Connected, Hosts};
use crate::postgres::connect::outage::Outage;
use crate::postgres::connect::purpose::Purpose;
use crate::reports::StoreReporter;

/// Maximum duration of a statement whose caller waits.
const CHANGE_TIME: Duration = Duration::from_secs(5);
/// Maximum duration of a statement that scans many rows.
const LOOK_TIME: Duration = Duration::from_secs(60);
/// Maximum wait for a connection in use, which may itself wait for an unresponsive server.
const TAKE_TIME: Duration = Duration::from_secs(5);
/// Rest after a failed connection. Callers get its error meanwhile.
const CONNECT_REST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Pool {
    hosts: Arc<Hosts>,
    change: Begin,
    look: Begin,
    tell: Begin,
    bounds: [Arc<Semaphore>; Purpose::ALL.len()],
    idle: Mutex<Idle>,
    outage: Outage,
    /// Held while searching for another host.
    looking: tokio::sync::Mutex<()>,
    /// Held while writing into the quarantine.
    quarantine_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Idle {
    links: Vec<PgConnection>,
    /// Generation: number of times that all connections were discarded. A connection of an earlier
    /// generation is not put back.
    generations: u64,
    /// Number of fail-overs at that time.
    failovers: u64,
    is_closed: bool,
    /// Time and error of the last failed connection.
    failed: Option<(Instant, Failure)>,
}

/// A connection in use. Unless its work succeeds, it is not used again, and its permit is released
/// only when it has ended: the server may still be working on it.
pub(crate) struct PooledConnection {
    pool: Arc<Pool>,
    held: Option<(PgConnection, OwnedSemaphorePermit)>,
    is_fresh: bool,
    generation: u64,
    /// Number of outages when the connection was taken.
    outages: u64,
    /// Signals a fail-over since the connection was taken.
    failovers: watch::Receiver<u64>,
}

impl Pool {
    /// Creates the pool with this connection, to a server with this durability of commits.
    pub(crate) fn new(
        hosts: Arc<Hosts>,
        schema: &str,
        first: PgConnection,
        synchronous_commit: &str,
        health: &StoreReporter,
    ) -> Arc<Self> {
        let begin = |time| Begin::new(schema, synchronous_commit, time);
        // Only notifications are written this way, so durability is not needed.
        let tell = Begin::new(schema, "off", CHANGE_TIME);
        Arc::new(Self {
            change: begin(CHANGE_TIME),
            look: begin(LOOK_TIME),
            tell,
            bounds: Purpose::ALL.map(|wanted| Arc::new(Semaphore::new(wanted.connections_max()))),
            idle: Mutex::new(Idle {
                links: vec![first],
                failovers: *hosts.failovers().borrow(),
                ..Idle::default()
            }),
            outage: Outage::new(health.clone()),
            looking: tokio::sync::Mutex::default(),
            quarantine_lock: tokio::sync::Mutex::default(),
            hosts,
        })
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Must be held while writing into the quarantine.
    pub(crate) fn quarantine_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.quarantine_lock
    }

    /// State of the outage of the database.
    pub(crate) fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Waits for a connection.
    pub(crate) async fn take(
        self: &Arc<Self>,
        wanted: Purpose,
    ) -> Result<PooledConnection, Failure> {
        let bound = Arc::clone(&self.bounds[wanted as usize]);
        let Ok(permit) = timeout(TAKE_TIME, bound.acquire_owned()).await else {
            self.look_for_another().await;
            return Err(Failure::unavailable(
                "all connections are in use: the database is still working on earlier statements",
            ));
        };
        let permit = permit.map_err(|_| Failure::OfTheStore(StoreError::closed()))?;
        let (link, generation) = {
            let mut idle = lock(&self.idle);
            if idle.is_closed {
                return Err(Failure::OfTheStore(StoreError::closed()));
            }
            idle.reconnect_after_failover(&self.hosts);
            idle.links.retain(|link| !link.is_closed());
            let link = idle.links.pop();
            if link.is_none()
                && let Some((at, failure)) = &idle.failed
                && at.elapsed() < CONNECT_REST
            {
                return Err(failure.clone());
            }
            (link, idle.generations)
        };
        let is_fresh = link.is_none();
        let (link, generation) = match link {
            Some(link) => (link, generation),
            None => self.connect().await?,
        };
        Ok(PooledConnection {
            pool: Arc::clone(self),
            held: Some((link, permit)),
            is_fresh,
            generation,
            outages: self.outage.outages(),
            failovers: self.hosts.failovers(),
        })
    }

    /// Called when all connections are in use by work that does not end: another host may have
    /// taken over.
    async fn look_for_another(&self) {
        if !self.hosts.are_many() {
            return;
        }
        let Ok(_one_at_a_time) = self.looking.try_lock() else {
            return;
        };
        if let Ok((link, generation)) = self.connect().await {
            self.put_back(link, generation);
        }
    }

    /// A new connection, and its generation.
    async fn connect(&self) -> Result<(PgConnection, u64), Failure> {
        let (works, outages) = (self.outage.works(), self.outage.outages());
        let connected = self.hosts.connect(None).await;
        let connected = connected.and_then(Connected::for_gateway);
        let mut idle = lock(&self.idle);
        match connected {
            Ok(connected) => {
                idle.failed = None;
                self.outage.is_back(outages);
                idle.reconnect_after_failover(&self.hosts);
                Ok((connected.link, idle.generations))
            }
            Err(failure) => {
                // If others succeeded while this one waited, its failure is outdated.
                if self.outage.works() == works {
                    idle.failed = Some((Instant::now(), failure.clone()));
                }
                // A refusal for lack of room does not mean that others cannot work.
                if !matches!(failure, Failure::Refused(_)) {
                    let error = failure.clone().into();
                    self.outage.is_away(works, self.hosts.place(), &error);
                }
                Err(failure)
            }
        }
    }

    /// Runs the work in one transaction, which may run twice: an idle connection may have ended,
    /// and this shows only when it is used.
    pub(crate) async fn once(
        self: &Arc<Self>,
        wanted: Purpose,
        work: impl Into<Work<'_>>,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let work = work.into();
        let taken = self.take(wanted).await?;
        let is_fresh = taken.is_fresh;
        match taken.once(wanted, work, params).await {
            Err(Failure::Lost(_)) if !is_fresh => {
                self.take(wanted).await?.once(wanted, work, params).await
            }
            done => done,
        }
    }

    /// Does the same, for work whose rows do not matter.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        wanted: Purpose,
        work: impl Into<Work<'_>>,
        params: Params<'_>,
    ) -> Result<(), Failure> {
        self.once(wanted, work, params).await.map(drop)
    }

    /// Begins a transaction of several round trips, for long work.
    pub(crate) async fn transaction(self: &Arc<Self>) -> Result<Transaction, Failure> {
        self.take(Purpose::Looking).await?.transaction().await
    }

    /// Hands out no more connections, and closes the idle ones.
    pub(crate) async fn close(&self) {
        for bound in &self.bounds {
            bound.close();
        }
        let links = {
            let mut idle = lock(&self.idle);
            idle.is_closed = true;
            std::mem::take(&mut idle.links)
        };
        for link in links {
            link.close().await;
        }
    }

    fn begin(&self, wanted: Purpose) -> &Begin {
        match wanted {
            Purpose::Looking => &self.look,
            Purpose::Telling => &self.tell,
            _ => &self.change,
        }
    }

    /// After a failure of one connection, the others are suspect: the server may be gone, or be
    /// another one.
    fn throw_away(&self) {
        lock(&self.idle).throw_away();
    }

    fn put_back(&self, link: PgConnection, generation: u64) {
        let mut idle = lock(&self.idle);
        if idle.generations == generation && !idle.is_closed {
            idle.links.push(link);
        }
    }
}

impl Idle {
    /// Discards connections from before a fail-over: they lead to the former primary.
    fn reconnect_after_failover(&mut self, hosts: &Hosts) {
        let failovers = *hosts.failovers().borrow();
        if self.failovers != failovers {
            self.failovers = failovers;
            self.throw_away();
        }
    }

    fn throw_away(&mut self) {
        self.links.clear();
        self.generations += 1;
    }
}

impl PooledConnection {
    /// Runs the work in one transaction.
    pub(crate) async fn once(
        mut self,
        wanted: Purpose,
        work: impl Into<Work<'_>>,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let begin = self.pool.begin(wanted);
        let done = self.link()?.once(begin, work.into(), params).await;
        self.judge(done)
    }

    /// Begins a transaction of several round trips. Unless it is committed, its connection is
    /// closed.
    async fn transaction(self) -> Result<Transaction, Failure> {
        let begun = self.link()?.begin(&self.pool.look).await;
        if begun.is_err() {
            self.pool.throw_away();
        }
        begun.map(|()| Transaction { taken: self })
    }

    fn link(&self) -> Result<&PgConnection, Failure> {
        let link = self.held.as_ref().map(|(link, _)| link);
        link.ok_or_else(|| Failure::unavailable("the connection was used already"))
    }

    fn judge<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        if done.is_ok() {
            self.pool.outage.is_back(self.outages);
        }
        if done.as_ref().err().is_none_or(Failure::leaves_connection) {
            if let Some((link, _)) = self.held.take() {
                self.pool.put_back(link, self.generation);
            }
        } else {
            self.pool.throw_away();
        }
        done
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some((link, permit)) = self.held.take() else {
            return;
        };
        // Without a runtime, no task needs the permit.
        if let Ok(runtime) = Handle::try_current() {
            let mut failovers = self.failovers.clone();
            runtime.spawn(async move {
                // The permits belong to the server in use. A former primary may never finish.
                tokio::select! {
                    () = link.abandon() => {}
                    _ = failovers.changed() => {}
                }
                drop(permit);
            });
        }
    }
}

/// A transaction in progress.
pub(crate) struct Transaction {
    taken: PooledConnection,
}

impl Transaction {
    pub(crate) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Failure> {
        self.taken
            .link()?
            .query(&self.taken.pool.look, sql, params)
            .await
    }

    pub(crate) async fn commit(mut self) -> Result<(), Failure> {
        let committed = self.taken.link()?.commit(&self.taken.pool.look).await;
        self.taken.judge(committed)
    }
}
