//! The position at which a claim begins to search. A claimed delivery moves in the index, and
//! leaves an entry behind until a vacuum. A search from the beginning would skip all entries of the
//! last minute each time. So each lane has a floor before which no delivery waits.
//!
//! This gateway's own changes lower the floor when necessary. The changes of other gateways are
//! usually not older than the margin by which the floor stays behind beside them. The regular full
//! search finds the rest, as after a lost notification
//! ([`notify`](crate::postgres::fleet::notify)).

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::mutex::lock;
use unwrapd_core::delivery::Lane;

/// The beginning of the index.
const BEGINNING: i64 = i64::MIN;

/// The floors of all lanes with a claim, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct ClaimFloors(Mutex<BTreeMap<Lane, HashMap<String, ClaimFloor>>>);

#[derive(Debug)]
struct ClaimFloor {
    at_ms: i64,
    /// The earliest delivery that was added since the last claim began, which may have missed it.
    come_ms: i64,
}

impl ClaimFloors {
    /// Returns the position at which a claim begins to search. A lane has one claim at a time,
    /// except shortly after a change of its destination; then the full search finds what one claim
    /// has hidden from the other.
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

    /// Records a claim that has searched everything until `until_ms`. `first_ms` is the first
    /// delivery left.
    pub(crate) fn end(&self, destination: &str, lane: Lane, until_ms: i64, first_ms: Option<i64>) {
        if let Some(floor) = floor(&mut lock(&self.0), destination, lane) {
            let first_ms = first_ms.unwrap_or(i64::MAX);
            floor.at_ms = until_ms.min(first_ms).min(floor.come_ms);
        }
    }

    /// Records a delivery that may be claimed from `ready_ms` on.
    pub(crate) fn comes(&self, destination: &str, lane: Lane, ready_ms: i64) {
        if let Some(floor) = floor(&mut lock(&self.0), destination, lane) {
            floor.comes(ready_ms);
        }
    }

    /// Records a delivery in an unknown lane that may be claimed from `ready_ms` on.
    pub(crate) fn comes_somewhere(&self, ready_ms: i64) {
        for floor in lock(&self.0).values_mut().flat_map(HashMap::values_mut) {
            floor.comes(ready_ms);
        }
    }

    /// Records deliveries of a lane that may be claimed from an unknown time on.
    pub(crate) fn forget(&self, destination: &str, lane: Lane) {
        self.comes(destination, lane, BEGINNING);
    }

    /// Records deliveries in unknown lanes.
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
    fn the_first_claim_scans_from_the_beginning_and_the_next_from_the_first_one_left() {
        let claim_floors = ClaimFloors::default();
        assert_eq!(claim_floors.begin(APP, LANE, NOW), BEGINNING);
        claim_floors.end(APP, LANE, NOW, Some(NOW - 5000));
        assert_eq!(claim_floors.begin(APP, LANE, NOW), NOW - 5000);
    }

    #[test]
    fn a_claim_after_one_that_left_nothing_scans_from_its_time() {
        let claim_floors = ClaimFloors::default();
        claim_floors.begin(APP, LANE, NOW);
        claim_floors.end(APP, LANE, NOW, None);
        assert_eq!(claim_floors.begin(APP, LANE, NOW + 1), NOW);
    }

    #[test]
    fn a_delivery_that_arrives_during_or_after_a_claim_moves_the_floor_back() {
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
    fn a_claim_after_the_clock_was_set_back_scans_from_the_beginning() {
        let claim_floors = ClaimFloors::default();
        claim_floors.begin(APP, LANE, NOW);
        claim_floors.end(APP, LANE, NOW, None);
        assert_eq!(claim_floors.begin(APP, LANE, NOW - 60_000), BEGINNING);
    }
}
