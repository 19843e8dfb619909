//! Watches every step and checks the promises. The first broken promise is kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use unwrapd::clock::{Clock, SLACK};
use unwrapd::delivery::limits::Limits;
use unwrapd::delivery::rate_limiter::burst;
use unwrapd::delivery::{Delivery, Lane, Next};
use unwrapd::message::Message;
use unwrapd::store::{Accepted, Attempt, ClaimRequest, Claimed, Lease, Settled};

use crate::tally::Tally;
use crate::world::payload;

/// Largest jump of the clock that a process may accept at once: the time that it may have been
/// down, plus a small step.
const BELIEVED_AT_ONCE: Duration = Duration::from_secs(120 + 2 * 60);

/// Maximum length of a schedule before a lasting jump would be accepted.
const BELIEVED_AFTER: Duration = Duration::from_secs(3600);

pub(crate) struct Ledger {
    /// The clock of the running process.
    clock: Mutex<Clock>,
    is_told: bool,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    broken: Option<String>,
    digest: DefaultHasher,
    begun_at: Option<Instant>,
    /// By destination and `webhook-id`.
    entries: BTreeMap<(String, String), Entry>,
    /// Destination and `webhook-id` by the store's id of the delivery.
    names: HashMap<i64, (String, String)>,
    places: BTreeMap<String, Place>,
    messages: u64,
    /// Something happened after which a message may be delivered twice.
    may_repeat: bool,
    /// Number of restarts of the process.
    restarts: u32,
    /// Whether its clock has made a small step since the last restart.
    has_stepped: bool,
    /// Whether its clock has jumped at all: earlier observations may be wrong by a small step.
    has_jumped: bool,
    looks: HashMap<(String, Lane), u32>,
}

/// One message for one destination.
struct Entry {
    lane: Lane,
    /// When it was first offered, and the process in which it was last offered.
    came_at: Instant,
    life: u32,
    is_stored: bool,
    is_accepted: bool,
    due_at: Timestamp,
    /// The earliest instant of its next attempt in this process, whatever the clock shows. Small
    /// steps are followed, so after a small step it is unknown.
    not_before: Option<Instant>,
    /// Number of the last settled attempt.
    attempt: u32,
    end: Option<Next>,
    /// Running settlements.
    settling: Vec<Attempt>,
    /// Settlements that a crash interrupted: they may have taken effect.
    unknown: Vec<Attempt>,
    held: Option<Held>,
    /// Number of the last attempt in this process.
    made: u32,
    /// The outcome of each attempt in this process.
    came: HashMap<u32, Came>,
    delivered: u32,
}

/// The lease of a claim.
#[derive(Clone, Copy)]
struct Held {
    lease: Lease,
    ends_at: Instant,
}

/// A claim that was made.
pub(crate) struct Claim<'c> {
    pub(crate) request: ClaimRequest<'c>,
    /// When its leases end.
    pub(crate) ends_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Came {
    Delivered,
    Failed,
    Refused,
    /// Dropped by its caller, or by a panic.
    BrokeOff,
}

/// One destination.
struct Place {
    limits: Limits,
    /// The concurrency before the last change, which is allowed until this instant.
    before: (usize, Instant),
    under_way: HashMap<Lane, usize>,
    begun: VecDeque<Instant>,
    paused_at: Option<Instant>,
}

impl Ledger {
    pub(crate) fn new(clock: Clock, is_told: bool) -> Arc<Self> {
        Arc::new(Self {
            clock: Mutex::new(clock),
            is_told,
            books: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.lock().unwrap().now()
    }

    /// The clock has jumped by this many milliseconds; `before` is its shift until then. After a
    /// small step back, two instants have the same time, and the later one counts.
    pub(crate) fn jumped(&self, milliseconds: i64, before: SignedDuration) {
        let is_small = Duration::from_millis(milliseconds.unsigned_abs()) <= SLACK;
        let has_stepped = is_small || self.moved() != before;
        let mut books = self.books();
        books.has_stepped |= has_stepped;
        books.has_jumped = true;
    }

    /// How far the clock was moved since the process began.
    pub(crate) fn moved(&self) -> SignedDuration {
        let clock = self.clock.lock().unwrap();
        let now = clock.now();
        now.duration_since(clock.steady(now))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// Records an event; the digest of all events distinguishes two schedules.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        let mut books = self.books();
        let begun_at = *books.begun_at.get_or_insert_with(Instant::now);
        let what = format!("{:>12?} {}", begun_at.elapsed(), what());
        what.hash(&mut books.digest);
        if self.is_told {
            #[allow(clippy::print_stderr, reason = "someone asked for this schedule")]
            {
                eprintln!("{what}");
            }
        }
    }

    fn breaks(&self, what: impl FnOnce() -> String) {
        let mut books = self.books();
        if books.broken.is_none() {
            books.broken = Some(what());
        }
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.breaks(what);
        }
    }

    pub(crate) fn verdict(&self) -> Result<u64, String> {
        let books = self.books();
        match &books.broken {
            Some(broken) => Err(broken.clone()),
            None => Ok(books.digest.finish()),
        }
    }

    pub(crate) fn may_repeat(&self) {
        self.books().may_repeat = true;
    }

    // Called by the schedule.

    pub(crate) fn limited(&self, name: &str, limits: &Limits) {
        let mut books = self.books();
        let now = Instant::now();
        if let Some(place) = books.places.get_mut(name) {
            if place.limits.rate != limits.rate {
                place.begun.clear();
            }
            place.before = (place.limits.concurrency, now);
            place.limits = limits.clone();
        } else {
            let place = Place {
                limits: limits.clone(),
                before: (0, now),
                under_way: HashMap::new(),
                begun: VecDeque::new(),
                paused_at: None,
            };
            books.places.insert(name.to_owned(), place);
        }
    }

    pub(crate) fn paused(&self, name: &str, is_paused: bool) {
        let mut books = self.books();
        let place = books.places.get_mut(name).unwrap();
        place.paused_at = is_paused.then(|| place.paused_at.unwrap_or_else(Instant::now));
    }

    /// Everything in memory is lost, leases too. The next process has this clock.
    pub(crate) fn restarted(&self, clock: Clock) {
        *self.clock.lock().unwrap() = clock;
        let mut books = self.books();
        books.restarts += 1;
        books.has_stepped = false;
        books.has_jumped = false;
        for place in books.places.values_mut() {
            place.begun.clear();
        }
        for entry in books.entries.values_mut() {
            entry.held = None;
            entry.not_before = None;
            entry.made = 0;
            entry.came.clear();
            entry.unknown.append(&mut entry.settling);
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        let books = self.books();
        let places = books.places.values();
        places.flat_map(|place| place.under_way.values()).sum()
    }

    /// Number of claims of each lane since the last call.
    pub(crate) fn take_looks(&self) -> HashMap<(String, Lane), u32> {
        std::mem::take(&mut self.books().looks)
    }

    // Called by the store.

    pub(crate) fn offered(&self, message: &Message, destinations: &[String]) {
        let mut books = self.books();
        let life = books.restarts;
        for destination in destinations {
            let key = (destination.clone(), message.webhook_id.clone());
            let entry = books.entries.entry(key).or_insert_with(|| Entry {
                lane: Lane::of(message.event_type.as_deref()),
                came_at: Instant::now(),
                life,
                is_stored: false,
                is_accepted: false,
                due_at: self.now(),
                not_before: None,
                attempt: 0,
                end: None,
                settling: Vec::new(),
                unknown: Vec::new(),
                held: None,
                made: 0,
                came: HashMap::new(),
                delivered: 0,
            });
            if !entry.is_stored {
                entry.came_at = Instant::now();
                entry.due_at = self.now();
                entry.life = life;
            }
        }
    }

    pub(crate) fn stored(&self, _endpoint: &str, id: &str, accepted: Accepted) {
        let mut books = self.books();
        let mut was_stored = false;
        for ((_, of), entry) in &mut books.entries {
            if of == id {
                was_stored |= entry.is_stored;
                entry.is_stored = true;
            }
        }
        books.messages += u64::from(accepted == Accepted::New);
        drop(books);
        self.check(was_stored == (accepted == Accepted::Duplicate), || {
            format!("{id} was stored before: {was_stored}, and is {accepted:?}")
        });
    }

    pub(crate) fn accepted(&self, _endpoint: &str, id: &str) {
        let mut books = self.books();
        let entries = books.entries.iter_mut();
        entries
            .filter(|((_, of), _)| of == id)
            .for_each(|(_, entry)| entry.is_accepted = true);
    }

    pub(crate) fn looks(&self, destination: &str, lane: Lane, now: Timestamp) {
        let time = self.now();
        self.check(now == time, || {
            format!("{destination} looks as if it were {now}, and it is {time}")
        });
        let mut books = self.books();
        *books
            .looks
            .entry((destination.to_owned(), lane))
            .or_default() += 1;
        let paused_at = books.places[destination].paused_at;
        drop(books);
        self.check(paused_at.is_none_or(|at| at == Instant::now()), || {
            format!("{destination} is paused, and its deliveries are claimed")
        });
    }

    pub(crate) fn claimed(&self, claim: &Claim<'_>, claimed: &Claimed) {
        let Claim { request, ends_at } = *claim;
        let (destination, lane, now) = (request.destination, request.lane, request.now);
        let put_off_from = now
            + SignedDuration::try_from(request.terms.longest_wait).unwrap()
            + SignedDuration::from_secs(1);
        self.check(claimed.deliveries.len() <= request.limit, || {
            "claimed more than asked for".into()
        });
        let is_due = |due_at: Timestamp| {
            now.as_millisecond() >= due_at.as_millisecond() || due_at > put_off_from
        };
        for delivery in &claimed.deliveries {
            let id = &delivery.message.webhook_id;
            let attempt = delivery.attempt;
            self.note(|| format!("{destination} claims {id}, attempt {attempt}"));
            self.check(
                delivery.destination == destination && delivery.lane == lane,
                || format!("{id} is claimed for {destination}, {lane:?}"),
            );
            let key = (delivery.destination.clone(), id.clone());
            let mut books = self.books();
            books.names.insert(delivery.id, key.clone());
            let (may_repeat, has_stepped) = (books.may_repeat, books.has_stepped);
            let books_begun_at = books.begun_at.unwrap();
            let Some(entry) = books.entries.get_mut(&key) else {
                drop(books);
                self.breaks(|| format!("{key:?} is invented"));
                continue;
            };
            let mut due_at = entry.due_at;
            for unknown in entry.unknown.drain(..) {
                if unknown.number < attempt {
                    entry.attempt = entry.attempt.max(unknown.number);
                }
                if let Next::Retry { due_at: then } = unknown.next {
                    due_at = due_at.min(then);
                }
            }
            let is_due = is_due(due_at) || is_due(entry.due_at);
            // To the millisecond.
            let real_now = Instant::now() + Duration::from_millis(2);
            let is_in_time = has_stepped || entry.not_before.is_none_or(|at| at <= real_now);
            let is_free = entry.held.is_none_or(|held| held.ends_at <= real_now);
            let is_early = books_begun_at.elapsed() < BELIEVED_AFTER;
            let (last, end) = (entry.attempt, entry.end);
            entry.held = Some(Held {
                lease: Lease::from(delivery),
                ends_at,
            });
            drop(books);
            self.check(is_due, || {
                format!("{key:?} is claimed at {now}, due at {due_at}")
            });
            self.check(is_in_time || !is_early, || {
                format!("{key:?} is made before its wait is over")
            });
            self.check(is_free, || format!("{key:?} is leased to two"));
            // Without lost answers, no lease needs to end.
            self.check(
                attempt == last + 1 || (may_repeat && attempt > last),
                || format!("{key:?}: attempt {attempt} comes after {last}"),
            );
            self.check(end.is_none(), || {
                format!("{key:?} is claimed after its end, {end:?}")
            });
        }
    }

    pub(crate) fn released(&self, leases: &[Lease]) {
        let mut books = self.books();
        for lease in leases {
            let key = books.names[&lease.delivery].clone();
            let entry = books.entries.get_mut(&key).unwrap();
            if entry.held.is_some_and(|held| held.lease == *lease) {
                entry.held = None;
            }
        }
    }

    /// Checks the decision of a settlement.
    pub(crate) fn settles(&self, attempt: &Attempt) {
        let mut books = self.books();
        let restarts = books.restarts;
        let key = books.names[&attempt.delivery].clone();
        let limits = books.places[&key.0].limits.clone();
        let entry = books.entries.get_mut(&key).unwrap();
        let came = entry.came.get(&attempt.number).copied();
        let policy = limits.of(entry.lane).retry;
        // In real time, whatever the clock shows.
        let age = entry.came_at.elapsed();
        let is_of_this_life = entry.life == restarts;
        let early = match (entry.lane, is_of_this_life) {
            // To the millisecond.
            (_, true) => Duration::from_millis(2),
            // The wall clock counts: no phone must ring hours late.
            (Lane::Call, false) => policy.give_up_after,
            (Lane::Standard, false) => BELIEVED_AT_ONCE * restarts,
        };
        let is_too_old = age + early >= policy.give_up_after;
        let is_tired = policy.attempts_max.is_some_and(|max| attempt.number >= max);
        let is_right = match (attempt.next, came) {
            (Next::Delivered, came) => came == Some(Came::Delivered),
            (Next::Retry { .. }, came) => matches!(came, Some(Came::Failed | Came::BrokeOff)),
            (Next::Dead, Some(Came::Refused)) => true,
            (Next::Dead, None) => entry.lane == Lane::Call && is_too_old,
            (Next::Dead, Some(Came::Failed | Came::BrokeOff)) => is_tired || is_too_old,
            (Next::Dead, Some(Came::Delivered)) => false,
        };
        let is_new = !entry
            .settling
            .iter()
            .any(|under_way| under_way.number == attempt.number);
        if is_new {
            entry.settling.push(attempt.clone());
        }
        drop(books);
        let (number, next) = (attempt.number, attempt.next);
        self.check(is_right, || {
            format!("{key:?}: attempt {number} came to {came:?}, and then {next:?}")
        });
    }

    pub(crate) fn settled(&self, attempt: &Attempt, settled: Option<&Settled>) {
        let now = self.now();
        let mut books = self.books();
        let has_stepped = books.has_stepped;
        let key = books.names[&attempt.delivery].clone();
        let entry = books.entries.get_mut(&key).unwrap();
        entry
            .settling
            .retain(|under_way| under_way.number != attempt.number);
        let held = entry.held.map(|held| held.lease.number);
        // Its answer was lost, so it is repeated, and takes effect as before. Meanwhile the
        // delivery may be claimed for its next attempt.
        let is_repeated = entry.attempt == attempt.number;
        let is_settled = settled == Some(&Settled::Settled) && !is_repeated;
        if is_settled {
            entry.attempt = attempt.number;
            entry.held = None;
            match attempt.next {
                Next::Retry { due_at } => {
                    entry.due_at = due_at;
                    let wait = Duration::try_from(due_at.duration_since(now)).unwrap_or_default();
                    // The step may have happened between the decision and this moment.
                    entry.not_before = (!has_stepped).then(|| Instant::now() + wait);
                }
                end => entry.end = Some(end),
            }
        }
        drop(books);
        let (number, next) = (attempt.number, attempt.next);
        self.note(|| {
            format!(
                "{} settles {}, attempt {number}: {next:?}, {settled:?}",
                key.0, key.1
            )
        });
        self.check(
            !is_settled || held.is_none_or(|held| held == number),
            || format!("{key:?}: attempt {number} is settled while {held:?} is being made"),
        );
    }

    // Called by a destination.

    pub(crate) fn begins(self: &Arc<Self>, name: &str, delivery: &Delivery) -> UnderWay {
        let now = Instant::now();
        let message = &delivery.message;
        let (number, lane) = (delivery.attempt, delivery.lane);
        let key = (name.to_owned(), message.webhook_id.clone());
        self.note(|| format!("{name} is sent {}, attempt {number}", message.webhook_id));
        let mut books = self.books();
        let (restarts, has_jumped) = (books.restarts, books.has_jumped);
        let place = books.places.get_mut(name).unwrap();
        let limits = place.limits.of(lane);
        let paused_at = place.paused_at;
        let (before, changed_at) = place.before;
        let most = match lane {
            Lane::Standard if changed_at == now => limits.concurrency.max(before),
            _ => limits.concurrency,
        };
        let under_way = place.under_way.entry(lane).or_default();
        *under_way += 1;
        let under_way = *under_way;
        place.begun.push_back(now);
        while place
            .begun
            .front()
            .is_some_and(|begun| now - *begun >= Duration::from_secs(1))
        {
            place.begun.pop_front();
        }
        let begun = place.begun.len();
        let entry = books.entries.get_mut(&key);
        let is_known = entry.is_some();
        let (made, settled, end, age) = match entry {
            Some(entry) => {
                let made = std::mem::replace(&mut entry.made, number);
                entry.came.insert(number, Came::BrokeOff);
                let age = (entry.life == restarts).then(|| entry.came_at.elapsed());
                (made, entry.attempt, entry.end, age)
            }
            None => (0, 0, None, None),
        };
        drop(books);
        self.check(is_known && delivery.destination == name, || {
            format!(
                "{key:?} is invented, or another's: {}",
                delivery.destination
            )
        });
        self.check(message.payload == payload(&message.webhook_id), || {
            format!("{key:?}: other bytes")
        });
        self.check(under_way <= most, || {
            format!("{name} {lane:?}: {under_way} under way, {most} allowed")
        });
        self.check(number > made && number > settled, || {
            format!("{key:?}: attempt {number} is made after {made}, and {settled} is settled")
        });
        self.check(end.is_none(), || {
            format!("{key:?} is sent after its end, {end:?}")
        });
        self.check(paused_at.is_none_or(|at| at == now), || {
            format!("{name} is paused and sent {key:?}")
        });
        if let Some(rate) = limits.rate {
            let most = usize::try_from(rate).unwrap() + burst(rate);
            self.check(begun <= most, || {
                format!("{name}: {begun} in a second, {most} allowed")
            });
        }
        // A delivery of an earlier process is as old as the clock says, which may be wrong.
        let steps = if has_jumped { SLACK } else { Duration::ZERO };
        let longest = limits.retry.give_up_after + steps + Duration::from_millis(2);
        let is_too_late = age.is_some_and(|age| age > longest);
        self.check(lane == Lane::Standard || !is_too_late, || {
            format!("{key:?}: a call is rung after {age:?}")
        });
        UnderWay {
            ledger: Arc::clone(self),
            key,
            lane,
            number,
        }
    }

    // Called at the end.

    /// Checks that the store and the ledger agree about the present state.
    pub(crate) fn compare(&self, tally: Tally) {
        let books = self.books();
        let stored = books
            .entries
            .values()
            .filter(|entry| entry.is_stored)
            .count() as u64;
        let messages = books.messages;
        drop(books);
        let kept = tally.pending + tally.delivered + tally.dead;
        self.check(kept == stored && tally.messages == messages, || {
            format!("the store has {tally:?}, and {messages} messages with {stored} deliveries were kept")
        });
    }

    /// Checks that everything came to an end, and to the right one.
    pub(crate) fn close(&self, tally: Tally) {
        self.compare(tally);
        self.check(tally.pending == 0, || {
            format!("deliveries still wait: {tally:?}")
        });
        let books = self.books();
        let may_repeat = books.may_repeat;
        let mut broken = None;
        for (key, entry) in &books.entries {
            if !entry.is_accepted {
                continue;
            }
            let may_be_dead = entry.end == Some(Next::Dead)
                || entry
                    .unknown
                    .iter()
                    .any(|attempt| attempt.next == Next::Dead);
            if entry.delivered == 0 && !may_be_dead {
                broken = Some(format!(
                    "{key:?} was accepted, and neither delivered nor given up"
                ));
            }
            if entry.delivered > 1 && !may_repeat {
                broken = Some(format!(
                    "{key:?} was delivered {} times for no reason",
                    entry.delivered
                ));
            }
        }
        let delivered = books
            .entries
            .values()
            .filter(|entry| entry.delivered > 0)
            .count() as u64;
        drop(books);
        if let Some(broken) = broken {
            self.breaks(|| broken);
        }
        self.check(tally.delivered <= delivered, || {
            format!(
                "{delivered} were delivered, and the store has {}",
                tally.delivered
            )
        });
    }

    pub(crate) fn is_delivered(&self, destination: &str, id: &str) -> bool {
        let books = self.books();
        let key = (destination.to_owned(), id.to_owned());
        books
            .entries
            .get(&key)
            .is_some_and(|entry| entry.delivered > 0)
    }

    pub(crate) fn breaks_promise(&self, what: String) {
        self.breaks(|| what);
    }
}

/// An attempt that is being made.
pub(crate) struct UnderWay {
    ledger: Arc<Ledger>,
    key: (String, String),
    lane: Lane,
    number: u32,
}

impl UnderWay {
    pub(crate) fn came_to(&mut self, came: Came) {
        let mut books = self.ledger.books();
        if let Some(entry) = books.entries.get_mut(&self.key) {
            entry.came.insert(self.number, came);
            entry.delivered += u32::from(came == Came::Delivered);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        let place = books.places.get_mut(&self.key.0).unwrap();
        *place.under_way.get_mut(&self.lane).unwrap() -= 1;
    }
}
