//! The store in a PostgreSQL database, which several gateways may share. Concurrent changes are
//! written in shared commits (`batch`), and are answered only when they are durable.

mod connect;
mod fleet;
mod migration;
mod operate;
mod queue;
mod rows;
mod time;
mod upkeep;

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::mutex::lock;
use super::put_off::PutOff;
use super::{
    Accepted, Attempt, Bounds, Claimed, DestinationCounts, FleetChanges, FleetGateway,
    GatewayIdentity, Lease, Pruned, QuarantinedRequest, QuarantinedSummary, Recipient,
    SUMMARY_MESSAGES_MAX, Settled, SharedCircuit, Store, StoreError, Summary, Terms, TrafficCount,
};
use super::{
    DeliveryQueue, DestinationControl, Fleet, HealthReporter, Inbox, Lifecycle, Maintenance,
    QuarantineStore,
};
use connect::failure::Failure;
use connect::hosts::{Connected, Hosts};
use connect::pool::Pool;
use fleet::membership::Membership;
use fleet::notify::{self, Notifications};
use fleet::{circuits, heartbeat};
use operate::{pause, quarantine, traffic};
use queue::accept::Accept;
use queue::batch::Queue;
use queue::capacity::{self, Capacity};
use queue::claim::{self, Leases};
use queue::claim_floor::ClaimFloors;
use unwrapd_core::clock::Clock;
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::Lane;
use unwrapd_core::delivery::limit_share::LimitShare;
use unwrapd_core::message::Message;
use upkeep::prune::Pruner;

pub use connect::address::{AddressError, PostgresAddress};
pub(super) use rows::storable;
pub use upkeep::check::check;
pub(super) use upkeep::copy_endpoint::PostgresCopyEndpoint;

/// A store in a schema of a PostgreSQL database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// Whether opening the store has created its schema.
    is_new: bool,
    /// `None` after the store is closed.
    queues: Mutex<Option<Queues>>,
    /// Tasks that commit the queues, notify and listen.
    workers: tokio::sync::Mutex<JoinSet<()>>,
    /// Dropped when the store is closed, which signals the end.
    open: Mutex<Option<watch::Sender<()>>>,
    /// Becomes true when a worker has ended.
    ended: watch::Receiver<bool>,
    pruner: tokio::sync::Mutex<Pruner>,
}

#[derive(Clone)]
struct Queues {
    accepting: Queue<Accept>,
    settling: Queue<Attempt>,
}

/// State that the workers share.
#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    capacity: Arc<Capacity>,
    notifications: Arc<Notifications>,
    membership: Membership,
    leases: Leases,
    claim_floors: ClaimFloors,
    put_off: PutOff,
    /// Follows the clock of the database.
    clock: Clock,
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Held by every worker. If one ends, also by a panic, the store has ended.
#[derive(Debug)]
struct Alive(Arc<watch::Sender<bool>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl PostgresStore {
    /// Connects, creates the schema if it does not exist, and migrates it. Other gateways may do so
    /// at the same time.
    pub async fn open(address: &PostgresAddress, bounds: &Bounds) -> Result<Self, StoreError> {
        Self::open_with(
            address,
            bounds,
            &Clock::default(),
            &HealthReporter::default(),
        )
        .await
    }

    /// Does the same as [`open`](Self::open), with the given clock, which follows the clock of the
    /// database from then on. Each change in whether the store accepts webhooks is reported to
    /// `health`.
    pub async fn open_with(
        address: &PostgresAddress,
        bounds: &Bounds,
        clock: &Clock,
        health: &HealthReporter,
    ) -> Result<Self, StoreError> {
        let hosts = Hosts::new(address)?;
        let connected = hosts.connect(None).await?.for_gateway()?;
        let Connected { link, does, .. } = connected;
        if does.logs_values {
            tracing::warn!(
                "the database may write slow statements with their payloads into its own log: set `log_parameter_max_length = 0` on the server"
            );
        }
        let membership = Membership::new(clock.clone())?;
        let is_new = migration::run(&link, address, Some(membership.id())).await?;
        let shared = Arc::new(Shared {
            pool: Pool::new(
                hosts,
                address.schema(),
                link,
                &does.synchronous_commit,
                health,
            ),
            capacity: Capacity::new(bounds.undelivered_max),
            notifications: Notifications::new(address.schema()),
            membership,
            leases: Leases::default(),
            claim_floors: ClaimFloors::default(),
            put_off: PutOff::default(),
            clock: clock.clone(),
        });
        if let Err(failure) = shared.capacity.count(&shared.pool).await {
            tracing::warn!(
                "cannot count the waiting deliveries, so `undelivered_max` has no effect until the next count: {failure:?}"
            );
        }
        // A gateway without peers gets all limits at once. If this heartbeat fails, a later one
        // does it.
        if let Err(failure) = heartbeat::beat_now(&shared).await {
            tracing::debug!("cannot send a heartbeat: {failure:?}");
        }
        clock.anchor(time::remembered(&shared).await?);
        let (has_ended, ended) = watch::channel(false);
        let (open, closing) = watch::channel(());
        let has_ended = Arc::new(has_ended);
        let mut workers = JoinSet::new();
        let queues = Queues {
            accepting: Queue::start(&shared, &has_ended, &mut workers),
            settling: Queue::start(&shared, &has_ended, &mut workers),
        };
        let mut begin = |worker: BoxFuture| {
            let alive = Alive(Arc::clone(&has_ended));
            workers.spawn(async move {
                worker.await;
                drop(alive);
            });
        };
        begin(Box::pin(notify::send(Arc::clone(&shared), closing.clone())));
        begin(Box::pin(notify::listen(
            Arc::clone(&shared),
            closing.clone(),
        )));
        begin(Box::pin(heartbeat::beat(
            Arc::clone(&shared),
            closing.clone(),
        )));
        begin(Box::pin(capacity::keep_count(Arc::clone(&shared), closing)));
        Ok(Self {
            is_new,
            shared,
            queues: Mutex::new(Some(queues)),
            workers: tokio::sync::Mutex::new(workers),
            open: Mutex::new(Some(open)),
            ended,
            pruner: tokio::sync::Mutex::new(Pruner::new(bounds)),
        })
    }

    fn queues(&self) -> Result<Queues, StoreError> {
        lock(&self.queues).clone().ok_or_else(StoreError::closed)
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }

    /// Releases everything: this gateway makes no more attempts.
    async fn leave(&self) -> Result<(), Failure> {
        heartbeat::deregister(&self.shared, self.shared.membership.id()).await
    }
}

#[async_trait]
impl Inbox for PostgresStore {
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let accept = Accept {
            message,
            recipients,
            quarantined: None,
        };
        let accepted = self.queues()?.accepting.ask(accept).await;
        crash::point(CrashPoint::Committed);
        accepted?
    }
}

#[async_trait]
impl QuarantineStore for PostgresStore {
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError> {
        Ok(quarantine::add(self.pool(), &quarantined).await?)
    }

    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        let recipients = destinations.into_iter().map(Recipient::from).collect();
        let accept = Accept {
            message,
            recipients,
            quarantined: Some(quarantined),
        };
        self.queues()?.accepting.ask(accept).await?
    }

    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError> {
        Ok(quarantine::list(self.pool(), after, limit).await?)
    }

    async fn list_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError> {
        Ok(quarantine::summaries(self.pool(), after, limit).await?)
    }

    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError> {
        Ok(quarantine::delete_quarantined(self.pool(), &quarantined_requests).await?)
    }
}

#[async_trait]
impl DeliveryQueue for PostgresStore {
    async fn claim_within(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        terms: Terms,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        Ok(claim::claim(&self.shared, destination, lane, now, terms, limit).await?)
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        self.queues()?.settling.ask(attempt).await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        Ok(claim::release(&self.shared, leases).await?)
    }

    fn share(&self, destination: &str) -> LimitShare {
        self.shared.membership.share(destination)
    }

    fn lease_is_valid(&self, claimed_at: Instant) -> bool {
        self.shared.membership.still_holds(claimed_at)
    }
}

#[async_trait]
impl Fleet for PostgresStore {
    async fn announce(&self, identity: GatewayIdentity) -> Result<(), StoreError> {
        if let Some(place) = &identity.exclusive_address {
            heartbeat::take_over(&self.shared, place).await?;
        }
        self.shared.membership.announce(identity);
        Ok(heartbeat::beat_now(&self.shared).await?)
    }

    fn gateways(&self) -> Vec<FleetGateway> {
        self.shared.membership.gateways()
    }

    async fn next_change(&self) -> FleetChanges {
        self.shared.notifications.next(&self.shared).await
    }

    async fn circuits(&self) -> Result<Vec<SharedCircuit>, StoreError> {
        Ok(circuits::list(&self.shared).await?)
    }

    async fn open_circuit(
        &self,
        destination: &str,
        back_off: Duration,
        is_first: bool,
    ) -> Result<(), StoreError> {
        circuits::open(&self.shared, destination, back_off, is_first).await?;
        self.shared.notifications.notify_circuits();
        Ok(())
    }

    async fn close_circuit(&self, destination: &str) -> Result<(), StoreError> {
        circuits::close(&self.shared, destination).await?;
        self.shared.notifications.notify_circuits();
        Ok(())
    }

    async fn try_circuit(&self, destination: &str, time: Duration) -> Result<(), StoreError> {
        circuits::attempt(&self.shared, destination, time).await?;
        self.shared.notifications.notify_circuits();
        Ok(())
    }
}

#[async_trait]
impl DestinationControl for PostgresStore {
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        Ok(pause::destination_counts(self.pool()).await?)
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        pause::pause(self.pool(), destination, now).await?;
        self.shared.notifications.notify_pauses();
        Ok(())
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        pause::resume(self.pool(), destination).await?;
        self.shared.notifications.notify_pauses();
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Ok(pause::paused(self.pool()).await?)
    }
}

#[async_trait]
impl Lifecycle for PostgresStore {
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError> {
        pause::ready(self.pool(), now).await?;
        self.shared.capacity.reserve(1).map(drop)
    }

    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        Ok(time::remember(&self.shared, trusted).await?)
    }

    async fn failed(&self) {
        let mut ended = self.ended.clone();
        // An error means that the workers are gone, which is an end as well.
        drop(ended.wait_for(|has_ended| *has_ended).await);
    }

    async fn hangs(&self) {
        std::future::pending::<()>().await;
    }

    async fn close(&self) {
        lock(&self.queues).take();
        lock(&self.open).take();
        let mut workers = self.workers.lock().await;
        while let Some(ended) = workers.join_next().await {
            if ended.is_err() {
                tracing::error!("a part of the store panicked; please report this bug");
            }
        }
        if let Err(failure) = self.leave().await {
            tracing::debug!(
                "cannot release claimed deliveries; other gateways take them over later: {failure:?}"
            );
        }
        self.pool().close().await;
    }
}

#[async_trait]
impl Maintenance for PostgresStore {
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruner = self.pruner.lock().await;
        Ok(pruner.step(&self.shared, now).await?)
    }

    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError> {
        Ok(traffic::add(self.pool(), &counts).await?)
    }

    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        Ok(Some(Summary {
            schema: migration::VERSION,
            is_new: Some(self.is_new),
            messages: pause::count(self.pool(), SUMMARY_MESSAGES_MAX).await?,
        }))
    }
}

impl Store for PostgresStore {
    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }
}
