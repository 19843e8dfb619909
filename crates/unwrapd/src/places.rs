//! So many at once. When no place is left, whoever has kept us waiting the longest gives up theirs, strangers before those who have
//! shown that they belong here: crowds of slow clients push out each other, and a quick one finds a place.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slab::Slab;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

/// In place of a time: it waits for nobody, so it may stay.
const FIRM: u64 = u64::MAX;
/// In place of a time: it was asked to go.
const ASKED: u64 = u64::MAX - 1;
/// Added to the time of those who are asked last. A time alone is never so large: it would take 146,000 years.
const TRUSTED: u64 = 1 << 62;

/// The places of one kind.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    seats: Mutex<Slab<Arc<Seat>>>,
    /// Told when someone begins to wait, and so could be asked to go.
    yields: Notify,
    /// Connections that were asked to leave but stay, because they became active first, while no
    /// other could be asked.
    owed: AtomicUsize,
    is_closing: AtomicBool,
    opened: Instant,
    max: usize,
}

struct Seat {
    /// Since when it waits for its client, in microseconds from the opening; or one of the two above.
    waits_since: AtomicU64,
    is_trusted: AtomicBool,
    /// Whether it has many requests at once.
    is_crowded: AtomicBool,
    /// Whether it was told to end, whatever it does meanwhile.
    must_end: AtomicBool,
    asked: Notify,
}

/// One place. It is free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    seat: Arc<Seat>,
    key: usize,
    // The last field: whoever gets this permit finds the seat gone.
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many places, all free.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(max)),
            seats: Mutex::new(Slab::new()),
            yields: Notify::new(),
            owed: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            opened: Instant::now(),
            max,
        })
    }

    /// Whether no place is free.
    pub(crate) fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Takes a place, if need be one that is given up for it; `None` if all are taken and none can be given up. It counts
    /// as waiting for its client.
    pub(crate) async fn try_take(self: &Arc<Self>) -> Option<Place> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(self.seat(permit));
        }
        if !self.ask_the_slowest() {
            return None;
        }
        Some(self.next_free().await)
    }

    /// As [`try_take`](Self::try_take), and waits where that gives `None`.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        loop {
            // Before looking: who begins to wait after the look is not overlooked.
            let yields = self.yields.notified();
            if let Some(place) = self.try_take().await {
                return place;
            }
            tokio::select! {
                place = self.next_free() => return place,
                () = yields => {}
            }
        }
    }

    /// Asks whoever has waited the longest for its client to give up its place. False if nobody waits.
    pub(crate) fn ask_the_slowest(&self) -> bool {
        let seats = self.seats();
        loop {
            let slowest = seats
                .iter()
                .map(|(_, seat)| (seat.waits_since.load(Ordering::SeqCst), seat))
                .filter(|(since, _)| *since < ASKED)
                .min_by_key(|(since, _)| *since);
            let Some((since, seat)) = slowest else {
                return false;
            };
            let asked =
                seat.waits_since
                    .compare_exchange(since, ASKED, Ordering::SeqCst, Ordering::SeqCst);
            // Else it has moved on in this instant.
            if asked.is_ok() {
                seat.asked.notify_one();
                return true;
            }
        }
    }

    /// Ends the connection with many requests that has waited the longest for its client, unless `enough` such connections are
    /// ending already. A connection with few requests is never ended for this: the limit on connections bounds them.
    fn end_the_slowest_of_the_crowded(&self, enough: usize) {
        let seats = self.seats();
        let crowded = || {
            let all = seats.iter().map(|(_, seat)| seat);
            all.filter(|seat| seat.is_crowded.load(Ordering::SeqCst))
        };
        let is_ending = |seat: &&Arc<Seat>| seat.must_end.load(Ordering::SeqCst);
        if crowded().filter(is_ending).count() >= enough {
            return;
        }
        let slowest = crowded()
            .filter(|seat| !is_ending(seat))
            .map(|seat| (seat.waits_since.load(Ordering::SeqCst), seat))
            .filter(|(since, _)| *since < ASKED)
            .min_by_key(|(since, _)| *since);
        if let Some((_, seat)) = slowest {
            seat.must_end.store(true, Ordering::SeqCst);
            seat.asked.notify_one();
        }
    }

    /// Asks everyone, whatever they do.
    pub(crate) fn ask_all(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        for (_, seat) in self.seats().iter() {
            seat.asked.notify_one();
        }
    }

    /// Waits until all places are free. Nobody may take one any more.
    pub(crate) async fn all_free(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        drop(self.free.acquire_many(all).await);
    }

    async fn next_free(self: &Arc<Self>) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        self.seat(permit.expect("it is never closed"))
    }

    /// One less is owed. False if none was.
    fn repay(&self) -> bool {
        let one_less = |owed: usize| owed.checked_sub(1);
        self.owed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
    }

    fn seat(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let seat = Arc::new(Seat {
            waits_since: AtomicU64::new(self.now()),
            is_trusted: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
            must_end: AtomicBool::new(false),
            asked: Notify::new(),
        });
        let key = self.seats().insert(Arc::clone(&seat));
        Place {
            places: Arc::clone(self),
            seat,
            key,
            _permit: permit,
        }
    }

    fn seats(&self) -> MutexGuard<'_, Slab<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let since = self.opened.elapsed().as_micros();
        u64::try_from(since).unwrap_or_default().min(TRUSTED - 1)
    }
}

impl Place {
    /// From now on it waits for its client, and could be asked to go.
    pub(crate) fn waits(&self) {
        let rank = if self.seat.is_trusted.load(Ordering::Relaxed) {
            TRUSTED
        } else {
            0
        };
        self.moves(self.places.now() + rank);
        // It may be what someone has looked for in vain.
        if self.places.repay() {
            self.places.ask_the_slowest();
        }
        self.places.yields.notify_waiters();
    }

    /// Says whether this connection has many requests at once.
    pub(crate) fn crowds(&self, is_crowded: bool) {
        self.seat.is_crowded.store(is_crowded, Ordering::SeqCst);
    }

    /// Ends the slowest connection with many requests, perhaps this one, unless `enough` of them are ending already.
    pub(crate) fn end_the_slowest_of_the_crowded(&self, enough: usize) {
        self.places.end_the_slowest_of_the_crowded(enough);
    }

    /// From the next time that it waits it is asked after all those who are not trusted.
    pub(crate) fn trust(&self) {
        self.seat.is_trusted.store(true, Ordering::Relaxed);
    }

    /// From now on it waits for nobody.
    pub(crate) fn works(&self) {
        self.moves(FIRM);
    }

    /// Waits to be asked to give up the place. Who moves before hearing it stays, and someone slower is asked: a request that had
    /// arrived all the while must not be cut off because nobody has looked at it yet.
    pub(crate) async fn asked(&self) {
        loop {
            self.seat.asked.notified().await;
            // Nor because the runtime has not asked the system yet who has sent something, which it does before this goes on.
            yield_now().await;
            let is_asked = self.seat.waits_since.load(Ordering::SeqCst) == ASKED;
            let must_end = self.seat.must_end.load(Ordering::SeqCst);
            if is_asked || must_end || self.places.is_closing.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn moves(&self, since: u64) {
        let before = self.seat.waits_since.swap(since, Ordering::SeqCst);
        if before == ASKED {
            // Owed before looking: who begins to wait after the look sees it.
            self.places.owed.fetch_add(1, Ordering::SeqCst);
            if self.places.ask_the_slowest() {
                self.places.repay();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.seats().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Lets the clock of the places move on.
    fn tick(places: &Places) {
        let now = places.now();
        while places.now() == now {}
    }

    async fn stays(place: &Place) -> bool {
        timeout(Duration::ZERO, place.asked()).await.is_err()
    }

    #[tokio::test]
    async fn whoever_waits_the_longest_gives_way_and_who_works_stays() {
        let places = Places::new(3);
        let working = places.try_take().await.unwrap();
        working.works();
        let slowest = places.try_take().await.unwrap();
        let slow = places.try_take().await.unwrap();
        // It moved after `slow` was seated, so that one is the slowest now.
        tick(&places);
        slowest.waits();

        let newcomer = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.try_take().await }
        });
        slow.asked().await;
        drop(slow);
        let newcomer = newcomer.await.unwrap().unwrap();
        newcomer.works();
        slowest.works();
        assert!(places.try_take().await.is_none());
        drop((working, slowest, newcomer));
        places.all_free().await;
    }

    #[tokio::test]
    async fn strangers_give_way_first() {
        let places = Places::new(2);
        let trusted = places.take().await;
        trusted.trust();
        trusted.waits();
        tick(&places);
        let stranger = places.take().await;
        assert!(places.ask_the_slowest());
        stranger.asked().await;
        assert!(places.ask_the_slowest());
        trusted.asked().await;
        assert!(!places.ask_the_slowest());
    }

    #[tokio::test]
    async fn only_connections_with_many_requests_end_for_there_being_too_many() {
        let places = Places::new(3);
        let few = places.take().await;
        tick(&places);
        let (slow, quick) = (places.take().await, places.take().await);
        quick.crowds(true);
        slow.crowds(true);
        tick(&places);
        quick.waits();
        few.end_the_slowest_of_the_crowded(1);
        // Whatever it does until it hears it.
        slow.works();
        slow.asked().await;
        // One is enough, and it is ending.
        few.end_the_slowest_of_the_crowded(1);
        assert!(stays(&quick).await);
        few.end_the_slowest_of_the_crowded(2);
        quick.asked().await;
        few.end_the_slowest_of_the_crowded(3);
        assert!(stays(&few).await);
    }

    #[tokio::test]
    async fn who_moved_before_hearing_it_stays_and_another_is_asked() {
        let places = Places::new(2);
        let quick = places.take().await;
        tick(&places);
        let slow = places.take().await;
        assert!(places.ask_the_slowest());
        quick.works();
        slow.asked().await;
        assert!(stays(&quick).await);

        // Nobody is left to be asked: whoever waits first is, then.
        let places = Places::new(1);
        let only = places.take().await;
        assert!(places.ask_the_slowest());
        only.works();
        assert!(stays(&only).await);
        only.waits();
        only.asked().await;
    }

    #[tokio::test]
    async fn everyone_is_asked_at_the_end_whatever_they_do() {
        let places = Places::new(1);
        let working = places.take().await;
        working.works();
        places.ask_all();
        working.asked().await;
    }

    #[tokio::test]
    async fn who_takes_waits_until_someone_begins_to_wait() {
        let places = Places::new(1);
        let only = places.take().await;
        only.works();
        let newcomer = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        tokio::task::yield_now().await;
        only.waits();
        only.asked().await;
        drop(only);
        newcomer.await.unwrap();
    }
}
