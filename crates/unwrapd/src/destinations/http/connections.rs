//! The connections of a destination. Each has a greatest age. Otherwise a host name with a new
//! address would lead to the old server for as long as there is traffic.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;

/// Longest time for which a connection gets new requests, by default. A request under way may take
/// longer. A new connection costs one look-up and one handshake in that time.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// A client whose connections are replaced. Requests under way stay on their connections.
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
