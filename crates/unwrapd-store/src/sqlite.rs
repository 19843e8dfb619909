//! The store in one SQLite file. One thread writes (`writer`), and answers only when its changes
//! are durable.
//!
//! `open` opens the store, and `store` is what its users see of it. `queue` stores and claims, and
//! `operate` is for operators, both as SQL on the connections of `writer` and `readers`. `upkeep`
//! prunes, checks and copies. `schema` opens the database, and `files` checks that nothing else
//! changes its files.

mod connection;
mod error;
mod files;
mod marks;
mod migration;
mod open;
mod operate;
mod queue;
mod readers;
mod schema;
mod statements;
mod store;
mod time;
mod traffic;
mod unrouted;
mod upkeep;
mod writer;

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::error::StoreError;
use readers::Readers;
use unwrapd_core::clock::Clock;
use upkeep::prune::Pruner;
use writer::handle::WriterHandle;

pub(super) use error::is_locked;
pub use files::access;
pub(super) use schema::check_ours_at as check_ours;
pub use time::remembered_at;
pub use upkeep::backup::{Copied, copy};
pub use upkeep::check::check;
pub(super) use upkeep::copy_endpoint::SqliteCopyEndpoint;
pub use upkeep::prune::prunable;
pub use upkeep::vacuum::vacuum;

/// Keeps everything in one SQLite file with its `-wal` and `-shm`, in WAL mode, with an fsync for
/// every commit.
#[derive(Debug)]
pub struct SqliteStore {
    /// Declared first, so that it is closed before the readers.
    writer: WriterHandle,
    readers: Arc<Readers>,
    pruner: tokio::sync::Mutex<Pruner>,
    settlements: Semaphore,
    clock: Clock,
}

impl SqliteStore {
    /// Runs a query on a connection for reading, beside the writer.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.writer.is_closed() {
            return Err(StoreError::closed());
        }
        let readers = Arc::clone(&self.readers);
        let place = readers.place().await?;
        tokio::task::spawn_blocking(move || {
            let read = readers.read(query);
            drop(place);
            read
        })
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}
