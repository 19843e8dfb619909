//! How a process is killed, and a tally of the kills.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use unwrapd::crash::CrashPoint;

/// Latest kill after the start of the process, in milliseconds: about when it begins to receive.
const STARTING_MS_MAX: u64 = 60;
/// Latest kill after it receives, in milliseconds.
const RUNNING_MS_MAX: u64 = 500;
/// Maximum number of times that a crash point is passed before the process dies there.
const PASSES_MAX: u32 = 24;

/// A way to kill one process.
pub(crate) enum Kill {
    /// A kill at this time after its start.
    Starting(Duration),
    /// A kill at this time after it began to receive.
    Running(Duration),
    /// The process kills itself when it reaches a crash point for the `pass`th time.
    AtPoint { point: CrashPoint, pass: u32 },
}

impl Kill {
    /// Draws a kill at one of these points, or at any time.
    pub(crate) fn draw(rng: &mut Rng, points: &[CrashPoint]) -> Self {
        match rng.u8(..10) {
            0 => Self::Starting(Duration::from_millis(rng.u64(..STARTING_MS_MAX))),
            1..6 => Self::Running(Duration::from_millis(rng.u64(..RUNNING_MS_MAX))),
            _ => Self::AtPoint {
                point: points[rng.usize(..points.len())],
                pass: rng.u32(1..=PASSES_MAX),
            },
        }
    }

    /// The value of `UNWRAPD_CRASH_AT`.
    pub(crate) fn crash_at(&self) -> Option<String> {
        match self {
            Self::AtPoint { point, pass } => Some(format!("{point}:{pass}")),
            Self::Starting(_) | Self::Running(_) => None,
        }
    }
}

/// Number of kills of each kind.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) starting: u32,
    pub(crate) running: u32,
    pub(crate) at_point: u32,
}

impl Tally {
    pub(crate) fn kills(&self) -> u32 {
        self.starting + self.running + self.at_point
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills       {}: {} while it received, {} while it started, {} at a named point",
            self.kills(),
            self.running,
            self.starting,
            self.at_point
        )
    }
}
