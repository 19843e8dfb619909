//! Connections for reading. Readers and the writer do not wait for each other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::StoreError;
use crate::mutex::lock;
use crate::sqlite::error::store_error;
use crate::sqlite::files::filesystem;
use crate::sqlite::schema;

/// Maximum number of concurrent reads. Each has a thread, a connection with two files, and a page
/// cache.
const LOOKS_MAX: usize = 6;
/// Maximum number of reads that wait for a permit.
const WAITING_MAX: usize = 64;
/// Longest wait for a permit. Each read is short: a long task consists of many reads.
const WAIT_TIME: Duration = Duration::from_secs(5);
/// Maximum number of idle connections. Each has two files and a page cache.
const IDLE_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Idle>,
    looks: Arc<Semaphore>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Number of times that all connections were closed. A connection taken before the last time is
    /// not put back.
    closings: u64,
    /// The files are no longer ours, so no connection is opened.
    is_abandoned: bool,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Waits for a permit. It must be held until the read has ended, even if the caller has given
    /// up.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let looks = Arc::clone(&self.looks);
        if let Ok(place) = Arc::clone(&looks).try_acquire_owned() {
            return Ok(place);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(StoreError::Busy);
        };
        match timeout(WAIT_TIME, looks.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(StoreError::Busy),
        }
    }

    /// Runs the query. It blocks, so it must not run on a thread of the runtime.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let (connection, closings) = {
            let mut idle = lock(&self.idle);
            if idle.is_abandoned {
                return Err(StoreError::closed());
            }
            (idle.connections.pop(), idle.closings)
        };
        let connection = if let Some(connection) = connection {
            connection
        } else {
            filesystem::check_room(&self.path)?;
            schema::connect_to_read(&self.path)?
        };
        // After an error the connection is not used again.
        let value = query(&connection).map_err(|error| store_error(&error))?;
        let mut idle = lock(&self.idle);
        if idle.is_abandoned {
            std::mem::forget(connection);
        } else if idle.closings == closings && idle.connections.len() < IDLE_MAX {
            idle.connections.push(connection);
        }
        Ok(value)
    }

    pub(crate) fn close(&self) {
        let mut idle = lock(&self.idle);
        idle.connections.clear();
        idle.closings += 1;
    }

    /// Leaks the connections, because SQLite touches the files when it closes one.
    pub(crate) fn abandon(&self) {
        let mut idle = lock(&self.idle);
        idle.connections.drain(..).for_each(std::mem::forget);
        idle.is_abandoned = true;
    }
}
