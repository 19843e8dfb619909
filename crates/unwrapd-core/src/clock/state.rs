//! State of the clock: the time lines that it follows, to which each reading of the clocks is
//! applied. Pure: the readings are arguments.

use super::START_GAP;
use super::history::History;
use super::line::{Line, SLACK};

/// All times are in milliseconds; an offset is a wall time minus the monotonic time of the same
/// instant.
#[derive(Debug)]
pub(super) struct State {
    /// The offset of the database's clock, if known.
    pub(super) reference: Option<Reference>,
    /// The line of [`Clock::now`], which begins with the wall clock.
    pub(super) due: Line,
    /// The line that is trusted for deletion: it begins with the time in the store.
    pub(super) trusted: Line,
    /// Past values of [`Clock::stamp`], with their monotonic times.
    pub(super) stamps: History,
    /// Past values of `due`.
    pub(super) dues: History,
    /// How far `due` was moved since the beginning.
    pub(super) moved: i64,
    /// Whether the time between the last process and this one was measured by the monotonic clock.
    pub(super) is_measured: bool,
    /// The stored time minus the monotonic time. Every new beginning is compared with it.
    pub(super) remembered: Option<i64>,
    pub(super) proof: Option<Proof>,
    /// The last reading. It is reused within one millisecond of the monotonic clock: a busy gateway
    /// reads its clock some hundred times in that time.
    pub(super) last: Option<Reading>,
}

/// A webhook has proven that the wall clock is wrong, and which time is right. The proof holds
/// until the wall clock is set again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// The offset of the wall clock at that time.
    pub(super) wrong: i64,
    /// The offset of the right time.
    pub(super) right: i64,
}

/// The clock of the database, as estimated from round trips.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    pub(super) offset: i64,
    /// Uncertainty of the offset, and the time of that estimate.
    pub(super) uncertain: i64,
    pub(super) at: i64,
}

/// All clocks at one instant, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) monotonic: i64,
    pub(super) wall: i64,
    pub(super) now: i64,
    pub(super) undisturbed: i64,
    pub(super) trusted: i64,
}

impl State {
    pub(super) fn new(monotonic: i64, wall: i64) -> Self {
        let offset = wall.saturating_sub(monotonic);
        Self {
            reference: None,
            due: Line::new(monotonic, offset),
            trusted: Line::new(monotonic, offset),
            stamps: History::new(monotonic, offset),
            dues: History::new(monotonic, offset),
            moved: 0,
            is_measured: false,
            remembered: None,
            proof: None,
            last: None,
        }
    }

    /// Begins again with these readings, keeping only the stored time.
    pub(super) fn begin(&mut self, monotonic: i64, wall: i64) {
        *self = Self {
            reference: self.reference,
            moved: self.moved,
            remembered: self.remembered,
            ..Self::new(monotonic, wall)
        };
        let Some(offset) = self.remembered else {
            return;
        };
        let remembered = monotonic.saturating_add(offset);
        let gap = i64::try_from(START_GAP.as_millis()).unwrap_or(i64::MAX);
        if wall < remembered || wall > remembered.saturating_add(gap) {
            self.trusted = Line::new(monotonic, offset);
        }
    }

    pub(super) fn wall(&self, (monotonic, wall): (i64, i64)) -> i64 {
        self.reference
            .map_or(wall, |known| monotonic.saturating_add(known.offset))
    }

    pub(super) fn proven(&self, reading: &Reading) -> Option<i64> {
        let proof = self.proof?;
        let offset = reading.wall.saturating_sub(reading.monotonic);
        is_near(offset, proof.wrong).then(|| reading.monotonic.saturating_add(proof.right))
    }

    pub(super) fn observe(&mut self, read: (i64, i64)) -> Reading {
        let (monotonic, _) = read;
        let wall = self.wall(read);
        let offset = wall.saturating_sub(monotonic);
        self.moved = self
            .moved
            .saturating_add(self.due.observe(monotonic, offset));
        self.dues.observe(monotonic, self.due.at(0));
        self.trusted.observe(monotonic, offset);
        let undisturbed = self.due.at(monotonic);
        let now = if self.reference.is_some() {
            wall
        } else {
            undisturbed
        };
        let reading = Reading {
            monotonic,
            wall,
            now,
            undisturbed,
            trusted: self.trusted.at(monotonic),
        };
        self.stamps
            .observe(monotonic, reading.stamp().saturating_sub(monotonic));
        reading
    }
}

impl Reading {
    pub(super) fn believed(&self) -> i64 {
        self.wall.min(self.trusted)
    }

    pub(super) fn stamp(&self) -> i64 {
        self.wall.max(self.trusted)
    }

    pub(super) fn due_now(&self) -> i64 {
        self.now.min(self.undisturbed)
    }
}

impl Reference {
    /// The better of the known and the new estimate: the more certain one, unless they contradict
    /// each other.
    pub(super) fn or(self, told: Self) -> Self {
        // The clocks of two computers drift apart by less than a second in about three hours.
        let aged = self.uncertain + (told.at - self.at).max(0) / 10_000;
        let agree = (told.offset - self.offset).abs() <= aged + told.uncertain;
        if agree && aged < told.uncertain {
            self
        } else {
            told
        }
    }
}

pub(super) fn is_near(one: i64, other: i64) -> bool {
    u128::from(one.abs_diff(other)) <= SLACK.as_millis()
}
