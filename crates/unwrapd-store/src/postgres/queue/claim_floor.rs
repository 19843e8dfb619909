//! Where to begin to look for what is due. A delivery that is claimed moves on in the index, and
//! leaves an entry behind that is gone only after a vacuum: whoever began at the beginning each
//! time would step over everything that was claimed for a minute. So each lane has a mark before
//! which nothing waits.
//!
//! What we do ourselves moves the mark back where it must. What other gateways do is commonly not
//! older than the moment that the mark stays behind beside them; whatever is before it all the same
//! is found by the regular full search, as after a lost notification
//! ([`notify`](crate::postgres::fleet::notify)).

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::postgres::lock;
use unwrapd_core::delivery::Lane;

/// From the beginning.
const BEGINNING: i64 = i64::MIN;

/// The marks of all lanes of which something was claimed, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct ClaimFloors(Mutex<BTreeMap<Lane, HashMap<String, ClaimFloor>>>);

#[derive(Debug)]
struct ClaimFloor {
    at_ms: i64,
    /// The earliest that has come since the last claim began. That one may not have seen it.
    come_ms: i64,
}

impl ClaimFloors {
    /// Where a claim begins to look. There is only one at a time for a lane, but for a moment after
    /// its destination was changed; then the look at everything finds what one has hidden from the
    /// other.
    pub(crate) fn begin(&self, destination: &str, lane: Lane, now_ms: i64) -> i64 {
        let mut lanes = lock(&self.0);
        let lane = lanes.entry(lane).or_default();
        let floor = lane.entry(destination.to_owned()).or_insert(ClaimFloor {
            at_ms: BEGINNING,
            come_ms: i64::MAX,
        });
        floor.come_ms = i64::MAX;
        if floor.at_ms > now_ms {
            // The clock was set back.
            floor.at_ms = BEGINNING;
        }
        floor.at_ms
    }

    /// Ends a claim that has looked at everything until this time. `first_ms` is the first delivery
    /// left.
    pub(crate) fn end(&self, destination: &str, lane: Lane, until_ms: i64, first_ms: Option<i64>) {
        if let Some(floor) = floor(&mut lock(&self.0), destination, lane) {
            let first_ms = first_ms.unwrap_or(i64::MAX);
            floor.at_ms = until_ms.min(first_ms).min(floor.come_ms);
        }
    }

    /// Something may be claimed from this time on.
    pub(crate) fn comes(&self, destination: &str, lane: Lane, ready_ms: i64) {
        if let Some(floor) = floor(&mut lock(&self.0), destination, lane) {
            floor.comes(ready_ms);
        }
    }

    /// Something may be claimed from this time on, and nobody knows in which lane.
    pub(crate) fn comes_somewhere(&self, ready_ms: i64) {
        for floor in lock(&self.0).values_mut().flat_map(HashMap::values_mut) {
            floor.comes(ready_ms);
        }
    }

    /// Something came there, and nobody knows from which time on it may be claimed.
    pub(crate) fn forget(&self, destination: &str, lane: Lane) {
        self.comes(destination, lane, BEGINNING);
    }

    /// Something came somewhere.
    pub(crate) fn forget_all(&self) {
        self.comes_somewhere(BEGINNING);
    }
}

impl ClaimFloor {
    fn comes(&mut self, ready_ms: i64) {
        self.at_ms = self.at_ms.min(ready_ms);
        self.come_ms = self.come_ms.min(ready_ms);
    }
}

fn floor<'m>(
    lanes: &'m mut BTreeMap<Lane, HashMap<String, ClaimFloor>>,
    destination: &str,
    lane: Lane,
) -> Option<&'m mut ClaimFloor> {
    lanes.get_mut(&lane)?.get_mut(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "app";
    const LANE: Lane = Lane::Standard;
    const NOW: i64 = 1_000_000;

    #[test]
    fn the_first_claim_looks_from_the_beginning_and_the_next_where_it_found_the_first_that_is_left()
    {
        let claim_floors = ClaimFloors::default();
        assert_eq!(claim_floors.begin(APP, LANE, NOW), BEGINNING);
        claim_floors.end(APP, LANE, NOW, Some(NOW - 5000));
        assert_eq!(claim_floors.begin(APP, LANE, NOW), NOW - 5000);
    }

    #[test]
    fn with_nothing_left_the_next_claim_looks_from_where_the_last_one_ended() {
        let claim_floors = ClaimFloors::default();
        claim_floors.begin(APP, LANE, NOW);
        claim_floors.end(APP, LANE, NOW, None);
        assert_eq!(claim_floors.begin(APP, LANE, NOW + 1), NOW);
    }

    #[test]
    fn what_comes_during_a_claim_or_after_moves_the_mark_back() {
        let claim_floors = ClaimFloors::default();
        claim_floors.begin(APP, LANE, NOW);
        claim_floors.comes(APP, LANE, NOW - 7000);
        claim_floors.end(APP, LANE, NOW, None);
        assert_eq!(claim_floors.begin(APP, LANE, NOW), NOW - 7000);
        claim_floors.end(APP, LANE, NOW, None);
        claim_floors.comes_somewhere(NOW - 3000);
        assert_eq!(claim_floors.begin(APP, LANE, NOW), NOW - 3000);
        claim_floors.forget_all();
        claim_floors.end(APP, LANE, NOW, None);
        assert_eq!(claim_floors.begin(APP, LANE, NOW), BEGINNING);
    }

    #[test]
    fn when_the_clock_was_set_back_a_claim_looks_from_the_beginning() {
        let claim_floors = ClaimFloors::default();
        claim_floors.begin(APP, LANE, NOW);
        claim_floors.end(APP, LANE, NOW, None);
        assert_eq!(claim_floors.begin(APP, LANE, NOW - 60_000), BEGINNING);
    }
}
