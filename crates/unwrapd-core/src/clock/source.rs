//! The source of the time: the system, or a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The monotonic clock. On Linux it runs on while the machine sleeps. Elsewhere `CLOCK_MONOTONIC`
/// is the nearest one. If it stops during a sleep, the sleep is treated as a jump of the wall
/// clock.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// Longest time between the two readings of the monotonic clock before and after that of the wall
/// clock. A thread that is interrupted there reads again.
const TOGETHER_MS: i64 = 20;
const TRIES_MAX: u32 = 5;

#[derive(Clone, Debug)]
pub(super) enum Source {
    System,
    Simulated(Arc<Simulated>),
}

#[derive(Debug)]
pub(super) struct Simulated {
    /// The time shown at the instant `at`.
    shown: Timestamp,
    /// The instant of `shown`.
    at: Instant,
    /// How far it was set forward since then, in milliseconds.
    shift: AtomicI64,
}

impl Source {
    pub(super) fn simulated(time: Timestamp) -> Self {
        Self::Simulated(Arc::new(Simulated {
            shown: time,
            at: Instant::now(),
            shift: AtomicI64::new(0),
        }))
    }

    /// The monotonic time and the wall time of one instant, in milliseconds.
    pub(super) fn read(&self) -> (i64, i64) {
        match self {
            Self::System => system(),
            Self::Simulated(simulated) => {
                let since = self.monotonic();
                let shift = simulated.shift.load(Ordering::SeqCst);
                let wall = simulated
                    .shown
                    .saturating_add(SignedDuration::from_millis(since.saturating_add(shift)))
                    .unwrap_or(Timestamp::MAX);
                (since, wall.as_millisecond())
            }
        }
    }

    /// The monotonic time, in milliseconds.
    pub(super) fn monotonic(&self) -> i64 {
        match self {
            Self::System => monotonic(),
            Self::Simulated(simulated) => {
                i64::try_from(simulated.at.elapsed().as_millis()).unwrap_or(i64::MAX)
            }
        }
    }

    /// The id of the current boot, within which the monotonic clock runs on. `None` if the system
    /// has no such id.
    pub(super) fn boot(&self) -> Option<String> {
        match self {
            Self::System => std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()
                .map(|id| id.trim().to_owned())
                .filter(|id| !id.is_empty()),
            Self::Simulated(_) => None,
        }
    }

    pub(super) fn shift(&self, milliseconds: i64) {
        if let Self::Simulated(simulated) = self {
            simulated.shift.fetch_add(milliseconds, Ordering::SeqCst);
        }
    }
}

fn system() -> (i64, i64) {
    let mut tries = 1;
    loop {
        let before = monotonic();
        let wall = Timestamp::now()
            .as_millisecond()
            .saturating_add(shift_for_tests());
        let after = monotonic();
        if after - before <= TOGETHER_MS || tries == TRIES_MAX {
            return (after, wall);
        }
        tries += 1;
    }
}

fn monotonic() -> i64 {
    let time = clock_gettime(MONOTONIC);
    time.tv_sec.saturating_mul(1000) + time.tv_nsec / 1_000_000
}

/// The shift of the wall clock, in milliseconds, from the file that `UNWRAPD_CLOCK_SHIFT` names. A
/// test may write that file at any time.
#[cfg(feature = "crash-points")]
fn shift_for_tests() -> i64 {
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| Some(PathBuf::from(std::env::var_os("UNWRAPD_CLOCK_SHIFT")?)));
    /// The monotonic time of the last read, and the shift that was read.
    static LAST: Mutex<(i64, i64)> = Mutex::new((i64::MIN, 0));
    const READ_EVERY_MS: i64 = 5;

    let Some(file) = &*FILE else { return 0 };
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let now = monotonic();
    if now.saturating_sub(last.0) >= READ_EVERY_MS {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // A half-written file changes nothing.
        last.1 = text.trim().parse().unwrap_or(last.1);
        last.0 = now;
    }
    last.1
}

/// No shift: only builds with the feature `crash-points` can shift the clock.
#[cfg(not(feature = "crash-points"))]
const fn shift_for_tests() -> i64 {
    0
}
