//! Stores messages, their ids and their deliveries, many messages in one commit.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;

use crate::error::StoreError;
use crate::ids::deliveries_of;
use crate::inbox::{Accepted, Recipient};
use crate::postgres::connect::connection::{Work, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::queue::batch::Change;
use crate::postgres::rows::storable;
use crate::postgres::shared::Shared;
use crate::search_keys::SearchKeys;
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::{Delivery, Lane};
use unwrapd_core::message::Message;

/// Returns only the positions of new messages. Messages that are already stored are missing in the
/// result.
const ACCEPT: Work = Work::Function("accept");

/// The positions of messages that are already stored. Their rows are locked, which counts as a
/// write, so the commit waits for a stand-by: their first commit may not have.
const KNOWN: &str = "
    SELECT place FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (endpoint, webhook_id, place)
    JOIN message USING (endpoint, webhook_id) FOR KEY SHARE OF message";

/// A message to store.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) message: Message,
    pub(crate) recipients: Vec<Recipient>,
    /// The quarantined request to delete in the same commit.
    pub(crate) quarantined: Option<i64>,
}

impl Accept {
    /// The key in the order of the index. A common order of inserts prevents deadlocks.
    fn key(&self) -> (&str, &str) {
        (&self.message.webhook_id, &self.message.endpoint)
    }
}

/// Result for one message.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Fresh(Fresh),
    Known,
}

/// A message that was stored.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    seq: i64,
    /// The claim that has leased the delivery of each recipient, if any.
    claims: Vec<Option<i64>>,
}

#[async_trait]
impl Change for Accept {
    type Outcome = Result<Outcome, StoreError>;
    type Made = Result<Accepted, StoreError>;

    const OVER: Purpose = Purpose::Accepting;

    fn bytes(&self) -> usize {
        self.message.payload.len()
    }

    async fn apply(shared: &Shared, changes: &[&Self]) -> Result<Vec<Self::Outcome>, Failure> {
        // Of copies in the same batch, the first is stored.
        let mut firsts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (place, change) in changes.iter().enumerate() {
            firsts.entry(change.key()).or_insert(place);
        }
        let mut wanted = Vec::with_capacity(firsts.len());
        let mut refused = Vec::new();
        let mut reserved = Vec::with_capacity(firsts.len());
        for &place in firsts.values() {
            match shared.capacity.reserve(changes[place].recipients.len()) {
                Ok(reservation) => {
                    reserved.push(reservation);
                    wanted.push(place);
                }
                Err(full) => refused.push((place, full)),
            }
        }
        crash::point(CrashPoint::Gathered);
        let known = known(shared, changes, &refused).await?;
        let mut fresh = insert(shared, changes, &wanted, &firsts).await?;

        let mut outcomes: Vec<Option<Self::Outcome>> = changes.iter().map(|_| None).collect();
        for (&place, reservation) in wanted.iter().zip(reserved) {
            outcomes[place] = Some(Ok(match fresh.remove(&place) {
                Some(fresh) => {
                    reservation.keep();
                    changes[place].comes(shared, &fresh);
                    Outcome::Fresh(fresh)
                }
                None => Outcome::Known,
            }));
        }
        for (place, full) in refused {
            outcomes[place] = Some(if known.contains(&place) {
                Ok(Outcome::Known)
            } else {
                Err(full)
            });
        }
        for (place, change) in changes.iter().enumerate() {
            if outcomes[place].is_none() {
                let first = firsts[&change.key()];
                outcomes[place] = outcomes[first]
                    .clone()
                    .map(|first| first.map(|_| Outcome::Known));
            }
        }
        outcomes
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| Failure::OfTheStore(StoreError::closed()))
    }

    fn finish(self, outcome: Self::Outcome) -> Self::Made {
        let Outcome::Fresh(Fresh { seq, claims }) = outcome? else {
            return Ok(Accepted::Duplicate);
        };
        let lane = self.lane();
        let mut message = self.message;
        message.event_type = message
            .event_type
            .map(|event_type| storable(&event_type).into_owned());
        for ((id, recipient), claim) in deliveries_of(seq).zip(self.recipients).zip(claims) {
            let (Some(reservation), Some(claim)) = (recipient.reservation, claim) else {
                continue;
            };
            reservation.complete(Delivery {
                id,
                destination: recipient.destination,
                lane,
                attempt: 1,
                claim,
                uncounted_attempts: 0,
                since: message.received_at,
                message: message.clone(),
            });
        }
        Ok(Accepted::New)
    }
}

impl Accept {
    /// Records that the delivery exists and may be claimed, now or when its lease has ended.
    fn comes(&self, shared: &Shared, fresh: &Fresh) {
        let lane = self.lane();
        let recipients = || self.recipients.iter().zip(&fresh.claims);
        for (recipient, ends_ms) in recipients() {
            let due_ms = recipient.due_at(&self.message).as_millisecond();
            let ready_ms = ends_ms.unwrap_or(due_ms);
            shared
                .claim_floors
                .comes(&recipient.destination, lane, ready_ms);
        }
        let free = recipients().filter(|(_, ends_ms)| ends_ms.is_none());
        shared
            .notifications
            .notify_all(free.map(|(recipient, _)| &recipient.destination), lane);
    }

    fn lane(&self) -> Lane {
        Lane::of(self.message.event_type.as_deref())
    }
}

/// Among messages for which there is no room, the positions of those that are already stored.
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
    let params = params![endpoints => TEXT_ARRAY, ids => TEXT_ARRAY];
    let rows = shared.pool.once(Purpose::Accepting, KNOWN, params).await?;
    rows.iter().map(|row| Ok(refused[place(row)?].0)).collect()
}

/// Inserts the new messages, and returns them by their positions.
async fn insert(
    shared: &Shared,
    changes: &[&Accept],
    wanted: &[usize],
    firsts: &BTreeMap<(&str, &str), usize>,
) -> Result<HashMap<usize, Fresh>, Failure> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
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
    let origins = without_nulls(messages().map(|message| message.origin.column()));
    let unrouted = without_nulls(wanted.iter().map(|place| {
        let has_none = changes[*place].recipients.is_empty();
        has_none.then_some(true)
    }));
    let (event_keys, resource_keys): (Vec<i32>, Vec<i32>) = messages()
        .map(|message| SearchKeys::of(&message.payload).signed())
        .unzip();
    let payloads: Vec<&[u8]> = messages().map(|message| &*message.payload).collect();

    let (mut places, mut numbers) = (Vec::<i64>::new(), Vec::<i64>::new());
    let (mut destinations, mut lanes) = (Vec::<&str>::new(), Vec::<&str>::new());
    let claims = Claims::of(shared, wanted.iter().map(|place| changes[*place]));
    let (mut due, mut ends) = (Vec::<Option<i64>>::new(), Vec::<Option<i64>>::new());
    for (place, &wanted) in (1..).zip(wanted) {
        let change = changes[wanted];
        for (number, recipient) in (0..).zip(&change.recipients) {
            places.push(place);
            numbers.push(number);
            destinations.push(&recipient.destination);
            lanes.push(change.lane().as_str());
            let due_at = recipient.due_at(&change.message);
            let is_due_later = due_at != change.message.received_at;
            due.push(is_due_later.then(|| due_at.as_millisecond()));
            ends.push(claims.ends_of(change, recipient));
        }
    }
    let (due, ends) = (without_nulls(due), without_nulls(ends));
    let quarantined_requests = changes.iter().filter_map(|change| {
        let is_wanted = || wanted.contains(&firsts[&change.key()]);
        change.quarantined.filter(|_| is_wanted())
    });
    let quarantined_requests: Vec<i64> = quarantined_requests.collect();
    let holder = shared.membership.id();
    let params = params![
        endpoints => TEXT_ARRAY, ids => TEXT_ARRAY, types => TEXT_ARRAY, sent => INT8_ARRAY, received => INT8_ARRAY,
        secrets => INT8_ARRAY, origins => TEXT_ARRAY, unrouted => BOOL_ARRAY, event_keys => INT4_ARRAY, resource_keys => INT4_ARRAY,
        payloads => BYTEA_ARRAY,
        places => INT8_ARRAY, numbers => INT8_ARRAY, destinations => TEXT_ARRAY, lanes => TEXT_ARRAY,
        due => INT8_ARRAY, ends => INT8_ARRAY, quarantined_requests => INT8_ARRAY, holder => INT8,
    ];
    let taken = shared.pool.take(Purpose::Accepting).await?;
    let rows = match taken.once(Purpose::Accepting, ACCEPT, params).await {
        Err(failure) if !failure.leaves_connection() => {
            claims.lose(shared);
            return Err(failure);
        }
        kept => kept?,
    };
    let mut fresh = HashMap::with_capacity(rows.len());
    for row in &rows {
        let place = wanted[place(row)?];
        let is_held = row.try_get::<_, Option<i64>>(2)?.is_some();
        let change = changes[place];
        let ends = change.recipients.iter().map(|recipient| {
            let ends_ms = claims.ends_of(change, recipient);
            ends_ms.filter(|_| is_held)
        });
        let kept = Fresh {
            seq: row.try_get(1)?,
            claims: ends.collect(),
        };
        fresh.insert(place, kept);
    }
    Ok(fresh)
}

/// An empty array stands for NULLs only: it costs the server less.
fn without_nulls<T>(values: impl IntoIterator<Item = Option<T>>) -> Vec<Option<T>> {
    let values: Vec<Option<T>> = values.into_iter().collect();
    if values.iter().all(Option::is_none) {
        return Vec::new();
    }
    values
}

/// Ends of the leases of deliveries handed off with one commit, by destination and lane. They
/// distinguish this claim from others.
struct Claims(BTreeMap<(String, Lane), i64>);

impl Claims {
    fn of<'c>(shared: &Shared, changes: impl Iterator<Item = &'c Accept>) -> Self {
        let mut ends = BTreeMap::new();
        for change in changes {
            for Recipient {
                destination,
                reservation,
                ..
            } in &change.recipients
            {
                let Some(reservation) = reservation else {
                    continue;
                };
                let wanted_ms = reservation.ends_at().as_millisecond();
                let last = ends
                    .entry((destination.clone(), change.lane()))
                    .or_insert(wanted_ms);
                *last = wanted_ms.max(*last);
            }
        }
        for (lane, ends_ms) in &mut ends {
            *ends_ms = shared.leases.end_of(lane, *ends_ms);
        }
        Self(ends)
    }

    fn ends_of(&self, change: &Accept, recipient: &Recipient) -> Option<i64> {
        recipient.reservation.as_ref()?;
        let lane = (recipient.destination.clone(), change.lane());
        self.0.get(&lane).copied()
    }

    /// The deliveries may be committed although the answer was lost: they are released before the
    /// next claim.
    fn lose(&self, shared: &Shared) {
        for (lane, ends_ms) in &self.0 {
            shared.leases.lose(lane, *ends_ms);
        }
    }
}

/// Position among the parameters, from 0.
fn place(row: &tokio_postgres::Row) -> Result<usize, Failure> {
    let place: i64 = row.try_get(0)?;
    usize::try_from(place - 1).map_err(|_| Failure::OfTheStore(StoreError::closed()))
}
