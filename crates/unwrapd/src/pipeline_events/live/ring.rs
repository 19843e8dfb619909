//! The recent events of the live stream, and its subscribers.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Maximum number of subscribers. One more ends the oldest stream, whose client may have vanished
/// without a trace: one that is still there connects again, and misses nothing.
pub(super) const SUBSCRIBERS_MAX: usize = 16;
/// Maximum number of recorded events. All subscribers share them, so their number costs no memory.
pub(super) const EVENTS_MAX: usize = 4096;
/// Maximum size of the recorded events together, in bytes. Most have some 300.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long recording goes on without a subscriber: long enough for one that connects again.
const LINGER: Duration = Duration::from_secs(60);
/// The position of an event in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The recording. Numbers of different recordings cannot be compared.
    recording: u64,
    number: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.recording, self.number)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (recording, number) = text.split_once('-').ok_or(())?;
        Ok(Self {
            recording: u64::from_str_radix(recording, 16).map_err(drop)?,
            number: number.parse().map_err(drop)?,
        })
    }
}

/// An entry of the stream, for a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// An event, as the JSON of a [`LiveEvent`](super::LiveEvent).
    Event { at: Position, json: Bytes },
    /// The subscriber has missed events.
    Missed {
        /// The position of the last missed one.
        at: Position,
        /// Their number; `None`: unknown, because they were not recorded.
        events: Option<u64>,
    },
}

/// Recorded events with ascending numbers, within limits.
pub(super) struct Ring {
    recording: u64,
    is_recording: bool,
    /// The subscribers, each with its id and the token that ends it. The oldest is first.
    subscribers: VecDeque<(u64, CancellationToken)>,
    /// Number of subscribers so far.
    subscribed: u64,
    /// Time at which the last subscriber left.
    left_at: Instant,
    /// The recorded events, with ascending numbers. A gap stands for events that came too quickly.
    events: VecDeque<(u64, Bytes)>,
    /// Size of the events together, in bytes.
    bytes: usize,
    /// Number of the next event.
    next: u64,
    /// From this number on, the number of missed events is known. The gap before it may also stand
    /// for commits, which are no events of the stream.
    exact_from: u64,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self {
            recording: 0,
            is_recording: false,
            subscribers: VecDeque::new(),
            subscribed: 0,
            left_at: Instant::now(),
            events: VecDeque::new(),
            bytes: 0,
            next: 0,
            exact_from: 0,
        }
    }

    pub(super) fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Begins a recording.
    pub(super) fn begin(&mut self) {
        self.recording = fastrand::u64(..);
        self.is_recording = true;
        self.events.clear();
        self.bytes = 0;
        // Numbers begin at 1, so that there is a position before the first event.
        self.next = 1;
        self.exact_from = self.next;
    }

    /// Adds a subscriber, and ends the oldest ones beyond the limit. Returns its id.
    pub(super) fn admit(&mut self, end: CancellationToken) -> u64 {
        self.subscribed += 1;
        self.subscribers.push_back((self.subscribed, end));
        while self.subscribers.len() > SUBSCRIBERS_MAX {
            let Some((_, oldest)) = self.subscribers.pop_front() else {
                break;
            };
            oldest.cancel();
        }
        self.subscribed
    }

    /// Removes a subscriber.
    pub(super) fn dismiss(&mut self, id: u64) {
        self.subscribers.retain(|(other, _)| *other != id);
        self.left_at = Instant::now();
    }

    /// Leaves a gap for events that came too quickly.
    pub(super) fn skip(&mut self, events: u64) {
        self.next += events;
        self.exact_from = self.next;
    }

    pub(super) fn add(&mut self, json: Bytes) {
        self.bytes += json.len();
        self.events.push_back((self.next, json));
        self.next += 1;
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }

    /// Ends the recording if there has been no subscriber for a while.
    pub(super) fn ends(&mut self) -> bool {
        if !self.subscribers.is_empty() || self.left_at.elapsed() < LINGER {
            return false;
        }
        self.is_recording = false;
        self.events = VecDeque::new();
        true
    }

    fn at(&self, number: u64) -> Position {
        Position {
            recording: self.recording,
            number,
        }
    }

    pub(super) fn newest(&self) -> Position {
        self.at(self.next - 1)
    }

    /// The next entry behind this position; `None`: there is none yet.
    pub(super) fn after(&self, after: Option<Position>) -> Option<Live> {
        let Some(after) = after.filter(|after| self.knows(*after)) else {
            // Its events are unknown, and those of this recording follow.
            let first = self.events.front().map_or(self.next, |(number, _)| *number);
            return Some(Live::Missed {
                at: self.at(first - 1),
                events: None,
            });
        };
        let index = self
            .events
            .partition_point(|(number, _)| *number <= after.number);
        let (number, json) = match self.events.get(index) {
            Some((number, json)) => (*number, Some(json)),
            None => (self.next, None),
        };
        let missed = number - after.number - 1;
        if missed > 0 {
            let is_exact = after.number + 1 >= self.exact_from;
            return Some(Live::Missed {
                at: self.at(number - 1),
                events: is_exact.then_some(missed),
            });
        }
        json.map(|json| Live::Event {
            at: self.at(number),
            json: json.clone(),
        })
    }

    fn knows(&self, position: Position) -> bool {
        position.recording == self.recording && position.number < self.next
    }
}
