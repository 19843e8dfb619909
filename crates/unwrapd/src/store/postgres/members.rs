//! What this gateway knows of the others on the database, as of its last beat.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::MutexGuard;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::failure::Failure;
use super::lock;
use crate::delivery::share::Share;
use crate::store::{Configuration, FRESH, Introduction, Member, StoreError};

#[derive(Debug)]
pub(super) struct Holders {
    known: Mutex<Known>,
    /// Beats are made one after the other, so that what was read last counts.
    beating: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Known {
    /// Under which we hold deliveries.
    id: i64,
    introduction: Introduction,
    /// Whether the others have still to hear who we are or whom we count with.
    is_news: bool,
    /// When the beats began of which none was missed, and when the last of them did.
    alive: Option<(Moment, Moment)>,
    others: Vec<Other>,
}

/// What another has said.
#[derive(Clone, Debug)]
struct Other {
    id: i64,
    name: String,
    configuration: Configuration,
    sees: Vec<i64>,
    silent_for: Duration,
}

/// What is said in a beat.
pub(super) struct Saying {
    pub(super) id: i64,
    pub(super) introduction: Introduction,
    pub(super) parts: String,
    pub(super) sees: Vec<i64>,
    pub(super) joins: bool,
    pub(super) is_news: bool,
}

/// What comes back.
pub(super) struct Heard {
    /// Whether we are there. If not, others took us for dead.
    pub(super) is_counted: bool,
    /// How long ago we said so before; `None`: never.
    pub(super) silent_ms: Option<i64>,
    others: Vec<Other>,
}

/// What is new after a beat.
pub(super) struct Changes {
    /// Of what anyone here goes by.
    pub(super) are_seen: bool,
    /// Of whom we count with, so that the others must know.
    pub(super) are_to_be_said: bool,
}

/// A moment by two clocks: the one stands still while the machine sleeps, the other may be set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    instant: Instant,
    time: Timestamp,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }

    /// How long ago it was, by the clock by which it was longer ago.
    fn elapsed(self) -> Duration {
        let by_time = Timestamp::now().duration_since(self.time);
        let by_time = Duration::try_from(by_time).unwrap_or_default();
        self.instant.elapsed().max(by_time)
    }
}

impl Holders {
    pub(super) fn new() -> Result<Self, StoreError> {
        let known = Known {
            id: new_id()?,
            introduction: Introduction::default(),
            is_news: true,
            alive: None,
            others: Vec::new(),
        };
        Ok(Self {
            known: Mutex::new(known),
            beating: tokio::sync::Mutex::default(),
        })
    }

    /// The number under which we hold deliveries.
    pub(super) fn id(&self) -> i64 {
        lock(&self.known).id
    }

    pub(super) fn introduce(&self, introduction: Introduction) {
        let mut known = lock(&self.known);
        known.introduction = introduction;
        known.is_news = true;
    }

    pub(super) async fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.beating.lock().await
    }

    pub(super) fn saying(&self) -> Saying {
        let known = lock(&self.known);
        Saying {
            id: known.id,
            parts: written(&known.introduction.configuration),
            introduction: known.introduction.clone(),
            sees: known.others.iter().map(|other| other.id).collect(),
            joins: known.alive.is_none(),
            is_news: known.is_news,
        }
    }

    /// This was said at `begun_at`, and that came back.
    pub(super) fn heard(&self, begun_at: Moment, saying: &Saying, heard: Heard) -> Changes {
        let mut known = lock(&self.known);
        let before = known.compared();
        let first = known.alive.map_or(begun_at, |(first, _)| first);
        known.alive = Some((first, begun_at));
        known.others = heard.others;
        let after = known.compared();
        let are_to_be_said = before.ids != after.ids;
        known.is_news = are_to_be_said || known.introduction != saying.introduction;
        Changes {
            are_seen: before != after,
            are_to_be_said,
        }
    }

    /// We were taken for dead: we hold nothing any more, and are someone else from now on, with whom nobody counts yet.
    pub(super) fn begin_anew(&self) {
        let mut known = lock(&self.known);
        // The old one plus one would do as well; it only must not be that of another.
        known.id = new_id().unwrap_or(known.id.wrapping_add(1));
        known.alive = None;
        known.others.clear();
        known.is_news = true;
    }

    pub(super) fn share(&self, destination: &str) -> Share {
        let known = lock(&self.known);
        if !known.is_fresh() {
            Share::Nothing
        } else if known.takes_part() {
            let others = known.others.iter().map(|other| other.id);
            Share::beside(destination, known.id, others)
        } else {
            Share::Joining
        }
    }

    /// Whether no other gateway is known.
    pub(super) fn is_alone(&self) -> bool {
        let known = lock(&self.known);
        known.is_fresh() && known.others.is_empty()
    }

    pub(super) fn still_holds(&self, claimed_at: Instant) -> bool {
        let known = lock(&self.known);
        let is_since = known
            .alive
            .is_some_and(|(first, _)| first.instant <= claimed_at);
        is_since && known.is_fresh()
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let known = lock(&self.known);
        let ours = Member {
            id: known.id,
            name: known.introduction.name.clone(),
            is_ours: true,
            takes_part: known.is_fresh() && known.takes_part(),
            silent_for: known
                .alive
                .map_or(Duration::MAX, |(_, last)| last.elapsed()),
            configuration: known.introduction.configuration.clone(),
        };
        // What they have said is as old as our last beat.
        let heard_for = ours.silent_for;
        let others = known.others.iter().map(|other| {
            let mut rest = known.others.iter().filter(|third| third.id != other.id);
            Member {
                id: other.id,
                name: other.name.clone(),
                is_ours: false,
                takes_part: rest.all(|third| third.sees.contains(&other.id)),
                silent_for: other.silent_for.saturating_add(heard_for),
                configuration: other.configuration.clone(),
            }
        });
        std::iter::once(ours).chain(others).collect()
    }
}

impl Known {
    /// Whether the others cannot have taken us for dead.
    fn is_fresh(&self) -> bool {
        self.alive.is_some_and(|(_, last)| last.elapsed() < FRESH)
    }

    fn takes_part(&self) -> bool {
        self.others
            .iter()
            .all(|other| other.sees.contains(&self.id))
    }

    fn compared(&self) -> Compared {
        Compared {
            ids: self.others.iter().map(|other| other.id).collect(),
            said: self
                .others
                .iter()
                .map(|other| (other.name.clone(), other.configuration.clone()))
                .collect(),
            is_fresh: self.is_fresh(),
            takes_part: self.takes_part(),
        }
    }
}

/// What must be acted upon if it is another.
#[derive(PartialEq)]
struct Compared {
    ids: Vec<i64>,
    said: Vec<(String, Configuration)>,
    is_fresh: bool,
    takes_part: bool,
}

impl Heard {
    pub(super) fn of(rows: &[Row], ours: i64) -> Result<Self, Failure> {
        let mut heard = Self {
            is_counted: false,
            silent_ms: None,
            others: Vec::with_capacity(rows.len()),
        };
        for row in rows {
            heard.is_counted = row.try_get(0)?;
            // The one row of nothing.
            let Some(id) = row.try_get::<_, Option<i64>>(1)? else {
                continue;
            };
            let silent_ms: i64 = row.try_get(5)?;
            if id == ours {
                heard.silent_ms = Some(silent_ms);
                continue;
            }
            let name: String = row.try_get(2)?;
            // Who does not introduce itself delivers nothing.
            if name.is_empty() {
                continue;
            }
            heard.others.push(Other {
                id,
                name,
                configuration: read(row.try_get(3)?),
                sees: row.try_get(4)?,
                silent_for: Duration::from_millis(u64::try_from(silent_ms).unwrap_or_default()),
            });
        }
        heard.others.sort_unstable_by_key(|other| other.id);
        Ok(heard)
    }
}

/// A number that no other gateway has.
fn new_id() -> Result<i64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(i64::from_le_bytes(bytes))
}

/// `part=digest`, with blanks between.
fn written(configuration: &Configuration) -> String {
    let parts = configuration.iter();
    let parts: Vec<String> = parts
        .map(|(part, digest)| format!("{part}={digest:08x}"))
        .collect();
    parts.join(" ")
}

/// What cannot be read is of a later version, and is left out.
fn read(parts: &str) -> Configuration {
    let parts = parts.split(' ').filter_map(|part| part.split_once('='));
    parts
        .filter_map(|(part, digest)| {
            let digest = u32::from_str_radix(digest, 16).ok()?;
            Some((part.to_owned(), digest))
        })
        .collect()
}
