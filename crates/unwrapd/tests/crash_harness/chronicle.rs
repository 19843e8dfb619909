//! What was done to the gateways and to the database, and when.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kill::Tally;

/// Shared by all who do something.
#[derive(Default)]
pub(crate) struct Chronicle(Mutex<Deeds>);

#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) tally: Tally,
    /// Freezes shorter than it takes to be taken for dead,
    pub(crate) short_freezes: u32,
    /// and longer ones.
    pub(crate) long_freezes: u32,
    /// Times that the database was stopped in peace,
    pub(crate) stopped: u32,
    /// at once,
    pub(crate) aborted: u32,
    /// and killed.
    pub(crate) killed: u32,
    /// Processes that ended at their start because the database was away.
    pub(crate) turned_away: u32,
    /// When each process was killed that was.
    ends: HashMap<u32, u64>,
    freezes: HashMap<u32, Vec<Range<u64>>>,
    outages: Vec<Range<u64>>,
    /// Since when the database is away, if it is.
    away_since: Option<u64>,
}

impl Chronicle {
    pub(crate) fn note(&self, note: impl FnOnce(&mut Deeds)) {
        note(&mut self.0.lock().unwrap());
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Deeds) -> T) -> T {
        look(&self.0.lock().unwrap())
    }
}

impl Deeds {
    /// Kills and freezes of gateways.
    pub(crate) fn blows(&self) -> u32 {
        self.tally.kills() + self.short_freezes + self.long_freezes
    }

    /// It is dead from here on.
    pub(crate) fn ended(&mut self, life: u32) {
        self.ends.insert(life, now_ms());
    }

    /// It was frozen from then until now.
    pub(crate) fn thawed(&mut self, life: u32, from: u64) {
        self.freezes.entry(life).or_default().push(from..now_ms());
    }

    /// The database is being taken away.
    pub(crate) fn goes_away(&mut self, from: u64) {
        self.away_since = Some(from);
    }

    /// It was away from then until now.
    pub(crate) fn is_back(&mut self, from: u64) {
        self.away_since = None;
        self.outages.push(from..now_ms());
    }

    /// Whether it was dead by then.
    pub(crate) fn was_dead(&self, life: u32, at: u64) -> bool {
        self.ends.get(&life).is_some_and(|end| *end <= at)
    }

    /// Whether it was frozen at some time of these.
    pub(crate) fn was_frozen(&self, life: u32, during: &Range<u64>) -> bool {
        let freezes = self.freezes.get(&life).map_or(&[][..], Vec::as_slice);
        freezes.iter().any(|freeze| overlap(freeze, during))
    }

    /// Whether the database was away at some time of these.
    pub(crate) fn was_away(&self, during: &Range<u64>) -> bool {
        self.away_since.is_some_and(|since| since < during.end)
            || self.outages.iter().any(|outage| overlap(outage, during))
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Milliseconds since 1970, as in the store.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.tally)?;
        writeln!(
            f,
            "freezes     {}: {} shorter and {} longer than the others wait for a sign of life",
            self.short_freezes + self.long_freezes,
            self.short_freezes,
            self.long_freezes
        )?;
        write!(
            f,
            "PostgreSQL  {} times stopped, {} aborted, {} killed; {} gateways did not find it when they started",
            self.stopped, self.aborted, self.killed, self.turned_away
        )
    }
}
