//! Messages and what of each is chosen to be delivered again.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Row;

use crate::clock::Moment;
use crate::delivery::Lane;
use crate::store::filter::Status;
use crate::store::ids::deliveries_of;
use crate::store::postgres::connect::connection::params;
use crate::store::postgres::connect::failure::Failure;
use crate::store::postgres::connect::pool::Transaction;
use crate::store::postgres::operate::scan::Candidate;
use crate::store::replay::{Choice, Existing, Replay};

/// The deliveries of some messages. Message by message, in the order of the index: the planner
/// cannot know how few there are of each, and would read the whole table.
pub(crate) const DELIVERIES: &str = "
    SELECT id, destination, lane, state, dropped_at IS NOT NULL
    FROM unnest($1::int8[]) AS given (seq) CROSS JOIN LATERAL (
        SELECT * FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 ORDER BY id LIMIT 256
    ) AS found ORDER BY id";

/// Keeps them from being forgotten, or chosen by another, until the transaction ends.
const LOCK: &str = "
    SELECT seq, event_type, partition IS NOT NULL FROM message WHERE seq = ANY ($1) ORDER BY seq FOR NO KEY UPDATE";

const AGAIN: &str = "
    UPDATE delivery SET state = 'waiting', since = $2, due_at = $3, ready_at = $3, uncounted_attempts = settled_attempt, dropped_at = NULL
    WHERE id = ANY ($1) AND state <> 'waiting'";

const MISSING: &str = "
    INSERT INTO delivery (id, destination, lane, since, due_at, ready_at)
    SELECT id, $2, lane, $4, $5, $5 FROM unnest($1::int8[], $3::text[]) AS given (id, lane)";

/// Leased deliveries are under way, and stay.
const HURRY: &str = "
    UPDATE delivery SET due_at = $2, ready_at = $2
    WHERE id = ANY ($1) AND state = 'waiting' AND gateway IS NULL AND due_at > $2
    RETURNING destination, lane";

/// A message and its deliveries, as far as a replay wants to know.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) seq: i64,
    pub(crate) lane: Lane,
    has_body: bool,
    pub(crate) deliveries: Vec<Existing>,
}

impl Chosen {
    /// These, with the rows that [`DELIVERIES`] gives for them.
    pub(crate) fn all(candidates: &[Candidate], rows: &[Row]) -> Result<Vec<Self>, Failure> {
        let mut deliveries = by_message(rows)?;
        let chosen = candidates.iter().map(|candidate| Self {
            seq: candidate.seq,
            lane: Lane::of(candidate.event_type.as_deref()),
            has_body: candidate.has_body,
            deliveries: deliveries.remove(&candidate.seq).unwrap_or_default(),
        });
        Ok(chosen.collect())
    }

    /// These messages as they are now, and stay until the transaction ends.
    pub(crate) async fn lock(
        transaction: &Transaction,
        seqs: &[i64],
    ) -> Result<Vec<Self>, Failure> {
        let messages = transaction.query(LOCK, params![seqs => INT8_ARRAY]).await?;
        let rows = transaction
            .query(DELIVERIES, params![seqs => INT8_ARRAY])
            .await?;
        let mut deliveries = by_message(&rows)?;
        messages
            .iter()
            .map(|row| {
                let seq = row.try_get(0)?;
                Ok(Self {
                    seq,
                    lane: Lane::of(row.try_get(1)?),
                    has_body: row.try_get(2)?,
                    deliveries: deliveries.remove(&seq).unwrap_or_default(),
                })
            })
            .collect()
    }

    /// The deliveries of the message to be made again, and whether that is possible: it needs a
    /// body, and room for a missing delivery.
    pub(crate) fn choose(&self, replay: &Replay) -> (Choice<'_>, bool) {
        let choice = replay.choose(&self.deliveries, self.has_body);
        let has_room = !choice.is_missing || self.free_id().is_some();
        (choice, self.has_body && has_room)
    }

    fn free_id(&self) -> Option<i64> {
        let ids = deliveries_of(self.seq);
        let mut taken = self.deliveries.iter().map(|delivery| delivery.id);
        ids.into_iter().find(|id| taken.next() != Some(*id))
    }
}

/// The deliveries to be made due.
#[derive(Debug, Default)]
pub(crate) struct ToMake {
    again: Vec<i64>,
    waiting: Vec<i64>,
    missing: Vec<i64>,
    lanes: Vec<&'static str>,
    pub(crate) due: BTreeSet<(String, Lane)>,
}

impl ToMake {
    /// Makes the waiting deliveries due.
    pub(crate) fn hurry(&mut self, choice: &Choice<'_>) {
        self.waiting
            .extend(choice.waiting.iter().map(|delivery| delivery.id));
    }

    pub(crate) fn add(&mut self, message: &Chosen, choice: &Choice<'_>, to: Option<&str>) {
        for delivery in &choice.again {
            self.again.push(delivery.id);
            self.due
                .insert((delivery.destination.clone(), delivery.lane));
        }
        if choice.is_missing
            && let (Some(to), Some(id)) = (to, message.free_id())
        {
            self.missing.push(id);
            self.lanes.push(message.lane.as_str());
            self.due.insert((to.to_owned(), message.lane));
        }
    }

    pub(crate) async fn make(
        &mut self,
        transaction: &Transaction,
        to: Option<&str>,
        now: Moment,
    ) -> Result<(), Failure> {
        let (now, since) = (now.now.as_millisecond(), now.stamp.as_millisecond());
        if !self.waiting.is_empty() {
            let given = params![self.waiting => INT8_ARRAY, now => INT8];
            for row in &transaction.query(HURRY, given).await? {
                if let Some(lane) = Lane::named(row.try_get(1)?) {
                    self.due.insert((row.try_get(0)?, lane));
                }
            }
        }
        if !self.again.is_empty() {
            transaction
                .query(
                    AGAIN,
                    params![self.again => INT8_ARRAY, since => INT8, now => INT8],
                )
                .await?;
        }
        if let Some(to) = to
            && !self.missing.is_empty()
        {
            let given = params![
                self.missing => INT8_ARRAY, to => TEXT, self.lanes => TEXT_ARRAY, since => INT8, now => INT8,
            ];
            transaction.query(MISSING, given).await?;
        }
        Ok(())
    }
}

/// The deliveries in the order of their ids.
fn by_message(rows: &[Row]) -> Result<HashMap<i64, Vec<Existing>>, Failure> {
    let mut deliveries: HashMap<i64, Vec<Existing>> = HashMap::new();
    for row in rows {
        let id: i64 = row.try_get(0)?;
        deliveries.entry(id >> 8).or_default().push(Existing {
            id,
            destination: row.try_get(1)?,
            lane: Lane::named(row.try_get(2)?).unwrap_or(Lane::Standard),
            status: Status::of(row.try_get(3)?, row.try_get(4)?),
        });
    }
    Ok(deliveries)
}
