//! The gateway: starts its parts and stops them.
//!
//! At a start the ports are bound and the store is opened first, since that may fail. Then the
//! destinations get their dispatchers, and at last the ports are served. A stop has the reverse
//! order: it ends the ports, then the dispatchers, and closes the store last.

mod circuits;
mod config_drift;
mod configured;
mod core;
mod dispatchers;
mod fleet;
mod identity;
mod liveness;
mod ports;
mod report;
mod timekeeping;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::admin::{Access, Admin, LoadedConfig, Readiness};
use crate::config::{Changes, Config, ServerSettings};
use crate::intake::Intake;
use crate::listen::Listen;
use crate::observe::refusals::{FLUSH_EVERY, Refusals};
use crate::observe::warnings::Warnings;
use crate::pipeline_events::{EventBus, LiveEvents};
use crate::quarantine::Quarantine;
use crate::receive::Receiver;
use crate::store::{GatewayIdentity, Lifecycle, Store};
use crate::tls::Tls;
use crate::{admin, listen, prune, receive};
use core::Core;
use dispatchers::{BuiltDestination, Dispatchers};
use fleet::Fleet;
pub(crate) use liveness::{Health, Liveness};
use ports::Ports;
pub(crate) use ports::Sockets;
use report::Opened;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for deliveries under way when everything is to stop, beside that for requests.
/// Service managers kill after 90 s.
pub(crate) const DELIVER_DRAIN_MAX: Duration = Duration::from_secs(30);
/// Longest wait at a stop for a disk that hangs. Until the disk answers, no delivery can be
/// settled, and each is made again at the next start.
const DISK_WAIT_MAX: Duration = Duration::from_secs(2);
const DISK_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longest wait for each thing that a stop still stores: that this gateway is stopping, refused
/// requests, the last alerts, and the counts of the last second.
const STOP_WRITE_TIME_MAX: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Gateway {
    core: Core,
    public: SocketAddr,
    admin: Option<SocketAddr>,
    intake: Arc<Intake>,
    quarantine: Arc<Quarantine>,
    limits: Arc<receive::Limits>,
    readiness: Arc<Readiness>,
    tls: Option<Arc<Tls>>,
    /// `None`: the admin port has no certificate of its own.
    admin_tls: Option<Arc<Tls>>,
    dispatchers: Dispatchers,
    identity: watch::Sender<GatewayIdentity>,
    /// Whether this process has bound the public port itself.
    has_bound: bool,
    /// The ports and the background tasks.
    tasks: JoinSet<()>,
    switch: DropGuard,
    /// The exporter of traces, if they are configured. It ends after all that is traced.
    exporter: JoinSet<()>,
    exporter_switch: DropGuard,
    config: Config,
    /// The configuration that was loaded last, for operators.
    loaded: Arc<LoadedConfig>,
    opened: Opened,
    started: Instant,
}

impl Gateway {
    /// Binds the ports, opens the store and begins to receive and to deliver.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_on(Sockets::default(), config).await
    }

    /// As [`start`](Self::start), on sockets that are already open. They have the addresses of the
    /// configuration ([`Sockets::check`]).
    pub(crate) async fn start_on(sockets: Sockets, config: Config) -> anyhow::Result<Self> {
        let has_bound = sockets.public.is_none();
        // The steps that often fail run first, so a gateway that cannot start claims nothing.
        let ports = Ports::open(sockets, &config).await?;
        let public = ports.public.local_addr()?;
        let admin = ports.admin.as_ref().map(TcpListener::local_addr);
        let admin = admin.transpose()?;
        let pages = configured::pages(&config, admin);
        let (core, opened) = Core::open(&config, pages).await?;
        let built = BuiltDestination::all(config.destinations.clone(), &core.clock)?;
        let identity = identity::of(&config, public, has_bound);
        if let Some(fleet) = core.store.fleet() {
            fleet.announce(identity.clone()).await?;
        }
        configured::warn_doubts(&config, public, &core.warnings);

        let dispatchers = Dispatchers::start(&core, built).await?;
        admin::note_unconfigured(opened.waiting(), &core.registry, &core.warnings);

        let intake = Arc::new(Intake::new(
            configured::rules(&config, &core.registry, None),
            Arc::clone(&core.store) as _,
            core.events.clone(),
            core.clock.clone(),
        ));
        intake.look_back(&*core.store).await;
        let shutdown = CancellationToken::new();
        let switch = shutdown.clone().drop_guard();
        let mut exporter = JoinSet::new();
        let exporter_shutdown = CancellationToken::new();
        if let Some(traces) = &core.traces {
            let run = traces.exporter(core.events.clone(), &identity.name)?;
            exporter.spawn(run.run(exporter_shutdown.clone()));
        }
        let mut gateway = Self {
            public,
            admin,
            quarantine: Arc::new(Quarantine::new(
                Arc::clone(&intake),
                Arc::clone(&core.store) as _,
                Arc::clone(&core.refusals),
            )),
            intake,
            limits: Arc::new(receive::Limits::new(
                config.server.requests_max,
                config.server.body_timeout,
            )),
            readiness: Arc::default(),
            tls: config.server.tls.clone(),
            admin_tls: config
                .server
                .admin_tls
                .clone()
                .filter(|_| !config.server.shares_tls()),
            dispatchers,
            identity: watch::Sender::new(identity),
            has_bound,
            tasks: JoinSet::new(),
            switch,
            exporter,
            exporter_switch: exporter_shutdown.drop_guard(),
            loaded: Arc::default(),
            opened,
            started: Instant::now(),
            config,
            core,
        };
        gateway
            .limits
            .set_limits(configured::requests_max(&gateway.config));
        let shown = gateway.config.shown(gateway.core.clock.now(), &[]);
        gateway.loaded.set(shown);
        gateway.spawn_tasks(&shutdown);
        gateway.serve(ports, shutdown);
        Ok(gateway)
    }

    /// Starts the background tasks.
    fn spawn_tasks(&mut self, shutdown: &CancellationToken) {
        let Core {
            store,
            clock,
            registry,
            bulk,
            events,
            metrics,
            alerts,
            traces: _,
            warnings,
            refusals,
        } = self.core.clone();
        let tasks = &mut self.tasks;
        let prune = prune::run(
            store.clone(),
            clock.clone(),
            events.clone(),
            shutdown.clone(),
        );
        tasks.spawn(prune);
        tasks.spawn(bulk.run(shutdown.clone()));
        let traffic = events.traffic().clone();
        tasks.spawn(traffic.run(store.clone(), shutdown.clone()));
        let fleet = Fleet {
            store: Arc::clone(&store),
            registry: registry.clone(),
            events,
            circuits: self.dispatchers.circuits.clone(),
            identity: self.identity.subscribe(),
        };
        if store.fleet().is_some() {
            tasks.spawn(fleet.run(shutdown.clone()));
        }
        let time = timekeeping::run(clock, store.clone(), warnings.clone(), shutdown.clone());
        tasks.spawn(time);
        let end = shutdown.clone().cancelled_owned();
        tasks.spawn(admin::watch_unconfigured(store, registry, warnings, end));
        tasks.spawn(log_refusals(refusals, shutdown.clone()));
        configured::begin_series(&self.config, metrics.as_ref());
        alerts.set_silence(configured::silence(&self.config));
        tasks.spawn(alerts.run(Arc::clone(&self.intake), shutdown.clone()));
        let (intake, until) = (Arc::clone(&self.intake), shutdown.clone());
        tasks.spawn(async move {
            until.run_until_cancelled(intake.oddities().run()).await;
        });
    }

    /// Begins to answer requests.
    fn serve(&mut self, ports: Ports, shutdown: CancellationToken) {
        let refusals = &self.core.refusals;
        let public = receive::router(Receiver {
            limits: Arc::clone(&self.limits),
            intake: Arc::clone(&self.intake),
            quarantine: Arc::clone(&self.quarantine),
            refusals: Arc::clone(refusals),
        });
        self.tasks.spawn(listen::serve(
            ports.public,
            public,
            Listen::public(&self.config.server),
            Arc::clone(refusals),
            shutdown.clone(),
        ));
        let Some(admin_port) = ports.admin else {
            return;
        };
        let admin = admin::router(Admin {
            store: Arc::clone(&self.core.store),
            intake: Arc::clone(&self.intake),
            quarantine: Arc::clone(&self.quarantine),
            readiness: Arc::clone(&self.readiness),
            warnings: self.core.warnings.clone(),
            clock: self.core.clock.clone(),
            registry: self.core.registry.clone(),
            bulk: self.core.bulk.clone(),
            metrics: self.core.metrics.clone(),
            config: Arc::clone(&self.loaded),
            counts: Arc::default(),
            live: Arc::new(LiveEvents::new(
                self.core.events.clone(),
                self.core.clock.clone(),
                shutdown.clone(),
            )),
            refusals: Arc::clone(refusals),
            access: Arc::new(Access::new(
                self.config.admin_tokens.clone(),
                self.config.server.admin_tls.is_some(),
            )),
            base_path: Arc::clone(&self.config.admin_base_path),
        });
        self.tasks.spawn(listen::serve(
            admin_port,
            admin,
            Listen::admin(&self.config.server, admin::Bounds::LONGEST),
            Arc::clone(refusals),
            shutdown,
        ));
    }

    /// Address of the public port, where OpenAI posts to `/webhooks/{endpoint}`.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Address of the admin port, with `/livez` and `/readyz`, if it is configured.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The certificate of the public port, if it has one. A reload reads it again.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// The pipeline events.
    #[must_use]
    pub fn events(&self) -> &EventBus {
        &self.core.events
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core.store
    }

    /// The quarantine.
    #[must_use]
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// The check for a watchdog.
    pub(crate) fn liveness(&self) -> Liveness {
        Liveness {
            store: Arc::clone(&self.core.store),
            clock: self.core.clock.clone(),
            readiness: Arc::clone(&self.readiness),
        }
    }

    /// Logs one line with the version, the configuration, the store and its waiting deliveries.
    /// `file` is where the configuration was read from.
    pub(crate) fn log_start(&self, file: &Path) {
        self.opened.log(file, &self.config);
        if let Some(traces) = &self.config.traces {
            tracing::info!("traces are sent to {}", traces.place());
        }
    }

    /// Lasting conditions that need an operator.
    #[must_use]
    pub fn warnings(&self) -> &Warnings {
        &self.core.warnings
    }

    /// Applies this configuration: secrets, endpoints, destinations and limits change, and no
    /// request or delivery is dropped. Returns the changes. On an error nothing changes.
    pub fn reload(&mut self, mut config: Config) -> anyhow::Result<Changes> {
        let destinations = BuiltDestination::all(config.destinations.clone(), &self.core.clock)?;
        let mut changes = Changes::between(&self.config, &config);
        for key in &changes.at_next_start {
            tracing::warn!("{key} has changed; restart the gateway to put it into effect");
        }
        configured::warn_doubts(&config, self.public, &self.core.warnings);
        if let (Some(current), Some(read)) = (&self.tls, &config.server.tls) {
            if current.differs_from(read) {
                changes
                    .parts
                    .push("[server.tls]: certificate changed".into());
            }
            current.adopt(read);
        }
        if let (Some(current), Some(read)) = (&self.admin_tls, &config.server.admin_tls)
            && !config.server.shares_tls()
        {
            if current.differs_from(read) {
                changes
                    .parts
                    .push("[server.admin_tls]: certificate changed".into());
            }
            current.adopt(read);
        }
        // The dispatchers come first, so that a destination has them before a message is routed to
        // it.
        self.dispatchers.apply_settings(destinations);
        self.limits.set_limits(configured::requests_max(&config));
        let before = self.intake.rules();
        self.intake.apply_rules(configured::rules(
            &config,
            &self.core.registry,
            Some(&before),
        ));
        self.core.alerts.set_silence(configured::silence(&config));
        configured::begin_series(&config, self.core.metrics.as_ref());
        if let Some(traces) = &self.core.traces {
            traces.set_servers(configured::urls(&config));
        }
        self.identity
            .send_replace(identity::of(&config, self.public, self.has_bound));
        let shown = config.shown(self.core.clock.now(), &changes.at_next_start);
        self.loaded.set(shown);
        // Settings that need a restart stay those of the running gateway, so that each reload
        // compares with them.
        let running = std::mem::replace(&mut self.config, config);
        config = Config {
            endpoints: std::mem::take(&mut self.config.endpoints),
            destinations: std::mem::take(&mut self.config.destinations),
            log: self.config.log,
            server: ServerSettings {
                drain: self.config.server.drain,
                ..running.server
            },
            ..running
        };
        self.config = config;
        Ok(changes)
    }

    /// Logs the deliveries that wait for destinations that a reload has removed. The store counts
    /// them, which may take seconds.
    pub(crate) fn log_removed(
        &self,
        changes: Changes,
    ) -> impl Future<Output = ()> + Send + 'static {
        let store = Arc::clone(&self.core.store);
        let (registry, warnings) = (self.core.registry.clone(), self.core.warnings.clone());
        async move {
            if let Some(waiting) = report::log_removed(&*store, &changes).await {
                admin::note_unconfigured(&waiting, &registry, &warnings);
            }
        }
    }

    /// Waits until a part ends without a stop, for example by a panic. Restart the gateway then: it
    /// passes its health checks and does only a part of its work.
    pub async fn failed(&mut self) {
        tokio::select! {
            Some(_) = self.tasks.join_next() => {}
            Some(_) = self.exporter.join_next() => {}
            () = self.dispatchers.failed() => {}
            () = self.core.store.failed() => {}
        }
    }

    /// Duration of [`drain`](Self::drain).
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        self.config.server.drain
    }

    /// Reports that the gateway is not ready, and waits for the time that a load balancer needs to
    /// notice it. Webhooks are still accepted meanwhile. Call [`stop`](Self::stop) afterwards.
    pub async fn drain(&self) {
        self.readiness.stop();
        sleep(self.config.server.drain).await;
    }

    /// Stops receiving and claiming, finishes the requests and deliveries under way within a bound,
    /// and closes the store last: an acknowledgement needs it, and so does a settlement.
    pub async fn stop(mut self) {
        self.readiness.stop();
        // Another gateway may use the port as soon as it is free, while deliveries are still under
        // way here.
        let parting = GatewayIdentity {
            exclusive_address: None,
            ..self.identity.borrow().clone()
        };
        if let Some(fleet) = self.core.store.fleet() {
            drop(timeout(STOP_WRITE_TIME_MAX, fleet.announce(parting)).await);
        }
        drop(self.switch);
        while self.tasks.join_next().await.is_some() {}
        drop(timeout(STOP_WRITE_TIME_MAX, self.quarantine.written()).await);
        self.core.refusals.flush();
        self.intake.oddities().flush();
        let hangs = disk_hangs(&*self.core.store, DISK_WAIT_MAX);
        let is_finished = self.dispatchers.stop(DELIVER_DRAIN_MAX, hangs).await;
        let alerts = self.core.alerts.finish(&self.intake);
        drop(timeout(STOP_WRITE_TIME_MAX, alerts).await);
        drop(self.exporter_switch);
        while self.exporter.join_next().await.is_some() {}
        let counted = self.core.events.traffic().write(&*self.core.store);
        drop(timeout(STOP_WRITE_TIME_MAX, counted).await);
        let ran = self.started.elapsed();
        if is_finished {
            report::log_end(&*self.core.store, ran).await;
        } else {
            tracing::warn!(
                "stopped after {}: deliveries were still under way; they are retried after the next start",
                crate::printable::spoken(ran)
            );
        }
        self.core.store.close().await;
    }
}

/// Waits until the disk of the store has been hanging for `time`.
async fn disk_hangs(store: &dyn Lifecycle, time: Duration) {
    loop {
        store.hangs().await;
        let comes_back = async {
            while timeout(Duration::ZERO, store.hangs()).await.is_ok() {
                sleep(DISK_LOOK_EVERY).await;
            }
        };
        if timeout(time, comes_back).await.is_err() {
            return;
        }
    }
}

/// Logs the counts of refusals that are due, until shutdown.
async fn log_refusals(refusals: Arc<Refusals>, shutdown: CancellationToken) {
    let mut looks = interval(FLUSH_EVERY);
    loop {
        tokio::select! {
            _ = looks.tick() => refusals.log_due(),
            () = shutdown.cancelled() => return,
        }
    }
}
