//! Records the faults that were caused to gateways and to the database, with their times.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kill::Tally;

/// The faults so far, shared by the tasks that cause them.
#[derive(Default)]
pub(crate) struct Chronicle(Mutex<Deeds>);

#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) tally: Tally,
    /// Number of freezes too short for a declaration of death.
    pub(crate) short_freezes: u32,
    /// Number of longer freezes.
    pub(crate) long_freezes: u32,
    /// Number of fast shutdowns of the database.
    pub(crate) stopped: u32,
    /// Number of immediate shutdowns of the database.
    pub(crate) aborted: u32,
    /// Number of kills of the database.
    pub(crate) killed: u32,
    /// Number of processes that ended at their start because the database was away.
    pub(crate) turned_away: u32,
    /// Time of death of each killed process.
    ends: HashMap<u32, u64>,
    freezes: HashMap<u32, Vec<Range<u64>>>,
    outages: Vec<Range<u64>>,
    /// Time since which the database has been away.
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
    /// Number of kills and freezes of gateways.
    pub(crate) fn blows(&self) -> u32 {
        self.tally.kills() + self.short_freezes + self.long_freezes
    }

    /// Records that the process is dead from this moment.
    pub(crate) fn ended(&mut self, life: u32) {
        self.ends.insert(life, now_ms());
    }

    /// Records that the process was frozen from `from` until this moment.
    pub(crate) fn thawed(&mut self, life: u32, from: u64) {
        self.freezes.entry(life).or_default().push(from..now_ms());
    }

    /// Records that the database is being taken away.
    pub(crate) fn goes_away(&mut self, from: u64) {
        self.away_since = Some(from);
    }

    /// Records that the database was away from `from` until this moment.
    pub(crate) fn is_back(&mut self, from: u64) {
        self.away_since = None;
        self.outages.push(from..now_ms());
    }

    /// Whether the process was dead at this time.
    pub(crate) fn was_dead(&self, life: u32, at: u64) -> bool {
        self.ends.get(&life).is_some_and(|end| *end <= at)
    }

    /// Whether the process was frozen at any time in the range.
    pub(crate) fn was_frozen(&self, life: u32, during: &Range<u64>) -> bool {
        let freezes = self.freezes.get(&life).map_or(&[][..], Vec::as_slice);
        freezes.iter().any(|freeze| overlap(freeze, during))
    }

    /// Whether the database was away at any time in the range.
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
