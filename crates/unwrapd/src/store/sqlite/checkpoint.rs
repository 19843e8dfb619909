//! Moves the log into the database beside the writer, so that no commit waits for it.
//!
//! A thread of its own copies most of the log while the writer goes on; what was written meanwhile, a little, the writer copies
//! itself between two commits, and then begins the log anew. So the log stays small under any load.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::{lock, schema};
use crate::store::StoreError;

/// Pages in the log (4 KiB each) at which they are moved. Fewer would be moved more often than needed, more take longer at once.
const LOG_PAGES: i32 = 4000;

/// The thread that moves the log, as the writer sees it.
pub(super) struct Checkpoints {
    order: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_nearly_done: AtomicBool,
    /// Held while the log is moved.
    under_way: Mutex<()>,
}

impl Checkpoints {
    pub(super) fn start(path: &Path) -> Result<Arc<Self>, StoreError> {
        // One order at a time: while one is carried out there is no room for another, and none is needed.
        let (order, orders) = sync_channel(1);
        let shared = Arc::<Shared>::default();
        let at_work = Arc::clone(&shared);
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&path, &orders, &at_work))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Arc::new(Self {
            order: Mutex::new(Some(order)),
            thread: Mutex::new(Some(thread)),
            shared,
        }))
    }

    /// Gives the order whenever a commit on this connection leaves a long log; SQLite itself then moves nothing.
    pub(super) fn watch(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let checkpoints = Arc::clone(self);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            if pages >= LOG_PAGES
                && let Some(order) = &*lock(&checkpoints.order)
            {
                // Full: the order stands already.
                let _: Result<(), _> = order.try_send(());
            }
            Ok(())
        }))
    }

    pub(super) fn is_nearly_done(&self) -> bool {
        self.shared.is_nearly_done.load(Ordering::Acquire)
    }

    /// Waits until the log is not being moved; it is not while the guard lives.
    pub(super) fn wait(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.under_way)
    }

    /// Moves what is left. Whoever reads keeps the log from beginning anew, and is not waited for: there is a next time.
    pub(super) fn finish(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.shared.is_nearly_done.store(false, Ordering::Release);
        connection.busy_timeout(Duration::ZERO)?;
        let moved = checkpoint(connection, "RESTART");
        connection.busy_timeout(schema::LOCK_WAIT_MAX)?;
        moved
    }

    pub(super) fn close(&self) {
        lock(&self.order).take();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that moves the log of the store ended by a panic");
        }
    }
}

fn run(path: &Path, orders: &Receiver<()>, shared: &Shared) {
    while orders.recv().is_ok() {
        let _under_way = lock(&shared.under_way);
        // Opened each time: a log that the writer has given up must not be moved over what it has written since.
        let moved = schema::connect_beside(path).and_then(|connection| {
            checkpoint(&connection, "PASSIVE").map_err(|error| schema::store_error(&error))
        });
        match moved {
            Ok(()) => shared.is_nearly_done.store(true, Ordering::Release),
            Err(error) => {
                tracing::warn!("the log of the store was not moved into the database: {error}");
            }
        }
    }
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(()))
}
