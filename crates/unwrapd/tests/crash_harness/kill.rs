//! How a process is killed, and how often that was done.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use unwrapd::crash::CrashPoint;

/// The latest instant of a kill after the start of the process: about when it begins to receive.
const STARTING_MS_MAX: u64 = 60;
/// The latest instant of a kill once it receives.
const RUNNING_MS_MAX: u64 = 500;
/// How often a named point may be passed before the process dies there.
const PASSES_MAX: u32 = 24;

/// How to kill one process.
pub(crate) enum Kill {
    /// So long after it was started.
    Starting(Duration),
    /// So long after it began to receive.
    Running(Duration),
    /// By itself at a named point, the `pass`th time it comes there.
    AtPoint { point: CrashPoint, pass: u32 },
}

impl Kill {
    /// At one of these points, or anywhere else.
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

    /// What the process is told of it.
    pub(crate) fn crash_at(&self) -> Option<String> {
        match self {
            Self::AtPoint { point, pass } => Some(format!("{point}:{pass}")),
            Self::Starting(_) | Self::Running(_) => None,
        }
    }
}

/// Kills that were made.
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
