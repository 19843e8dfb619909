//! Wires the parts, starts them, and stops them in order.

mod circuits;
mod fleet;
mod introduction;
mod peers;
mod timekeeping;
mod workers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admin::{Admin, Readiness, Targets};
use crate::clock::Clock;
use crate::config::Config;
use crate::feed::Feed;
use crate::intake::{Intake, Rules};
use crate::listen::Listen;
use crate::observe::warnings::Warnings;
use crate::progress::Board;
use crate::quarantine::Quarantine;
use crate::receive::Receiver;
use crate::shutdown::{ShutdownSwitch, shutdown};
use crate::store::{Introduction, Store};
use crate::tls::Tls;
use crate::wake::Bells;
use crate::{admin, destination, listen, prune, receive, store};
use circuits::Circuits;
use fleet::Fleet;
use workers::{Built, Workers};

/// Longest wait for deliveries under way when everything is to stop, beside that for requests. Service managers kill after 90 s.
const DELIVER_DRAIN_MAX: Duration = Duration::from_secs(30);

/// Longest wait for the store to hear that this gateway is about to go.
const PART_TIME_MAX: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Gateway {
    public: SocketAddr,
    admin: Option<SocketAddr>,
    store: Arc<dyn Store>,
    intake: Arc<Intake>,
    quarantine: Arc<Quarantine>,
    feed: Feed,
    limits: Arc<receive::Limits>,
    tls: Option<Arc<Tls>>,
    switch: ShutdownSwitch,
    servers: JoinSet<()>,
    workers: Workers,
    readiness: Arc<Readiness>,
    introduction: watch::Sender<Introduction>,
    config: Config,
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
        let clock = Clock::default();
        let store = store::open(&config.store, &clock, &warnings)
            .await
            .with_context(|| format!("cannot open the store {}", config.store.url))?;
        timekeeping::tell(&clock, &warnings);
        let introduction = introduction::of(&config, public.local_addr()?);
        store.introduce(introduction.clone()).await?;
        let (introduction, introduced) = watch::channel(introduction);
        tell_backlog(&*store, &config).await?;
        destination::tell_doubts(&config.destinations, public.local_addr()?);
        let feed = Feed::default();
        let destinations = Built::all(config.destinations.clone(), &clock)?;
        let bells = Bells::default();
        let board = Board::default();
        for (name, _) in store.paused().await? {
            board.of(&name).set_paused(true);
        }
        let targets = Targets::default();
        let circuits = Circuits::by(clock.clone());
        let known = store.circuits().await?;
        let mut workers = Workers {
            store: Arc::clone(&store),
            clock: clock.clone(),
            feed: feed.clone(),
            bells: bells.clone(),
            board: board.clone(),
            targets: targets.clone(),
            circuits: circuits.clone(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        };
        workers.follow(destinations);
        circuits.follow(&circuits.epochs(), &known);
        let fleet = Fleet {
            store: Arc::clone(&store),
            bells: bells.clone(),
            board: board.clone(),
            targets: targets.clone(),
            circuits,
            introduction: introduced,
        };
        let rules = rules(&config, bells, board);
        let intake = Arc::new(Intake::new(
            rules,
            Arc::clone(&store),
            feed.clone(),
            clock.clone(),
        ));
        let quarantine = Arc::new(Quarantine::new(Arc::clone(&intake)));
        let readiness: Arc<Readiness> = Arc::default();
        let operators = Admin {
            store: Arc::clone(&store),
            quarantine: Arc::clone(&quarantine),
            readiness: Arc::clone(&readiness),
            warnings: warnings.clone(),
            clock: clock.clone(),
            targets,
            board: intake.rules().board.clone(),
            bells: intake.rules().bells.clone(),
            token: config.admin_token.clone(),
        };
        let (public_port, admin_port) = (
            Listen::public(&config.server),
            Listen::admin(&config.server),
        );
        let limits = Arc::new(receive::Limits::new(
            config.server.requests_max,
            config.server.body_timeout,
        ));
        limits.follow(requests_max(&config));
        let receiver = Receiver {
            limits: Arc::clone(&limits),
            intake: Arc::clone(&intake),
            quarantine: Arc::clone(&quarantine),
        };

        let (switch, shutdown) = shutdown();
        let mut gateway = Self {
            public: public.local_addr()?,
            admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
            store: Arc::clone(&store),
            intake,
            quarantine,
            feed,
            limits,
            tls: config.server.tls.clone(),
            switch,
            servers: JoinSet::new(),
            workers,
            readiness,
            introduction,
            config,
            clock: clock.clone(),
        };
        gateway.servers.spawn(prune::run(
            Arc::clone(&store),
            clock.clone(),
            shutdown.clone(),
        ));
        gateway.servers.spawn(timekeeping::run(
            clock.clone(),
            Arc::clone(&store),
            warnings,
            shutdown.clone(),
        ));
        gateway.servers.spawn(fleet.run(shutdown.clone()));
        let router = receive::router(receiver);
        gateway
            .servers
            .spawn(listen::serve(public, router, public_port, shutdown.clone()));
        if let Some(admin) = admin {
            let router = admin::router(operators);
            gateway
                .servers
                .spawn(listen::serve(admin, router, admin_port, shutdown));
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

    /// What happens, from now on.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What is kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What could not be proven.
    #[must_use]
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Goes on under this configuration: secrets, endpoints, destinations and limits change without a request or a delivery being
    /// dropped. On an error nothing has changed.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        let destinations = Built::all(config.destinations.clone(), &self.clock)?;
        let before = self.intake.rules();
        let (bells, board) = (before.bells.clone(), before.board.clone());
        for (key, is_other) in [
            ("listen", config.listen != self.config.listen),
            ("admin", config.admin != self.config.admin),
            ("admin_token", config.admin_token != self.config.admin_token),
            ("[store]", config.store != self.config.store),
            ("[server]", !config.server.serves_as(&self.config.server)),
        ] {
            if is_other {
                tracing::warn!("{key} has changed; that counts from the next start");
            }
        }
        destination::tell_doubts(&config.destinations, self.public);
        if let (Some(current), Some(read)) = (&self.tls, &config.server.tls) {
            current.adopt(read);
        }
        // The workers first: whoever hears of a destination may deliver to it.
        self.workers.follow(destinations);
        self.limits.follow(requests_max(&config));
        self.intake.follow(rules(&config, bells, board));
        self.introduction
            .send_replace(introduction::of(&config, self.public));
        self.config = config;
        Ok(())
    }

    /// Waits until a part ends that should not: a panic there would otherwise leave a gateway that looks alive and does half its
    /// work. Restart it then.
    pub async fn failed(&mut self) {
        tokio::select! {
            Some(_) = self.servers.join_next() => {}
            () = self.workers.failed() => {}
            () = self.store.ended() => {}
        }
    }

    /// How long [`drain`](Self::drain) takes.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        self.config.server.drain
    }

    /// Says that it is not ready, and waits for as long as whoever sends webhooks here may take to send them elsewhere. All of them are
    /// taken and kept meanwhile. Then [`stop`](Self::stop) it.
    pub async fn drain(&self) {
        self.readiness.stop();
        sleep(self.config.server.drain).await;
    }

    /// Stops receiving and claiming, finishes the requests and deliveries under way within a bound, and closes the store last: an
    /// acknowledgement needs it, and so does a settlement.
    pub async fn stop(mut self) {
        self.readiness.stop();
        // Once the port is free someone else may have it while deliveries are still under way here.
        let parting = Introduction {
            place: None,
            ..self.introduction.borrow().clone()
        };
        drop(timeout(PART_TIME_MAX, self.store.introduce(parting)).await);
        self.switch.begin();
        while self.servers.join_next().await.is_some() {}
        if !self.workers.stop(DELIVER_DRAIN_MAX).await {
            tracing::warn!(
                "deliveries were still under way; they are made again at the next start"
            );
        }
        self.store.close().await;
    }
}

/// How many requests of each endpoint there may be at once.
fn requests_max(config: &Config) -> impl Iterator<Item = (String, usize)> {
    config
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.name.clone(), endpoint.requests_max))
}

fn rules(config: &Config, bells: Bells, board: Board) -> Rules {
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
        bells,
        board,
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; is another program using the port?"))
}

/// Deliveries of a destination that is no longer configured wait for ever; who renamed it wants to know.
async fn tell_backlog(store: &dyn Store, config: &Config) -> anyhow::Result<()> {
    for (name, deliveries) in store.backlog().await? {
        if config
            .destinations
            .iter()
            .any(|settings| settings.name == name)
        {
            tracing::info!("{deliveries} deliveries wait for `{name}`");
        } else {
            tracing::warn!(
                "{deliveries} deliveries wait for `{name}`, which is not configured: they stay in the store"
            );
        }
    }
    Ok(())
}
