//! The decision of one step of a replay: which deliveries become due. Pure.

use std::collections::{BTreeSet, HashMap};

use super::statements::{Candidate, ReplayPage};
use crate::error::StoreError;
use crate::ids::{deliveries_of, message_of};
use crate::replay::{Choice, Counts, Existing, Replay, ReplayStep, Replayed};
use unwrapd_core::delivery::Lane;

/// A message and its deliveries, as a replay sees them.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) seq: i64,
    pub(crate) lane: Lane,
    pub(crate) has_payload: bool,
    /// In the order of their ids.
    pub(crate) deliveries: Vec<Existing>,
}

impl StoredMessage {
    /// The candidates, each with its part of these deliveries, as if each had its payload.
    pub(super) fn of_candidates(candidates: &[Candidate], deliveries: Vec<Existing>) -> Vec<Self> {
        let mut by_message = by_message(deliveries);
        candidates
            .iter()
            .map(|candidate| Self {
                seq: candidate.seq,
                lane: Lane::of(candidate.event_type.as_deref()),
                has_payload: true,
                deliveries: by_message.remove(&candidate.seq).unwrap_or_default(),
            })
            .collect()
    }

    /// The deliveries to be made again, and whether they can be made: that needs a payload, and a
    /// free id for a missing delivery.
    pub(super) fn choose(&self, replay: &Replay) -> (Choice<'_>, bool) {
        let choice = replay.choose(&self.deliveries, self.has_payload);
        let has_room = !choice.is_missing || self.free_id().is_some();
        (choice, self.has_payload && has_room)
    }

    fn free_id(&self) -> Option<i64> {
        let ids = deliveries_of(self.seq);
        let mut taken = self.deliveries.iter().map(|delivery| delivery.id);
        ids.into_iter().find(|id| taken.next() != Some(*id))
    }
}

/// Groups deliveries by the number of their message, in the given order.
pub(crate) fn by_message(deliveries: Vec<Existing>) -> HashMap<i64, Vec<Existing>> {
    let mut by_message: HashMap<i64, Vec<Existing>> = HashMap::new();
    for delivery in deliveries {
        by_message
            .entry(message_of(delivery.id))
            .or_default()
            .push(delivery);
    }
    by_message
}

/// A delivery that is made for the first time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NewDelivery {
    pub(crate) id: i64,
    pub(crate) message: i64,
    pub(crate) lane: Lane,
}

/// Changes of one step of a replay.
#[derive(Debug)]
pub(crate) struct ReplayBatch {
    /// Everything that the replay did, this step included.
    pub(crate) counts: Counts,
    /// Ended deliveries that begin again.
    pub(crate) again: Vec<Existing>,
    /// Deliveries to the destination of the replay that do not exist yet.
    pub(crate) missing: Vec<NewDelivery>,
    /// Waiting deliveries. Those that are not leased become due at once.
    pub(crate) waiting: Vec<Existing>,
    /// Number of the message at which the next step begins; `None`: the replay is done.
    pub(crate) next: Option<i64>,
}

impl ReplayBatch {
    /// Decides over the messages of a page, as they are inside the transaction. `reserve` takes
    /// room for so many waiting deliveries. If there is none left, the batch ends; the first
    /// message without room is an error.
    pub(crate) fn decide(
        ReplayPage { record, selected }: &ReplayPage,
        messages: &[StoredMessage],
        mut reserve: impl FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let mut batch = Self {
            counts: record.counts,
            again: Vec::new(),
            missing: Vec::new(),
            waiting: Vec::new(),
            next: selected.next,
        };
        for message in messages {
            let (choice, can_be_made) = message.choose(&record.request);
            let before = batch.counts;
            if batch.counts.add(&choice, message.lane, can_be_made) {
                if let Err(full) = reserve(batch.counts.deliveries - before.deliveries) {
                    if batch.is_empty() {
                        return Err(full);
                    }
                    batch.counts = before;
                    batch.next = Some(message.seq);
                    break;
                }
                batch.again.extend(choice.again.iter().copied().cloned());
                if choice.is_missing
                    && let Some(id) = message.free_id()
                {
                    batch.missing.push(NewDelivery {
                        id,
                        message: message.seq,
                        lane: message.lane,
                    });
                }
            }
            let waiting = choice.waiting.iter().copied().cloned();
            batch.waiting.extend(waiting);
        }
        Ok(batch)
    }

    /// The batch of a page whose dead letters were dropped.
    pub(crate) fn of_dropped(ReplayPage { record, selected }: &ReplayPage, dropped: u64) -> Self {
        let mut counts = record.counts;
        counts.deliveries += dropped;
        Self {
            counts,
            again: Vec::new(),
            missing: Vec::new(),
            waiting: Vec::new(),
            next: selected.next,
        }
    }

    fn is_empty(&self) -> bool {
        self.again.is_empty() && self.missing.is_empty() && self.waiting.is_empty()
    }

    /// Queues with deliveries that this batch makes due, beside the waiting ones.
    pub(crate) fn due(&self, to: Option<&str>) -> BTreeSet<(String, Lane)> {
        let again = self
            .again
            .iter()
            .map(|delivery| (delivery.destination.clone(), delivery.lane));
        let missing = self
            .missing
            .iter()
            .filter_map(|delivery| Some((to?.to_owned(), delivery.lane)));
        again.chain(missing).collect()
    }

    /// The answer of the step, once the batch is durable.
    pub(crate) fn step(&self, due: BTreeSet<(String, Lane)>) -> ReplayStep {
        let replayed = Replayed {
            counts: self.counts,
            due,
        };
        match self.next {
            Some(_) => ReplayStep::More(replayed),
            None => ReplayStep::Done(replayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::bulk::{BulkAction, BulkState};
    use crate::filter::Status;
    use crate::operate::replay_record::ReplayRecord;
    use crate::operate::statements::SelectedPage;

    fn dead(seq: i64) -> StoredMessage {
        let delivery = |number, status| Existing {
            id: seq * 256 + number,
            destination: format!("destination-{number}"),
            lane: Lane::Standard,
            status,
        };
        StoredMessage {
            seq,
            lane: Lane::Standard,
            has_payload: true,
            deliveries: vec![delivery(0, Status::Dead), delivery(2, Status::Waiting)],
        }
    }

    fn record(to: Option<&str>) -> ReplayRecord {
        ReplayRecord {
            id: 1,
            token: "t".parse().unwrap(),
            action: BulkAction::Replay,
            request: Replay {
                to: to.map(str::to_owned),
                ..Replay::default()
            },
            started_at: Timestamp::UNIX_EPOCH,
            newest: 100,
            next: 0,
            counts: Counts::default(),
            began_at: None,
            planned: None,
            ended_at: None,
            state: BulkState::Running,
            reason: None,
        }
    }

    /// Decides with room for so many deliveries.
    fn decide(
        record: ReplayRecord,
        messages: &[StoredMessage],
        mut room: u64,
    ) -> Result<ReplayBatch, StoreError> {
        let selected = SelectedPage {
            messages: Vec::new(),
            next: Some(50),
        };
        let page = ReplayPage { record, selected };
        ReplayBatch::decide(&page, messages, |deliveries| {
            room = room
                .checked_sub(deliveries)
                .ok_or_else(|| StoreError::Full(String::new()))?;
            Ok(())
        })
    }

    #[test]
    fn a_batch_begins_ended_deliveries_again_and_moves_waiting_ones() {
        let batch = decide(record(None), &[dead(1), dead(2)], 10).unwrap();
        assert_eq!((batch.again.len(), batch.waiting.len()), (2, 2));
        assert_eq!(batch.counts.deliveries, 2);
        assert_eq!(batch.next, Some(50));
    }

    #[test]
    fn a_batch_ends_at_the_message_that_finds_no_room() {
        let batch = decide(record(None), &[dead(1), dead(2), dead(3)], 2).unwrap();
        assert_eq!((batch.again.len(), batch.waiting.len()), (2, 2));
        assert_eq!((batch.counts.deliveries, batch.next), (2, Some(3)));
    }

    #[test]
    fn a_step_without_room_for_its_first_message_is_refused() {
        let refused = decide(record(None), &[dead(1)], 0);
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }

    #[test]
    fn a_missing_delivery_takes_the_first_free_id_of_its_message() {
        let batch = decide(record(Some("new")), &[dead(7)], 1).unwrap();
        let expected = NewDelivery {
            id: 7 * 256 + 1,
            message: 7,
            lane: Lane::Standard,
        };
        assert_eq!(batch.missing, [expected]);
    }

    #[test]
    fn a_message_without_payload_is_counted_as_gone() {
        let message = StoredMessage {
            has_payload: false,
            ..dead(1)
        };
        let batch = decide(record(None), &[message], 10).unwrap();
        assert_eq!((batch.again.len(), batch.counts.gone), (0, 1));
    }
}
