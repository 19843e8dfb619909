//! The time for every decision of the gateway. Wall clocks jump; this module ensures that a jump
//! neither destroys nor withholds anything.
//!
//! Each reading compares two clocks: the wall clock, which may be set, and the monotonic clock,
//! which may not. If they disagree by more than a minute, the wall clock is in doubt until the
//! disagreement has lasted for one hour of real time.
//!
//! - [`Clock::now`] continues as if there had been no jump. It decides what is due.
//! - [`Clock::believed`] is never ahead of any clock that may be right. It decides what is deleted
//!   or given up.
//! - [`Clock::stamp`] is never behind any clock that may be right. Periods before a deletion begin
//!   with it.
//!
//! So between a stamp and the end of its period by [`Clock::believed`], at least the length of the
//! period has passed in real time, whatever the wall clock did. On PostgreSQL, the clock of the
//! database replaces the wall clock, so that all gateways agree.

mod history;
mod line;
mod source;
mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use source::Source;
use state::{Proof, Reading, Reference, State, is_near};

pub use line::{DOUBT_LASTS, SLACK};

/// At a start, how far the wall clock may be ahead of the stored time without being in doubt: the
/// duration of a restart. The stored time is updated once a minute.
pub const START_GAP: Duration = Duration::from_secs(120);

/// At a start, how far the wall clock must be ahead to be reported: a gateway that was down for
/// some minutes is nothing unusual.
pub const START_TOLD: SignedDuration = SignedDuration::from_hours(1);

/// The clock of one gateway. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    state: Mutex<State>,
    /// Whether [`State::proof`] is set. Most webhooks only read this.
    has_proof: AtomicBool,
}

/// Change of the proven time by one webhook. [`Clock::take_back`] undoes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    before: Option<Proof>,
    now: Option<Proof>,
}

/// The time since the machine was booted, at some instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The system's id of the boot, different for each boot.
    pub id: String,
    /// [`Clock::monotonic`], which continues across processes within a boot.
    pub monotonic: Duration,
}

/// Two times of one instant: due times use `now`; periods before giving up a delivery begin at
/// `stamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// [`Clock::now`].
    pub now: Timestamp,
    /// [`Clock::stamp`].
    pub stamp: Timestamp,
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self {
            now: time,
            stamp: time,
        }
    }
}

/// A disagreement of the wall clock with the monotonic clock, or with the stored time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// How far the wall clock is ahead of the trusted time. Negative: behind it.
    pub ahead: SignedDuration,
    /// How much longer the disagreement must last until the wall clock is trusted.
    pub left: Duration,
    /// Whether the clock in doubt is that of the database.
    pub is_shared: bool,
}

impl Default for Clock {
    fn default() -> Self {
        Self::of(Source::System)
    }
}

impl Clock {
    fn of(source: Source) -> Self {
        let (monotonic, wall) = source.read();
        Self(Arc::new(Inner {
            source,
            state: Mutex::new(State::new(monotonic, wall)),
            has_proof: AtomicBool::new(false),
        }))
    }

    /// A clock that shows `time` and advances with Tokio's clock, which a test may pause.
    #[must_use]
    pub fn simulated(time: Timestamp) -> Self {
        Self::of(Source::simulated(time))
    }

    /// A clock as a new process has it: with the same source, without the history of this one.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self::of(self.0.source.clone())
    }

    /// The time that decides what is due. It follows a jump of the wall clock only when the jump
    /// has lasted for [`DOUBT_LASTS`]. With a shared database, it is the time of the database.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        timestamp(self.read().now)
    }

    /// The wall clock, or the clock of a shared database. Use it for times that others compare with
    /// their clocks.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        timestamp(self.read().wall)
    }

    /// The time as if the wall clock, or the clock of the database, had not jumped. Once the jump
    /// is accepted, it equals [`wall`](Self::wall).
    #[must_use]
    pub fn undisturbed(&self) -> Timestamp {
        timestamp(self.read().undisturbed)
    }

    /// How far the wall clock, or the clock of the database, has jumped ahead of
    /// [`undisturbed`](Self::undisturbed), while the jump is in doubt. Negative: it was set back.
    #[must_use]
    pub fn jump(&self) -> SignedDuration {
        let reading = self.read();
        if is_near(reading.wall, reading.undisturbed) {
            return SignedDuration::ZERO;
        }
        SignedDuration::from_millis(reading.wall.saturating_sub(reading.undisturbed))
    }

    /// The times that are likely to be right, the likeliest first: the time that a webhook has
    /// proven, the wall clock, the time as if the wall clock had not jumped, and the stored time,
    /// if the monotonic clock has measured the time since then. Times that differ by at most
    /// [`SLACK`] count as one.
    pub(crate) fn plausible(&self) -> Vec<Timestamp> {
        let (reading, state) = self.read_with();
        let measured = state.is_measured.then_some(reading.trusted);
        let times = [
            state.proven(&reading),
            Some(reading.wall),
            Some(reading.undisturbed),
            measured,
        ];
        apart(times.into_iter().flatten())
    }

    /// The plausible times, and all other times that may be right: the stored time, however old,
    /// and with a database the clock of this machine.
    #[must_use]
    pub fn possible(&self) -> Vec<Timestamp> {
        let mut times = self.plausible();
        times.extend([self.trusted(), self.local()]);
        apart(times.into_iter().map(Timestamp::as_millisecond))
    }

    /// The likeliest of the plausible times.
    #[must_use]
    pub fn likeliest(&self) -> Timestamp {
        let (reading, state) = self.read_with();
        timestamp(state.proven(&reading).unwrap_or(reading.wall))
    }

    /// The time for the signature of an attempt, counted from 1. An application refuses a wrong
    /// one, so while the clock is in doubt, the attempts use the plausible times in turn.
    #[must_use]
    pub fn to_sign_by(&self, attempt: u32) -> Timestamp {
        let times = self.plausible();
        let turn = usize::try_from(attempt.saturating_sub(1)).unwrap_or_default();
        times[turn % times.len()]
    }

    /// Records that a webhook was authentic at this time, and not by the wall clock.
    #[must_use]
    pub fn prove(&self, time: Timestamp) -> Shown {
        let (reading, state) = self.read_with();
        let proof = Proof {
            wrong: reading.wall.saturating_sub(reading.monotonic),
            right: time.as_millisecond().saturating_sub(reading.monotonic),
        };
        self.set_proof(state, Some(proof))
    }

    /// Records that a webhook was authentic by the wall clock. An earlier webhook that was
    /// authentic only at another time was held back by someone.
    #[must_use]
    pub fn prove_wall(&self) -> Shown {
        if self.0.has_proof.load(Ordering::Relaxed) {
            self.set_proof(self.state(), None)
        } else {
            Shown::default()
        }
    }

    /// Undoes the change by a webhook that was a copy of a known one: anyone who has seen it can
    /// send it.
    pub fn take_back(&self, shown: Shown) {
        let state = self.state();
        if state.proof == shown.now {
            self.set_proof(state, shown.before);
        }
    }

    fn set_proof(&self, mut state: MutexGuard<'_, State>, proof: Option<Proof>) -> Shown {
        self.0.has_proof.store(proof.is_some(), Ordering::Relaxed);
        let before = std::mem::replace(&mut state.proof, proof);
        Shown { before, now: proof }
    }

    /// The wall clock of this machine.
    #[must_use]
    pub fn local(&self) -> Timestamp {
        timestamp(self.0.source.read().1)
    }

    /// The latest time that has certainly come. Use it to decide about deletion.
    #[must_use]
    pub fn believed(&self) -> Timestamp {
        timestamp(self.read().believed())
    }

    /// The earliest time that has certainly not passed yet. Use it for times that are later
    /// compared with [`believed`](Self::believed).
    #[must_use]
    pub fn stamp(&self) -> Timestamp {
        timestamp(self.read().stamp())
    }

    /// The due time of a delivery that is due at once. With a database whose clock is ahead
    /// temporarily, it is still due after that.
    #[must_use]
    pub fn due_now(&self) -> Timestamp {
        timestamp(self.read().due_now())
    }

    /// [`now`](Self::now) and [`due_now`](Self::due_now) of one instant.
    #[must_use]
    pub fn now_and_due(&self) -> (Timestamp, Timestamp) {
        let reading = self.read();
        (timestamp(reading.now), timestamp(reading.due_now()))
    }

    /// [`now`](Self::now) and [`stamp`](Self::stamp) of one instant.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let reading = self.read();
        Moment {
            now: timestamp(reading.now),
            stamp: timestamp(reading.stamp()),
        }
    }

    /// Does the same as [`moment`](Self::moment), with [`due_now`](Self::due_now).
    #[must_use]
    pub fn moment_due(&self) -> Moment {
        let reading = self.read();
        Moment {
            now: timestamp(reading.due_now()),
            stamp: timestamp(reading.stamp()),
        }
    }

    /// The time to store, for [`anchor`](Self::anchor) of the next process.
    #[must_use]
    pub fn trusted(&self) -> Timestamp {
        timestamp(self.read().trusted)
    }

    /// Time that has passed since this process, or another gateway beside it, took `since` from
    /// [`stamp`](Self::stamp). For a stamp of an earlier process, the result is at least its age by
    /// [`believed`](Self::believed).
    #[must_use]
    pub fn age(&self, since: Timestamp) -> Duration {
        self.age_by(since, |reading, _, since| {
            reading.believed().saturating_sub(since)
        })
    }

    /// Does the same as [`age`](Self::age), but the age of a stamp of an earlier process is that by
    /// the wall clock: a caller of hours ago has hung up, even if that clock is in doubt. If the
    /// monotonic clock has measured the time since then, its result is used.
    #[must_use]
    pub fn age_by_wall(&self, since: Timestamp) -> Duration {
        self.age_by(since, |reading, state, since| {
            if state.is_measured {
                let remembered_for = state.stamps.reaches_back(reading.monotonic);
                reading.trusted.saturating_sub(since).max(remembered_for)
            } else {
                reading.wall.saturating_sub(since)
            }
        })
    }

    fn age_by(&self, since: Timestamp, by: impl Fn(&Reading, &State, i64) -> i64) -> Duration {
        let since = since.as_millisecond();
        let (reading, state) = self.read_with();
        let age = match state.stamps.age(since, reading.monotonic) {
            Some(age) => age,
            // A clock that was ahead stamped it before the oldest known period, so it is at least
            // as old as that period.
            None if since > reading.stamp() => state.stamps.reaches_back(reading.monotonic),
            None => by(&reading, &state, since),
        };
        Duration::from_millis(u64::try_from(age).unwrap_or_default())
    }

    /// Converts a time that [`now`](Self::now) has shown to a time line that is never moved, for
    /// leases in memory. The result stays valid when `now` is moved later.
    #[must_use]
    pub fn steady(&self, time: Timestamp) -> Timestamp {
        let time = time.as_millisecond();
        let (reading, state) = self.read_with();
        let shown_at = state.dues.age(time, reading.monotonic);
        let offset = state.due.at(0) - state.moved;
        timestamp(match shown_at {
            Some(age) => (reading.monotonic - age).saturating_add(offset),
            None => time.saturating_sub(state.moved),
        })
    }

    /// Converts a steady time to the time that `now` shows for it.
    #[must_use]
    pub fn of_steady(&self, time: Timestamp) -> Timestamp {
        let moved = self.state().moved;
        timestamp(time.as_millisecond().saturating_add(moved))
    }

    /// Does the same as [`anchor`](Self::anchor). If the time was stored in the same `boot` of this
    /// machine, the monotonic clock gives the time since then.
    pub fn anchor_in(&self, remembered: Option<Timestamp>, boot: Option<&Boot>) {
        let passed = boot
            .filter(|boot| self.0.source.boot().as_deref() == Some(&*boot.id))
            .and_then(|boot| self.monotonic().checked_sub(boot.monotonic))
            .and_then(|passed| SignedDuration::try_from(passed).ok());
        let measured = remembered
            .zip(passed)
            .and_then(|(remembered, passed)| remembered.checked_add(passed).ok());
        self.anchor(measured.or(remembered));
        self.state().is_measured = measured.is_some();
    }

    /// The current boot of this machine. `None` if the system has no id for it.
    #[must_use]
    pub fn boot(&self) -> Option<Boot> {
        Some(Boot {
            id: self.0.source.boot()?,
            monotonic: self.monotonic(),
        })
    }

    /// Compares the wall clock with the stored time, when a process starts. `None`: the store is
    /// new.
    pub fn anchor(&self, remembered: Option<Timestamp>) {
        let (monotonic, _) = self.0.source.read();
        let mut state = self.state();
        let wall = state.wall(self.0.source.read());
        state.remembered = remembered.map(|time| time.as_millisecond().saturating_sub(monotonic));
        state.begin(monotonic, wall);
        drop(state);
        self.read();
    }

    /// The doubt about the wall clock, if an operator must know of it.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        let (_, state) = self.read_with();
        let (ahead, left) = state.trusted.doubt()?;
        let doubt = Doubt {
            ahead: SignedDuration::from_millis(ahead),
            left: Duration::from_millis(u64::try_from(left).unwrap_or_default()),
            is_shared: state.reference.is_some(),
        };
        let is_told =
            state.due.doubt().is_some() || doubt.ahead.is_negative() || doubt.ahead >= START_TOLD;
        is_told.then_some(doubt)
    }

    /// The monotonic time since some instant, which includes the time that the machine sleeps.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.source.monotonic()).unwrap_or_default())
    }

    /// Records the time of the database, requested when [`monotonic`](Self::monotonic) was `asked`.
    pub fn refer(&self, asked: Duration, server_ms: i64) {
        let asked = i64::try_from(asked.as_millis()).unwrap_or(i64::MAX);
        let (answered, _) = self.0.source.read();
        let uncertain = (answered - asked).max(0) / 2 + 1;
        let offset = server_ms - (asked + uncertain);
        let mut state = self.state();
        let told = Reference {
            offset,
            uncertain,
            at: answered,
        };
        state.last = None;
        state.reference = Some(match state.reference {
            None => {
                let wall = answered.saturating_add(offset);
                state.begin(answered, wall);
                told
            }
            Some(known) => known.or(told),
        });
    }

    /// Puts a simulated clock forward, or back by a negative amount. A system clock is not changed.
    pub fn shift(&self, milliseconds: i64) {
        self.0.source.shift(milliseconds);
        self.state().last = None;
        // Read at once, as a running gateway would.
        self.read();
    }

    fn read(&self) -> Reading {
        self.read_with().0
    }

    fn read_with(&self) -> (Reading, MutexGuard<'_, State>) {
        let mut state = self.state();
        if let Some(last) = state.last
            && last.monotonic == self.0.source.monotonic()
        {
            return (last, state);
        }
        let reading = state.observe(self.0.source.read());
        state.last = Some(reading);
        (reading, state)
    }

    /// The state. It is valid even after a panic elsewhere.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The times that are not near an earlier one in the list.
fn apart(times: impl Iterator<Item = i64>) -> Vec<Timestamp> {
    let mut kept: Vec<i64> = Vec::new();
    for time in times {
        if !kept.iter().any(|known| is_near(*known, time)) {
            kept.push(time);
        }
    }
    kept.into_iter().map(timestamp).collect()
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(if milliseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// The duration in milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
