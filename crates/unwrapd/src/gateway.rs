//! Wires the parts, starts them, and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::feed::Feed;
use crate::receive::Receiver;
use crate::shutdown::{Shutdown, ShutdownSwitch, shutdown};
use crate::store::Store;
use crate::wake::Bells;
use crate::{admin, destination, receive, store};

/// A running gateway.
pub struct Gateway {
    public: SocketAddr,
    admin: Option<SocketAddr>,
    store: Arc<dyn Store>,
    feed: Feed,
    switch: ShutdownSwitch,
    servers: JoinSet<()>,
    dispatchers: JoinSet<()>,
}

impl Gateway {
    /// Opens the store, binds the ports and begins to receive and to deliver.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let store = store::open(&config.store, Timestamp::now())
            .with_context(|| format!("cannot open the store {}", config.store))?;
        let (switch, shutdown) = shutdown();
        let feed = Feed::default();
        let bells = Bells::new(
            config
                .destinations
                .iter()
                .map(|settings| settings.name.clone()),
        );

        let mut dispatchers = JoinSet::new();
        for settings in &config.destinations {
            let dispatcher = Dispatcher {
                name: settings.name.clone(),
                destination: destination::build(settings)?,
                concurrency: settings.concurrency,
                timeout: settings.timeout,
                retry: settings.retry.clone(),
                store: Arc::clone(&store),
                bell: bells.of(&settings.name),
                feed: feed.clone(),
            };
            dispatchers.spawn(Arc::new(dispatcher).run(shutdown.clone()));
        }

        let mut servers = JoinSet::new();
        let receiver = Receiver {
            endpoints: config
                .endpoints
                .into_iter()
                .map(|endpoint| (endpoint.name, endpoint.webhooks))
                .collect(),
            destinations: config
                .destinations
                .into_iter()
                .map(|settings| (settings.name, settings.events))
                .collect(),
            store: Arc::clone(&store),
            bells,
            feed: feed.clone(),
        };
        let public = serve(
            &mut servers,
            config.listen,
            receive::router(receiver),
            &shutdown,
        )
        .await?;
        let admin = match config.admin {
            Some(address) => {
                let router = admin::router(Arc::clone(&store));
                Some(serve(&mut servers, address, router, &shutdown).await?)
            }
            None => None,
        };
        Ok(Self {
            public,
            admin,
            store,
            feed,
            switch,
            servers,
            dispatchers,
        })
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

    /// Stops receiving, finishes the requests and deliveries under way, and closes the store, in this order: an acknowledgement
    /// needs the store, and so does a settlement.
    pub async fn stop(mut self) {
        self.switch.begin();
        while self.servers.join_next().await.is_some() {}
        while self.dispatchers.join_next().await.is_some() {}
        self.store.close().await;
    }
}

async fn serve(
    servers: &mut JoinSet<()>,
    address: SocketAddr,
    router: Router,
    shutdown: &Shutdown,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is another program using the port?")
    })?;
    let address = listener.local_addr()?;
    let mut shutdown = shutdown.clone();
    let server =
        axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.begun().await });
    servers.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!("the server on {address} ended: {error}");
        }
    });
    Ok(address)
}
