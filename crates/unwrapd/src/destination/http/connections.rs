//! The connections of a destination. None is used for longer than an age: a name that was given
//! another address would otherwise lead to the old server for as long as there is traffic.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;

/// Longest time, unless set otherwise, for which a connection is given new requests. One request
/// under way may take longer. A new connection costs a look-up and a handshake, once in that time.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// A client whose connections are replaced. Requests under way end on the connections they began on.
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

    /// Has requests that begin from now on make new connections.
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
                // It was made before in the same way; the old connections serve until the next try.
                Err(error) => tracing::warn!("cannot make a new client: {error}"),
            }
        }
        current.client.clone()
    }
}
