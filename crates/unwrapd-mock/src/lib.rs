//! A mock of the part of OpenAI that ends in a webhook, for tests and demos: background responses,
//! batches with their files, incoming calls, agent sessions, and webhook endpoints with signed
//! deliveries and OpenAI's retries. An official SDK uses it by its base URL.
//!
//! ```no_run
//! # async fn test() -> Result<(), unwrapd_mock::StartError> {
//! use unwrapd_mock::{Mock, Settings};
//!
//! let mut settings = Settings::default();
//! settings.speed = 3600;
//! let mock = Mock::start(settings).await?;
//! println!("OPENAI_BASE_URL={}", mock.base_url());
//! mock.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/guide/mock.md` describes the routes. `engine` has the clock, and runs what `project`
//! plans; each API has a module, and `deliveries` sends the webhooks. The crate knows nothing of
//! the gateway. It is internal: it may change in any release.
#![deny(missing_docs)]
#![cfg(not(windows))]

mod agents;
mod batches;
mod body;
mod calls;
mod clock;
mod collection;
mod control;
mod deliveries;
mod engine;
mod error;
mod files;
mod http;
mod ids;
mod multipart;
mod page;
mod project;
mod report;
mod responses;
mod rules;
mod sender;
mod settings;
mod webhook_endpoints;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use engine::Engine;
pub use report::Report;
pub use rules::{Rule, RuleError};
pub use settings::{Retention, SPEED_MAX, Settings};

/// A running mock. It ends when it is dropped.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    engine: Arc<Engine>,
    tasks: JoinSet<()>,
}

/// The reason why a mock did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is not on loopback.
    #[error("{0} can be reached from other machines, and the mock takes any key")]
    Remote(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The settings cannot be used together.
    #[error("{0}")]
    Settings(String),
    /// The client for webhooks cannot be made.
    #[error("cannot make a client for webhooks: {0}")]
    Client(#[source] reqwest::Error),
}

impl Mock {
    /// Starts a mock.
    pub async fn start(mut settings: Settings) -> Result<Self, StartError> {
        let listen = settings.listen;
        if !settings.allow_remote && !listen.ip().is_loopback() {
            return Err(StartError::Remote(listen));
        }
        if settings.speed > SPEED_MAX {
            let problem = format!("the speed is at most {SPEED_MAX}");
            return Err(StartError::Settings(problem));
        }
        let failed = |error| StartError::Listen(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let rules = std::mem::take(&mut settings.rules);
        let endpoints = std::mem::take(&mut settings.endpoints);
        let engine = Engine::new(settings, base_url(address)).map_err(StartError::Client)?;
        {
            let mut project = engine.project();
            for rule in rules {
                let added = project.rules.add(rule);
                added.map_err(|error| StartError::Settings(error.to_string()))?;
            }
            for (url, secret) in endpoints {
                webhook_endpoints::check_url(&url, project.settings.allow_remote)
                    .map_err(|error| StartError::Settings(error.message))?;
                let text = url.to_string();
                let added = project.add_endpoint("start", (url, &text), None, secret);
                added.map_err(|error| StartError::Settings(error.message))?;
            }
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&engine).run());
        tasks.spawn(http::serve(listener, Arc::clone(&engine)));
        Ok(Self {
            address,
            engine,
            tasks,
        })
    }

    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for an SDK, which ends in `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        base_url(self.address)
    }

    /// Subscribes to all reports from now on. A subscriber that is 4,096 reports behind loses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Report> {
        self.engine.subscribe()
    }

    /// Ends all connections and deliveries.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

fn base_url(address: SocketAddr) -> String {
    format!("http://{address}/v1")
}
