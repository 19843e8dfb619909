//! The store in a PostgreSQL database, which several gateways may share. Concurrent changes are
//! written in shared commits (`queue::batch`), and are answered only when they are durable.
//!
//! `open` opens the store, and `store` is what its users see of it. `queue` stores, claims and
//! settles, `fleet` is about the other gateways, and `operate` is for operators. `upkeep` prunes,
//! checks and copies. `shared` is the state that their tasks, the `workers`, share. `connect` leads
//! to the database.

pub(super) mod connect;
mod fleet;
mod migration;
mod open;
mod operate;
mod queue;
pub(super) mod rows;
mod shared;
mod store;
mod time;
mod traffic;
mod upkeep;
mod workers;

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::error::StoreError;
use super::mutex::lock;
use super::queue::Attempt;
use connect::pool::Pool;
use queue::accept::Accept;
use queue::batch::Queue;
use shared::Shared;
use upkeep::prune::Pruner;
use workers::Workers;

pub use connect::address::{AddressError, PostgresAddress};
pub use upkeep::check::check;
pub(super) use upkeep::copy_endpoint::PostgresCopyEndpoint;

/// A store in a schema of a PostgreSQL database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// Whether opening the store has created its schema.
    is_new: bool,
    /// `None` after the store is closed.
    queues: Mutex<Option<Queues>>,
    workers: tokio::sync::Mutex<Workers>,
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

impl PostgresStore {
    fn queues(&self) -> Result<Queues, StoreError> {
        lock(&self.queues).clone().ok_or_else(StoreError::closed)
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }
}
