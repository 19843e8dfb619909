//! Moves the log into the database beside the writer, so that no commit waits for it.
//!
//! A thread of its own copies most of the log while the writer goes on; what was written meanwhile,
//! a little, the writer copies itself between two commits, and then begins the log anew. So the log
//! stays small under any load.
//!
//! A read transaction of another program keeps the log from being moved and from beginning anew.
//! While much is left behind, the thread tries again by itself, and a warning lasts until the log
//! was moved and its file is small again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::StoreError;
use crate::sqlite::files::holders;
use crate::sqlite::files::store_files::Known;
use crate::sqlite::lock;
use crate::sqlite::schema;
use unwrapd_core::observe::warnings::Warnings;

/// Pages in the log (4 KiB each) at which they are moved. Fewer would be moved more often than
/// needed, more take longer at once.
const LOG_PAGES: i32 = 4000;

/// Size of the log from which on a warning is given: four times the size at which a checkpoint
/// begins.
const LEFT_BEHIND_MAX_MIB: u64 = 64;

/// Size above which the file of the log is cut off when the log begins anew.
const LOG_FILE_MAX_MIB: u64 = 64;

/// How often moving the log is tried again while a reader keeps it.
const RETRY_EVERY: Duration = Duration::from_secs(1);

const MIB: u64 = 1024 * 1024;

/// The condition that much of the log cannot be moved, among [`Warnings`].
const WARNING: &str = "store-log";

/// Task of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing but count.
    Count,
    /// Move what it can beside readers and writers.
    Passive,
    /// Move all of it, and have the log begin anew.
    Restart,
    /// Move all of it, and cut the log off.
    Truncate,
}

/// Result of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Somebody read or wrote, and not everything asked for was done.
    pub(crate) is_busy: bool,
    /// Frames in the log, a page each.
    pub(crate) frames: u32,
    /// Frames that are in the database as well.
    pub(crate) moved: u32,
}

/// Runs a checkpoint. It waits for others as long as the connection may.
pub(crate) fn run(connection: &Connection, mode: Mode) -> rusqlite::Result<Counts> {
    let mode = match mode {
        Mode::Count => "NOOP",
        Mode::Passive => "PASSIVE",
        Mode::Restart => "RESTART",
        Mode::Truncate => "TRUNCATE",
    };
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    connection.prepare_cached(&pragma)?.query_row((), |row| {
        // Negative where there is nothing to count.
        let count = |number: i64| u32::try_from(number).unwrap_or(0);
        Ok(Counts {
            is_busy: row.get(0)?,
            frames: count(row.get(1)?),
            moved: count(row.get(2)?),
        })
    })
}

/// As [`run`], waiting for nobody.
pub(crate) fn run_at_once(connection: &Connection, mode: Mode) -> rusqlite::Result<Counts> {
    connection.busy_timeout(Duration::ZERO)?;
    let counts = run(connection, mode);
    connection.busy_timeout(schema::LOCK_WAIT_MAX)?;
    counts
}

/// The thread that moves the log, as the writer sees it.
pub(crate) struct Checkpoints {
    order: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// How often the log was moved by us, as of some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passes {
    begun: u32,
    ended: u32,
}

impl Passes {
    /// Whether the log was being moved at some time from `earlier` on.
    pub(crate) fn have_gone_on_since(self, earlier: Self) -> bool {
        self.begun != earlier.ended
    }
}

struct Shared {
    database: Known,
    log: PathBuf,
    warnings: Warnings,
    is_nearly_done: AtomicBool,
    /// Much is left in the log, or was and its file is still large.
    is_behind: AtomicBool,
    /// A sync of what was moved has failed.
    has_failed_to_sync: AtomicBool,
    /// How often moving the log was begun,
    begun: AtomicU32,
    /// and how often it was ended.
    ended: AtomicU32,
    /// Frames in the log after the last commit of the writer; 0 once they were asked for.
    frames: AtomicI32,
    /// Held while the log is moved.
    under_way: Mutex<()>,
}

impl Checkpoints {
    /// For the database that `database` knows, and the log beside it.
    pub(crate) fn start(
        database: Known,
        log: PathBuf,
        warnings: Warnings,
    ) -> Result<Arc<Self>, StoreError> {
        // One order at a time: while one is carried out there is no room for another, and none is needed.
        let (order, orders) = sync_channel(1);
        let shared = Arc::new(Shared {
            database,
            log,
            warnings,
            is_nearly_done: AtomicBool::default(),
            is_behind: AtomicBool::default(),
            has_failed_to_sync: AtomicBool::default(),
            begun: AtomicU32::default(),
            ended: AtomicU32::default(),
            frames: AtomicI32::default(),
            under_way: Mutex::default(),
        });
        let at_work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || carry_out(&orders, &at_work))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Arc::new(Self {
            order: Mutex::new(Some(order)),
            thread: Mutex::new(Some(thread)),
            shared,
        }))
    }

    /// Gives the order whenever a commit on this connection leaves a long log; SQLite itself then moves nothing.
    pub(crate) fn watch(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let checkpoints = Arc::clone(self);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            checkpoints.shared.frames.store(pages, Ordering::Relaxed);
            if pages >= LOG_PAGES {
                checkpoints.order();
            }
            Ok(())
        }))
    }

    /// Has the log moved.
    pub(crate) fn order(&self) {
        if let Some(order) = &*lock(&self.order) {
            // Full: the order stands already.
            let _: Result<(), _> = order.try_send(());
        }
    }

    /// How many frames the last commit has left in the log, unless that was asked before.
    pub(crate) fn take_frames(&self) -> Option<u32> {
        let frames = self.shared.frames.swap(0, Ordering::Relaxed);
        u32::try_from(frames).ok().filter(|frames| *frames > 0)
    }

    /// How often the log was moved by us until now.
    pub(crate) fn passes(&self) -> Passes {
        let ended = self.shared.ended.load(Ordering::Acquire);
        let begun = self.shared.begun.load(Ordering::Acquire);
        Passes { begun, ended }
    }

    pub(crate) fn is_nearly_done(&self) -> bool {
        self.shared.is_nearly_done.load(Ordering::Acquire)
    }

    /// Whether a sync of the database has failed since this was last asked. What was moved may be
    /// missing on the disk, and SQLite does not move it again, as long as it remembers that it was
    /// moved.
    pub(crate) fn take_failed_sync(&self) -> bool {
        self.shared.has_failed_to_sync.swap(false, Ordering::AcqRel)
    }

    /// Waits until the log is not being moved; it is not while the guard lives.
    pub(crate) fn wait(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.under_way)
    }

    /// Moves what is left. Whoever reads keeps the log from beginning anew, and is not waited for:
    /// there is a next time.
    pub(crate) fn finish(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.shared.is_nearly_done.store(false, Ordering::Release);
        let is_large = self.shared.log_bytes() > LOG_FILE_MAX_MIB * MIB;
        let mode = if is_large {
            Mode::Truncate
        } else {
            Mode::Restart
        };
        let moved = self.shared.counted(|| run_at_once(connection, mode));
        self.shared.note_failure(moved.as_ref().err());
        if !moved?.is_busy && self.shared.is_behind.swap(false, Ordering::AcqRel) {
            self.shared.warnings.end(
                WARNING,
                "the log of the store was moved into the database, and is small again",
            );
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        lock(&self.order).take();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!(
                "the thread that moves the log of the store ended by a panic (a bug; please report it)"
            );
        }
    }
}

impl Shared {
    /// Runs what moves the log.
    fn counted<T>(&self, run: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::AcqRel);
        let done = run();
        self.ended.fetch_add(1, Ordering::AcqRel);
        done
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    fn note_failure(&self, error: Option<&rusqlite::Error>) {
        let code = error.and_then(|error| error.sqlite_error());
        if code.is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC) {
            self.has_failed_to_sync.store(true, Ordering::Release);
        }
    }

    fn note(&self, counts: Counts) {
        // The header of a frame makes little difference.
        let left = u64::from(counts.frames.saturating_sub(counts.moved)) * 4096 / MIB;
        // Much is left to this thread, so that no commit waits while the writer moves it.
        self.is_nearly_done
            .store(left < LEFT_BEHIND_MAX_MIB, Ordering::Release);
        if left >= LEFT_BEHIND_MAX_MIB {
            self.is_behind.store(true, Ordering::Release);
            self.warnings.begin(
                WARNING,
                format!(
                    "the log of the store has grown to {} MiB, and {left} MiB of it cannot be moved into the database, because {} holds a read transaction (a backup, a check, a shell). End that program, or the disk may fill up",
                    self.log_bytes() / MIB,
                    holders::of(&self.log).unwrap_or_else(|| "a reader".into()),
                ),
            );
        }
    }
}

fn carry_out(orders: &Receiver<()>, shared: &Shared) {
    while wait_for_order(orders, shared) {
        let _under_way = lock(&shared.under_way);
        match shared.counted(|| move_most(shared)) {
            Ok(Some(counts)) => shared.note(counts),
            // The writer notices as well, and says so.
            Ok(None) => {}
            Err(error) => {
                shared.note_failure(Some(&error));
                let error = schema::store_error(&error);
                tracing::warn!("the log of the store was not moved into the database: {error}");
            }
        }
    }
}

/// `false`: there will be no more orders. While a reader keeps the log, trying again waits a while, and needs no order.
fn wait_for_order(orders: &Receiver<()>, shared: &Shared) -> bool {
    if !shared.is_behind.load(Ordering::Acquire) {
        return orders.recv().is_ok();
    }
    let until = Instant::now() + RETRY_EVERY;
    loop {
        match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// `None`: the database is not where it was.
fn move_most(shared: &Shared) -> rusqlite::Result<Option<Counts>> {
    // Opened each time: a log that the writer has given up must not be moved over what it has written since.
    let connection = schema::connect_beside_unread(shared.database.path())?;
    // Before anything is read, or the log would be moved into someone else's file.
    if shared.database.look().is_err() {
        return Ok(None);
    }
    schema::flush_the_disk(&connection)?;
    run(&connection, Mode::Passive).map(Some)
}
