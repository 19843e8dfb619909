//! What arrives: messages, their ids and their deliveries, many in one commit.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;

use super::batch::Change;
use super::failure::Failure;
use super::link::{Work, given};
use super::pool::For;
use super::rows::storable;
use super::{Shared, closed};
use crate::crash;
use crate::delivery::Lane;
use crate::message::Message;
use crate::store::{Accepted, StoreError};

/// Nothing is said of those that are there already: they come back as what is missing.
const ACCEPT: Work = Work::Function("accept");

/// Which of these are there, by their places. They are locked, which is to write, so that the commit waits for a stand-by: what is
/// there may not have.
const KNOWN: &str = "
    SELECT place FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (endpoint, webhook_id, place)
    JOIN message USING (endpoint, webhook_id) FOR KEY SHARE OF message";

/// A message to be kept.
#[derive(Debug)]
pub(super) struct Accept {
    pub(super) message: Message,
    pub(super) destinations: Vec<String>,
    /// What leaves the quarantine with it.
    pub(super) suspect: Option<i64>,
}

impl Accept {
    /// What it is known by, in the order of the index: whoever inserts in one order is not crossed by others.
    fn key(&self) -> (&str, &str) {
        (&self.message.webhook_id, &self.message.endpoint)
    }
}

#[async_trait]
impl Change for Accept {
    type Made = Result<Accepted, StoreError>;

    const OVER: For = For::Accepting;

    fn bytes(&self) -> usize {
        self.message.payload.len()
    }

    async fn make(shared: &Shared, changes: &[&Self]) -> Result<Vec<Self::Made>, Failure> {
        // Of copies that came together the first counts.
        let mut firsts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (place, change) in changes.iter().enumerate() {
            firsts.entry(change.key()).or_insert(place);
        }
        let mut wanted = Vec::with_capacity(firsts.len());
        let mut refused = Vec::new();
        let mut reserved = Vec::with_capacity(firsts.len());
        for &place in firsts.values() {
            match shared.room.reserve(changes[place].destinations.len()) {
                Ok(reservation) => {
                    reserved.push(reservation);
                    wanted.push(place);
                }
                Err(full) => refused.push((place, full)),
            }
        }
        crash::point("gathered");
        let known = known(shared, changes, &refused).await?;
        let fresh = insert(shared, changes, &wanted, &firsts).await?;

        let mut made: Vec<Option<Self::Made>> = changes.iter().map(|_| None).collect();
        for (&place, reservation) in wanted.iter().zip(reserved) {
            let is_new = fresh.contains(&place);
            if is_new {
                reservation.keep();
                changes[place].comes(shared);
            }
            made[place] = Some(Ok(if is_new {
                Accepted::New
            } else {
                Accepted::Duplicate
            }));
        }
        for (place, full) in refused {
            made[place] = Some(if known.contains(&place) {
                Ok(Accepted::Duplicate)
            } else {
                Err(full)
            });
        }
        for (place, change) in changes.iter().enumerate() {
            if made[place].is_none() {
                let first = firsts[&change.key()];
                made[place] = made[first]
                    .clone()
                    .map(|first| first.map(|_| Accepted::Duplicate));
            }
        }
        made.into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| Failure::OfTheStore(closed()))
    }
}

impl Accept {
    /// It is there, and may be claimed.
    fn comes(&self, shared: &Shared) {
        let lane = self.lane();
        let ready_ms = self.message.received_at.as_millisecond();
        for destination in &self.destinations {
            shared.marks.comes(destination, lane, ready_ms);
        }
        shared.news.ring_all(&self.destinations, lane);
    }

    fn lane(&self) -> Lane {
        Lane::of(self.message.event_type.as_deref())
    }
}

/// Of those for which there is no room, the places of those that are there.
async fn known(
    shared: &Shared,
    changes: &[&Accept],
    refused: &[(usize, StoreError)],
) -> Result<HashSet<usize>, Failure> {
    if refused.is_empty() {
        return Ok(HashSet::new());
    }
    let messages = || refused.iter().map(|(place, _)| &changes[*place].message);
    let endpoints: Vec<&str> = messages().map(|message| &*message.endpoint).collect();
    let ids: Vec<&str> = messages().map(|message| &*message.webhook_id).collect();
    let given = given![endpoints => TEXT_ARRAY, ids => TEXT_ARRAY];
    let rows = shared.pool.once(For::Accepting, KNOWN, given).await?;
    rows.iter().map(|row| Ok(refused[place(row)?].0)).collect()
}

/// The places of those that were not there.
async fn insert(
    shared: &Shared,
    changes: &[&Accept],
    wanted: &[usize],
    firsts: &BTreeMap<(&str, &str), usize>,
) -> Result<HashSet<usize>, Failure> {
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let messages = || wanted.iter().map(|place| &changes[*place].message);
    let endpoints: Vec<&str> = messages().map(|message| &*message.endpoint).collect();
    let ids: Vec<&str> = messages().map(|message| &*message.webhook_id).collect();
    let types: Vec<_> = messages()
        .map(|message| message.event_type.as_deref().map(storable))
        .collect();
    let types: Vec<Option<&str>> = types.iter().map(Option::as_deref).collect();
    let sent: Vec<i64> = messages()
        .map(|message| message.sent_at.as_millisecond())
        .collect();
    let received: Vec<i64> = messages()
        .map(|message| message.received_at.as_millisecond())
        .collect();
    let secrets: Vec<Option<i64>> = messages()
        .map(|message| message.secret.map(i64::from))
        .collect();
    let payloads: Vec<&[u8]> = messages().map(|message| &*message.payload).collect();

    let (mut places, mut numbers) = (Vec::<i64>::new(), Vec::<i64>::new());
    let (mut destinations, mut lanes) = (Vec::<&str>::new(), Vec::<&str>::new());
    for (place, &wanted) in (1..).zip(wanted) {
        let change = changes[wanted];
        for (number, destination) in (0..).zip(&change.destinations) {
            places.push(place);
            numbers.push(number);
            destinations.push(destination);
            lanes.push(change.lane().as_str());
        }
    }
    let suspects = changes.iter().filter_map(|change| {
        let is_wanted = || wanted.contains(&firsts[&change.key()]);
        change.suspect.filter(|_| is_wanted())
    });
    let suspects: Vec<i64> = suspects.collect();
    let given = given![
        endpoints => TEXT_ARRAY, ids => TEXT_ARRAY, types => TEXT_ARRAY, sent => INT8_ARRAY, received => INT8_ARRAY,
        secrets => INT8_ARRAY, payloads => BYTEA_ARRAY,
        places => INT8_ARRAY, numbers => INT8_ARRAY, destinations => TEXT_ARRAY, lanes => TEXT_ARRAY,
        suspects => INT8_ARRAY,
    ];
    let rows = shared.pool.once(For::Accepting, ACCEPT, given).await?;
    rows.iter().map(|row| Ok(wanted[place(row)?])).collect()
}

/// Which of the given it is, counted from 0.
fn place(row: &tokio_postgres::Row) -> Result<usize, Failure> {
    let place: i64 = row.try_get(0)?;
    usize::try_from(place - 1).map_err(|_| Failure::OfTheStore(closed()))
}
