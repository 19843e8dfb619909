//! Crash points between two steps, at which a test can kill the process as a power failure would.

use std::fmt;

/// A point at which a test can kill the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the point after the step of its name")]
pub enum CrashPoint {
    Received,
    Verified,
    Gathered,
    Written,
    Committed,
    Accepted,
    Claimed,
    Sent,
    Settling,
    Settled,
    /// After a migration of the store, before its commit.
    Migrated,
    Replayed,
    ReplayCommitted,
    CopyBegun,
    Copying,
    Copied,
    CopyCompared,
    CopyWhole,
}

use CrashPoint::{
    Accepted, Claimed, Committed, Copied, CopyBegun, CopyCompared, CopyWhole, Copying, Gathered,
    Received, Sent, Settled, Settling, Verified, Written,
};

impl CrashPoint {
    /// In the order in which a webhook passes them.
    pub const SQLITE: &[Self] = &[
        Received, Verified, Written, Committed, Accepted, Claimed, Sent, Settled,
    ];

    /// The same for a PostgreSQL store. Changes and their commit are sent together, so there is no
    /// point between them.
    pub const POSTGRES: &[Self] = &[
        Received, Verified, Gathered, Committed, Accepted, Claimed, Sent, Settling, Settled,
    ];

    /// In a copy between stores.
    pub const COPY: &[Self] = &[CopyBegun, Copying, Copied, CopyCompared, CopyWhole];

    /// The name in `UNWRAPD_CRASH_AT`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Gathered => "gathered",
            Self::Written => "written",
            Self::Committed => "committed",
            Self::Accepted => "accepted",
            Self::Claimed => "claimed",
            Self::Sent => "sent",
            Self::Settling => "settling",
            Self::Settled => "settled",
            Self::Migrated => "migrated",
            Self::Replayed => "replayed",
            Self::ReplayCommitted => "replay-committed",
            Self::CopyBegun => "copy-begun",
            Self::Copying => "copying",
            Self::Copied => "copied",
            Self::CopyCompared => "copy-compared",
            Self::CopyWhole => "copy-whole",
        }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kills the process if `UNWRAPD_CRASH_AT` names this point: `sent`, or `sent:3` for the third time
/// it is passed.
#[cfg(feature = "crash-points")]
pub fn point(point: CrashPoint) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static CRASH_AT: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("UNWRAPD_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().ok()?))
    });
    static PASSED: AtomicU32 = AtomicU32::new(0);

    if let Some((crash_at, count)) = &*CRASH_AT
        && crash_at == point.as_str()
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        // SIGKILL: no destructor, no flush, no handler.
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("killed, but still here: {killed:?}");
    }
}

/// Does nothing. Only builds with the feature `crash-points` have crash points.
#[cfg(not(feature = "crash-points"))]
pub fn point(_: CrashPoint) {}
