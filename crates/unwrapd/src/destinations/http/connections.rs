//! The connections of a destination, with a maximum age. Otherwise, after a host name got a new
//! address, busy connections would lead to the old server forever.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;

/// Default maximum age of a connection that gets new requests. A running request may take longer. A
/// new connection costs one lookup and one handshake in that time.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// A client whose connections are replaced. Running requests stay on their connections.
pub(super) struct Connections {
    make: Box<dyn Fn() -> reqwest::Result<Client> + Send + Sync>,
    age_max: Duration,
    current: Mutex<Generation>,
}

struct Generation {
    client: Client,
    made_at: Instant,
}

impl Connections {
    pub(super) fn new(
        age_max: Duration,
        make: impl Fn() -> reqwest::Result<Client> + Send + Sync + 'static,
    ) -> reqwest::Result<Self> {
        let current = Mutex::new(Generation {
            client: make()?,
            made_at: Instant::now(),
        });
        Ok(Self {
            make: Box::new(make),
            age_max,
            current,
        })
    }

    /// The client for a request that begins now.
    pub(super) fn client(&self) -> Client {
        self.current(self.age_max)
    }

    /// Makes all later requests use new connections.
    pub(super) fn renew(&self) {
        self.current(Duration::ZERO);
    }

    fn current(&self, age_max: Duration) -> Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.made_at.elapsed() >= age_max {
            match (self.make)() {
                Ok(client) => {
                    *current = Generation {
                        client,
                        made_at: Instant::now(),
                    };
                }
                // This is unlikely, since the same client was made before. The old connections are
                // used until the next try.
                Err(error) => tracing::warn!("cannot create a new HTTP client: {error}"),
            }
        }
        current.client.clone()
    }
}
