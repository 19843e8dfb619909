//! Moves the log into the database beside the writer, so that no commit waits for it (a
//! checkpoint).
//!
//! A thread copies most of the log while the writer continues. The writer copies the rest, which
//! was written meanwhile, between two commits, and then restarts the log. So the log stays small
//! under any load.
//!
//! A read transaction of another program prevents moving the log and restarting it. While much is
//! left, the thread retries, and a warning lasts until the log was moved and its file is small
//! again.
//!
//! The thread also watches the free space of the disk, which the writer must not wait for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::StoreError;
use crate::mutex::lock;
use crate::sqlite::connection::{LOCK_WAIT_MAX, connect_beside_unread, flush_the_disk};
use crate::sqlite::error::store_error;
use crate::sqlite::files::known_file::Known;
use crate::sqlite::files::{free_space, holders};
use unwrapd_core::observe::warnings::Warnings;

/// Pages in the log (4 KiB each) at which a checkpoint begins. A smaller number means more
/// checkpoints, a larger one longer checkpoints.
const LOG_PAGES: i32 = 4000;

/// Unmoved size of the log at which a warning begins: four times the size at which a checkpoint
/// begins.
const LEFT_BEHIND_MAX_MIB: u64 = 64;

/// File size above which the log is truncated when it restarts.
const LOG_FILE_MAX_MIB: u64 = 64;

/// Interval between attempts while a reader prevents a checkpoint.
const RETRY_EVERY: Duration = Duration::from_secs(1);

const MIB: u64 = 1024 * 1024;

/// Name of the warning, among [`Warnings`], that much of the log cannot be moved.
const WARNING: &str = "store-log";

/// Kind of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only count frames.
    Count,
    /// Move as many frames as readers and writers allow.
    Passive,
    /// Move all frames, and restart the log.
    Restart,
    /// Move all frames, and truncate the log.
    Truncate,
}

/// Result of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Readers or writers prevented a part of the work.
    pub(crate) is_busy: bool,
    /// Frames in the log, one page each.
    pub(crate) frames: u32,
    /// Frames that are in the database too.
    pub(crate) moved: u32,
}

/// Runs a checkpoint. It waits for locks as long as the connection does.
pub(crate) fn run(connection: &Connection, mode: Mode) -> rusqlite::Result<Counts> {
    let mode = match mode {
        Mode::Count => "NOOP",
        Mode::Passive => "PASSIVE",
        Mode::Restart => "RESTART",
        Mode::Truncate => "TRUNCATE",
    };
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    connection.prepare_cached(&pragma)?.query_row((), |row| {
        // Negative if there is nothing to count.
        let count = |number: i64| u32::try_from(number).unwrap_or(0);
        Ok(Counts {
            is_busy: row.get(0)?,
            frames: count(row.get(1)?),
            moved: count(row.get(2)?),
        })
    })
}

/// Does the same as [`run`], without waiting for locks.
pub(crate) fn run_at_once(connection: &Connection, mode: Mode) -> rusqlite::Result<Counts> {
    connection.busy_timeout(Duration::ZERO)?;
    let counts = run(connection, mode);
    connection.busy_timeout(LOCK_WAIT_MAX)?;
    counts
}

/// The checkpoint thread, as the writer uses it.
pub(crate) struct Checkpoints {
    order: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// Number of checkpoints by this process that have begun and ended at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passes {
    begun: u32,
    ended: u32,
}

impl Passes {
    /// Whether a checkpoint was running at any time since `earlier`.
    pub(crate) fn have_gone_on_since(self, earlier: Self) -> bool {
        self.begun != earlier.ended
    }
}

struct Shared {
    database: Known,
    log: PathBuf,
    warnings: Warnings,
    is_nearly_done: AtomicBool,
    /// Much is left in the log, or was and the file is still large.
    is_behind: AtomicBool,
    /// A sync of moved pages has failed.
    has_failed_to_sync: AtomicBool,
    /// Number of checkpoints that have begun.
    begun: AtomicU32,
    /// Number of checkpoints that have ended.
    ended: AtomicU32,
    /// Frames in the log after the writer's last commit; 0 once they were taken.
    frames: AtomicI32,
    /// Held during a checkpoint.
    under_way: Mutex<()>,
}

impl Checkpoints {
    /// Starts the thread for `database` and the log beside it.
    pub(crate) fn start(
        database: Known,
        log: PathBuf,
        warnings: Warnings,
    ) -> Result<Arc<Self>, StoreError> {
        // One pending order suffices: a checkpoint covers everything that is in the log when it
        // begins.
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

    /// Orders a checkpoint when a commit on this connection leaves a long log. SQLite itself then
    /// makes no checkpoints.
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

    /// Orders a checkpoint.
    pub(crate) fn order(&self) {
        if let Some(order) = &*lock(&self.order) {
            // If the channel is full, an order is pending already.
            let _: Result<(), _> = order.try_send(());
        }
    }

    /// Number of frames that the last commit left in the log. `None` if they were taken before.
    pub(crate) fn take_frames(&self) -> Option<u32> {
        let frames = self.shared.frames.swap(0, Ordering::Relaxed);
        u32::try_from(frames).ok().filter(|frames| *frames > 0)
    }

    /// The checkpoints of this process so far.
    pub(crate) fn passes(&self) -> Passes {
        let ended = self.shared.ended.load(Ordering::Acquire);
        let begun = self.shared.begun.load(Ordering::Acquire);
        Passes { begun, ended }
    }

    pub(crate) fn is_nearly_done(&self) -> bool {
        self.shared.is_nearly_done.load(Ordering::Acquire)
    }

    /// Whether a sync of the database has failed since the last call. Moved pages may then be
    /// missing on the disk, and SQLite does not move them again while its index records them as
    /// moved.
    pub(crate) fn take_failed_sync(&self) -> bool {
        self.shared.has_failed_to_sync.swap(false, Ordering::AcqRel)
    }

    /// Waits for the end of a running checkpoint. None begins while the guard lives.
    pub(crate) fn wait(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.under_way)
    }

    /// Moves the rest of the log. If a reader prevents the restart, the next call tries again.
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
                "the thread that moves the log of the store panicked; please report this bug"
            );
        }
    }
}

impl Shared {
    /// Runs a checkpoint and counts it.
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
        // Headers of frames are neglected.
        let left = u64::from(counts.frames.saturating_sub(counts.moved)) * 4096 / MIB;
        // If much is left, this thread goes on, so that no commit waits while the writer moves it.
        self.is_nearly_done
            .store(left < LEFT_BEHIND_MAX_MIB, Ordering::Release);
        if left >= LEFT_BEHIND_MAX_MIB {
            self.is_behind.store(true, Ordering::Release);
            self.warnings.begin(
                WARNING,
                format!(
                    "the log of the store has grown to {} MiB, and {left} MiB of it cannot be \
                     moved into the database, because {} holds a read transaction (a backup, a \
                     check, a shell). End that program, or the disk may fill up",
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
            // The writer detects this too, and logs it.
            Ok(None) => {}
            Err(error) => {
                shared.note_failure(Some(&error));
                let error = store_error(&error);
                tracing::warn!("cannot move the log of the store into the database: {error}");
            }
        }
    }
}

/// Waits for the next order. `false`: there will be none. While a reader prevents a checkpoint, it
/// returns after [`RETRY_EVERY`], without an order.
fn wait_for_order(orders: &Receiver<()>, shared: &Shared) -> bool {
    while !shared.is_behind.load(Ordering::Acquire) {
        free_space::look(shared.database.path(), &shared.warnings);
        match orders.recv_timeout(free_space::LOOK_EVERY) {
            Ok(()) => return true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
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

/// Moves as much as possible. `None`: the database is no longer at its path.
fn move_most(shared: &Shared) -> rusqlite::Result<Option<Counts>> {
    // Opened each time: after the writer has reopened the log, an old connection would overwrite
    // newer content.
    let connection = connect_beside_unread(shared.database.path())?;
    // Checked before anything is read, or the log would be moved into a file of another
    // application.
    if shared.database.look().is_err() {
        return Ok(None);
    }
    flush_the_disk(&connection)?;
    run(&connection, Mode::Passive).map(Some)
}
