//! Named places between two steps of the way, where a test can have the process die as a power cut would have it.

/// The places, in the order a webhook passes them. One more, `migrated`, lies between a migration of the store and its commit.
pub const POINTS: &[&str] = &[
    "received",
    "verified",
    "written",
    "committed",
    "accepted",
    "claimed",
    "sent",
    "settled",
];

/// The same where the store is in PostgreSQL. What is written and its commit are sent together, so there is no place between them.
pub const POSTGRES_POINTS: &[&str] = &[
    "received",
    "verified",
    "gathered",
    "committed",
    "accepted",
    "claimed",
    "sent",
    "settling",
    "settled",
];

/// The places in a replay.
pub const REPLAY_POINTS: &[&str] = &["replayed", "replay committed"];

/// The places in a copy from store to store.
pub const COPY_POINTS: &[&str] = &[
    "copy begun",
    "copying",
    "copied",
    "copy compared",
    "copy whole",
];

/// Dies here if `UNWRAPD_CRASH_AT` names this place (`sent`, or `sent:3` for the third time it is passed).
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static CRASH_AT: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("UNWRAPD_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().ok()?))
    });
    static PASSED: AtomicU32 = AtomicU32::new(0);

    if let Some((crash_at, count)) = &*CRASH_AT
        && crash_at == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        // SIGKILL: no destructor, no flush, no handler.
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("killed, but still here: {killed:?}");
    }
}

/// Does nothing: only builds with the feature `crash-points` can be told to die.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn point(_name: &str) {}
