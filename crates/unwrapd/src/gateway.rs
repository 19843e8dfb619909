//! Wires the parts, starts them, and stops them in order.

mod circuits;
mod config_drift;
mod dispatchers;
mod fleet;
mod identity;
mod report;
mod timekeeping;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::admin::{Admin, Readiness, Targets};
use crate::clock::Clock;
use crate::config::{Changes, Config, ServerSettings, warn_of_shared_secrets};
use crate::destination_state::DestinationStates;
use crate::intake::{Intake, Rules};
use crate::listen::Listen;
use crate::observe::refusals::{FLUSH_EVERY, Refusals};
use crate::observe::warnings::Warnings;
use crate::pipeline_events::EventBus;
use crate::quarantine::Quarantine;
use crate::receive::Receiver;
use crate::shutdown::{Shutdown, ShutdownSwitch, shutdown};
use crate::store::{GatewayIdentity, Store, StoreError, StoreUrl};
use crate::tls::Tls;
use crate::wakeups::Wakeups;
use crate::{admin, destination, listen, prune, receive, store};
use circuits::Circuits;
use dispatchers::{BuiltDestination, Dispatchers};
use fleet::Fleet;
use report::Opened;

/// Longest wait for deliveries under way when everything is to stop, beside that for requests.
/// Service managers kill after 90 s.
pub const DELIVER_DRAIN_MAX: Duration = Duration::from_secs(30);
/// How long a disk that hangs may take to come back when the gateway stops. Until it does, no
/// delivery can be settled, and each is made again at the next start.
const DISK_WAIT_MAX: Duration = Duration::from_secs(2);
const DISK_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longest wait for the store to hear that this gateway is about to go.
const PART_TIME_MAX: Duration = Duration::from_secs(1);

/// Longest wait for refused requests to be kept in the quarantine, when the gateway stops.
const QUARANTINE_TIME_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the counts of the last second to be written, when the gateway stops.
const TRAFFIC_TIME_MAX: Duration = Duration::from_secs(1);

const ADMIN_WITHOUT_TLS: &str = "the admin port can be reached from other machines and has no TLS: its token and all payloads can be read on the way; add [server.admin_tls] with `certificate` and `key`, or listen on 127.0.0.1";

/// A running gateway.
pub struct Gateway {
    public: SocketAddr,
    admin: Option<SocketAddr>,
    store: Arc<dyn Store>,
    intake: Arc<Intake>,
    quarantine: Arc<Quarantine>,
    refusals: Arc<Refusals>,
    events: EventBus,
    limits: Arc<receive::Limits>,
    tls: Option<Arc<Tls>>,
    /// Where the admin port has a certificate of its own.
    admin_tls: Option<Arc<Tls>>,
    switch: ShutdownSwitch,
    servers: JoinSet<()>,
    dispatchers: Dispatchers,
    readiness: Arc<Readiness>,
    identity: watch::Sender<GatewayIdentity>,
    config: Config,
    warnings: Warnings,
    opened: Opened,
    started: Instant,
    clock: Clock,
}

impl Gateway {
    /// Binds the ports, opens the store and begins to receive and to deliver.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        // First of all what may well fail: nothing is claimed by a gateway that does not come up.
        let public = bind(config.listen).await?;
        let admin = match config.admin {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let warnings = Warnings::default();
        let was_there = report::is_there(&config.store.url);
        let clock = Clock::default();
        let store = store::open(&config.store, &clock, &warnings)
            .await
            .map_err(|error| cannot_open(&config.store.url, error))?;
        timekeeping::log_doubt(&clock, &warnings);
        let identity = identity::of(&config, public.local_addr()?);
        store.announce(identity.clone()).await?;
        let (identity, announced) = watch::channel(identity);
        let opened = Opened::look(&*store, was_there).await?;
        destination::warn_doubts(&config.destinations, public.local_addr()?);
        warn_of_shared_secrets(&config.endpoints);
        let events = EventBus::default();
        if let Some(address) = config.admin
            && !address.ip().is_loopback()
            && config.server.admin_tls.is_none()
        {
            warnings.begin("admin-port-without-tls", ADMIN_WITHOUT_TLS);
        }
        let destinations = BuiltDestination::all(config.destinations.clone(), &clock)?;
        let wakeups = Wakeups::default();
        let states = DestinationStates::default();
        for (name, _) in store.paused().await? {
            states.of(&name).set_paused(true);
        }
        let targets = Targets::default();
        let circuits = Circuits::by(clock.clone());
        let known = store.circuits().await?;
        let mut dispatchers = Dispatchers {
            store: Arc::clone(&store),
            clock: clock.clone(),
            events: events.clone(),
            wakeups: wakeups.clone(),
            states: states.clone(),
            targets: targets.clone(),
            circuits: circuits.clone(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        };
        dispatchers.apply_settings(destinations);
        circuits.sync_from_fleet(&circuits.epochs(), &known);
        admin::note_unconfigured(opened.waiting(), &targets, &warnings);
        let fleet = Fleet {
            store: Arc::clone(&store),
            wakeups: wakeups.clone(),
            states: states.clone(),
            targets: targets.clone(),
            circuits,
            identity: announced,
        };
        let rules = rules(&config, wakeups, states);
        let intake = Arc::new(Intake::new(
            rules,
            Arc::clone(&store),
            events.clone(),
            clock.clone(),
        ));
        let refusals: Arc<Refusals> = Arc::default();
        let quarantine = Arc::new(Quarantine::new(Arc::clone(&intake), Arc::clone(&refusals)));
        let readiness: Arc<Readiness> = Arc::default();
        let operators = Admin {
            store: Arc::clone(&store),
            quarantine: Arc::clone(&quarantine),
            readiness: Arc::clone(&readiness),
            warnings: warnings.clone(),
            clock: clock.clone(),
            targets: targets.clone(),
            states: intake.rules().states.clone(),
            wakeups: intake.rules().wakeups.clone(),
            refusals: Arc::clone(&refusals),
            token: config.admin_token.clone(),
        };
        let (public_port, admin_port) = (
            Listen::public(&config.server),
            Listen::admin(&config.server, admin::Bounds::LONGEST),
        );
        let limits = Arc::new(receive::Limits::new(
            config.server.requests_max,
            config.server.body_timeout,
        ));
        limits.set_limits(requests_max(&config));
        let receiver = Receiver {
            limits: Arc::clone(&limits),
            intake: Arc::clone(&intake),
            quarantine: Arc::clone(&quarantine),
            refusals: Arc::clone(&refusals),
        };

        let (switch, shutdown) = shutdown();
        let mut gateway = Self {
            public: public.local_addr()?,
            admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
            store: Arc::clone(&store),
            intake,
            quarantine,
            refusals: Arc::clone(&refusals),
            events,
            limits,
            tls: config.server.tls.clone(),
            admin_tls: config
                .server
                .admin_tls
                .clone()
                .filter(|_| !config.server.shares_tls()),
            switch,
            servers: JoinSet::new(),
            dispatchers,
            readiness,
            identity,
            config,
            warnings: warnings.clone(),
            clock: clock.clone(),
            opened,
            started: Instant::now(),
        };
        let traffic = gateway.events.traffic().clone();
        gateway
            .servers
            .spawn(traffic.run(Arc::clone(&store), shutdown.clone()));
        gateway.servers.spawn(prune::run(
            Arc::clone(&store),
            clock.clone(),
            shutdown.clone(),
        ));
        let (intake, mut until) = (Arc::clone(&gateway.intake), shutdown.clone());
        gateway.servers.spawn(async move {
            tokio::select! {
                () = until.begun() => {}
                () = intake.oddities().run() => {}
            }
        });
        let mut until = shutdown.clone();
        gateway.servers.spawn(admin::watch_unconfigured(
            Arc::clone(&store),
            targets,
            warnings.clone(),
            async move { until.begun().await },
        ));
        gateway.servers.spawn(timekeeping::run(
            clock.clone(),
            Arc::clone(&store),
            warnings,
            shutdown.clone(),
        ));
        gateway.servers.spawn(fleet.run(shutdown.clone()));
        gateway
            .servers
            .spawn(log_refusals(Arc::clone(&refusals), shutdown.clone()));
        let router = receive::router(receiver);
        gateway.servers.spawn(listen::serve(
            public,
            router,
            public_port,
            Arc::clone(&refusals),
            shutdown.clone(),
        ));
        if let Some(admin) = admin {
            let router = admin::router(operators);
            gateway
                .servers
                .spawn(listen::serve(admin, router, admin_port, refusals, shutdown));
        }
        Ok(gateway)
    }

    /// Where OpenAI posts: `/webhooks/{endpoint}` on this address.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where operators ask `/livez` and `/readyz`, if that is configured.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The certificate of the public port, if it has one: to be read again when told to.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// The feed of pipeline events.
    #[must_use]
    pub fn events(&self) -> &EventBus {
        &self.events
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The quarantine.
    #[must_use]
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Tells in the log, in one line, which version runs on which configuration and store, and what
    /// waits there. `file` is where the configuration was read from.
    pub fn log_start(&self, file: &Path) {
        self.opened.log(file, &self.config);
    }

    /// Conditions that an operator must know of while they last.
    #[must_use]
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Goes on under this configuration: secrets, endpoints, destinations and limits change without
    /// a request or a delivery being dropped. Gives what has changed. On an error nothing has.
    pub fn reload(&mut self, mut config: Config) -> anyhow::Result<Changes> {
        let destinations = BuiltDestination::all(config.destinations.clone(), &self.clock)?;
        let before = self.intake.rules();
        let (wakeups, states) = (before.wakeups.clone(), before.states.clone());
        let mut changes = Changes::between(&self.config, &config);
        for key in &changes.at_next_start {
            tracing::warn!("{key} has changed; restart the gateway to put it into effect");
        }
        destination::warn_doubts(&config.destinations, self.public);
        warn_of_shared_secrets(&config.endpoints);
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
        // The workers first: whoever hears of a destination may deliver to it.
        self.dispatchers.apply_settings(destinations);
        self.limits.set_limits(requests_max(&config));
        self.intake.apply_rules(rules(&config, wakeups, states));
        self.identity
            .send_replace(identity::of(&config, self.public));
        // What counts from the next start is compared with what runs until then, however often this is done.
        let running = std::mem::replace(&mut self.config, config);
        config = Config {
            endpoints: std::mem::take(&mut self.config.endpoints),
            destinations: std::mem::take(&mut self.config.destinations),
            server: ServerSettings {
                drain: self.config.server.drain,
                ..running.server
            },
            ..running
        };
        self.config = config;
        Ok(changes)
    }

    /// Tells in the log what waits for the destinations that a reload has removed. It asks the
    /// store, which may take a while.
    pub fn log_removed(&self, changes: Changes) -> impl Future<Output = ()> + Send + 'static {
        let store = Arc::clone(&self.store);
        let (targets, warnings) = (self.dispatchers.targets.clone(), self.warnings.clone());
        async move {
            if let Some(waiting) = report::log_removed(&*store, &changes).await {
                admin::note_unconfigured(&waiting, &targets, &warnings);
            }
        }
    }

    /// Waits until a part ends that should not: a panic there would otherwise leave a gateway that
    /// looks alive and does half its work. Restart it then.
    pub async fn failed(&mut self) {
        tokio::select! {
            Some(_) = self.servers.join_next() => {}
            () = self.dispatchers.failed() => {}
            () = self.store.failed() => {}
        }
    }

    /// How long [`drain`](Self::drain) takes.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        self.config.server.drain
    }

    /// Says that it is not ready, and waits for as long as whoever sends webhooks here may take to
    /// send them elsewhere. All of them are taken and kept meanwhile. Then [`stop`](Self::stop) it.
    pub async fn drain(&self) {
        self.readiness.stop();
        sleep(self.config.server.drain).await;
    }

    /// Stops receiving and claiming, finishes the requests and deliveries under way within a bound,
    /// and closes the store last: an acknowledgement needs it, and so does a settlement.
    pub async fn stop(mut self) {
        self.readiness.stop();
        // Once the port is free someone else may have it while deliveries are still under way here.
        let parting = GatewayIdentity {
            exclusive_address: None,
            ..self.identity.borrow().clone()
        };
        drop(timeout(PART_TIME_MAX, self.store.announce(parting)).await);
        self.switch.begin();
        while self.servers.join_next().await.is_some() {}
        drop(timeout(QUARANTINE_TIME_MAX, self.quarantine.written()).await);
        self.refusals.flush();
        self.intake.oddities().flush();
        let hangs = disk_hangs(&*self.store, DISK_WAIT_MAX);
        let is_finished = self.dispatchers.stop(DELIVER_DRAIN_MAX, hangs).await;
        let counted = self.events.traffic().write(&*self.store);
        drop(timeout(TRAFFIC_TIME_MAX, counted).await);
        let ran = self.started.elapsed();
        if is_finished {
            report::log_end(&*self.store, ran).await;
        } else {
            tracing::warn!(
                "stopped after {}: deliveries were still under way; they are retried after the next start",
                report::spoken(ran)
            );
        }
        self.store.close().await;
    }
}

/// Waits until the disk of the store has been hanging for `time`.
async fn disk_hangs(store: &dyn Store, time: Duration) {
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

/// Logs what was refused and is not logged yet, until shutdown.
async fn log_refusals(refusals: Arc<Refusals>, mut shutdown: Shutdown) {
    let mut looks = interval(FLUSH_EVERY);
    loop {
        tokio::select! {
            _ = looks.tick() => refusals.log_due(),
            () = shutdown.begun() => return,
        }
    }
}

/// How many requests of each endpoint there may be at once.
fn requests_max(config: &Config) -> impl Iterator<Item = (String, usize)> {
    config
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.name.clone(), endpoint.requests_max))
}

fn rules(config: &Config, wakeups: Wakeups, states: DestinationStates) -> Rules {
    Rules {
        endpoints: config
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.name.clone(), endpoint.webhooks.clone()))
            .collect(),
        destinations: config
            .destinations
            .iter()
            .map(|settings| (settings.name.clone(), settings.events.clone()))
            .collect(),
        wakeups,
        states,
    }
}

/// The error for a store that cannot be opened. The command line chooses its exit code by the kinds
/// that stay a [`StoreError`].
fn cannot_open(url: &StoreUrl, error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Unavailable(cause) | StoreError::Unusable(cause) => {
            anyhow::anyhow!("cannot open the store {url}: {cause}")
        }
        error => anyhow::Error::new(error).context(format!("cannot open the store {url}")),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = bind_remedy(&error, address.port());
        let remedy = remedy.map_or_else(String::new, |remedy| format!(": {remedy}"));
        anyhow::Error::new(error).context(format!("cannot listen on {address}{remedy}"))
    })
}

/// The remedy for a port that cannot be opened, if there is one.
fn bind_remedy(error: &std::io::Error, port: u16) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another program, or another unwrapd, uses the port: stop it (`ss -ltnp 'sport = :{port}'` names it), or set another port"
        ),
        ErrorKind::PermissionDenied => format!(
            "this user may not open port {port}: set one of 1024 or more and forward to it, or give the program the capability CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)"
        ),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address (`ip address` lists them): set one that it has, or 0.0.0.0 for all".into()
        }
        _ => match Errno::from_io_error(error)? {
            Errno::AFNOSUPPORT => {
                "this machine does not support this kind of address, such as IPv6: set an IPv4 address".into()
            }
            Errno::MFILE | Errno::NFILE => {
                "too many files are open: raise the limit (ulimit -n, LimitNOFILE)".into()
            }
            _ => return None,
        },
    })
}
