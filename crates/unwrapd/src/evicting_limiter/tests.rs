use std::time::Duration;

use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// Waits until `Instant::now` returns a different time.
fn tick() {
    let now = Instant::now();
    while Instant::now() == now {}
}

/// A limiter of one permit, which is in use.
async fn busy() -> (Arc<EvictingLimiter>, Permit) {
    let limiter = EvictingLimiter::new(1);
    let only = limiter.acquire().await;
    only.set_busy();
    (limiter, only)
}

/// A client that waits for a permit.
fn newcomer(limiter: &Arc<EvictingLimiter>) -> JoinHandle<Permit> {
    let limiter = Arc::clone(limiter);
    tokio::spawn(async move { limiter.acquire().await })
}

async fn stays(permit: &Permit) -> bool {
    timeout(Duration::ZERO, permit.evicted()).await.is_err()
}

#[tokio::test]
async fn the_client_that_is_idle_longest_is_evicted_and_a_busy_one_stays() {
    let limiter = EvictingLimiter::new(3);
    let busy = limiter.try_acquire().await.unwrap();
    busy.set_busy();
    let longest = limiter.try_acquire().await.unwrap();
    let second = limiter.try_acquire().await.unwrap();
    // `longest` was active after `second` came, so `second` is idle longest.
    tick();
    longest.set_idle();

    let newcomer = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { limiter.try_acquire().await }
    });
    second.evicted().await;
    drop(second);
    let newcomer = newcomer.await.unwrap().unwrap();
    newcomer.set_busy();
    longest.set_busy();
    assert!(limiter.try_acquire().await.is_none());
    drop((busy, longest, newcomer));
    limiter.all_dropped().await;
}

#[tokio::test]
async fn clients_that_are_not_trusted_are_evicted_first() {
    let limiter = EvictingLimiter::new(2);
    let trusted = limiter.acquire().await;
    trusted.set_trusted();
    trusted.set_idle();
    tick();
    let stranger = limiter.acquire().await;
    assert!(limiter.evict_one());
    stranger.evicted().await;
    assert!(limiter.evict_one());
    trusted.evicted().await;
    assert!(!limiter.evict_one());
}

#[tokio::test]
async fn connections_with_many_requests_end_when_there_are_too_many_and_others_stay() {
    let limiter = EvictingLimiter::new(3);
    let few = limiter.acquire().await;
    tick();
    let (slow, quick) = (limiter.acquire().await, limiter.acquire().await);
    quick.set_crowded(true);
    slow.set_crowded(true);
    tick();
    quick.set_idle();
    few.end_longest_idle_crowded(1);
    // A client cannot avoid a forced end by activity.
    slow.set_busy();
    slow.evicted().await;
    // One is enough, and it is ending.
    few.end_longest_idle_crowded(1);
    assert!(stays(&quick).await);
    few.end_longest_idle_crowded(2);
    quick.evicted().await;
    few.end_longest_idle_crowded(3);
    assert!(stays(&few).await);
}

#[tokio::test]
async fn a_client_that_is_busy_before_it_reads_its_eviction_stays_and_another_is_evicted() {
    let limiter = EvictingLimiter::new(2);
    let quick = limiter.acquire().await;
    tick();
    let slow = limiter.acquire().await;
    let newcomer = newcomer(&limiter);
    quick.evict.notified().await;
    quick.set_busy();
    slow.evicted().await;
    assert!(stays(&quick).await);
    drop(slow);
    newcomer.await.unwrap();
}

#[tokio::test]
async fn every_client_is_evicted_at_the_end_even_a_busy_one() {
    let (limiter, only) = busy().await;
    limiter.evict_all();
    only.evicted().await;
}

#[tokio::test]
async fn a_caller_waits_until_a_client_is_idle() {
    let (limiter, only) = busy().await;
    let newcomer = newcomer(&limiter);
    tokio::task::yield_now().await;
    only.set_idle();
    only.evicted().await;
    drop(only);
    newcomer.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_gives_up_takes_no_permit() {
    let (limiter, only) = busy().await;
    drop(timeout(Duration::ZERO, limiter.acquire()).await);
    only.set_idle();
    assert!(stays(&only).await);
    drop(only);
    assert!(!limiter.is_full());
}

#[derive(Clone, Debug)]
enum Step {
    TryAcquire,
    Acquire,
    Cancel(usize),
    Busy(usize),
    Idle(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::TryAcquire),
        Just(Step::Acquire),
        (0usize..8).prop_map(Step::Cancel),
        (0usize..8).prop_map(Step::Busy),
        (0usize..8).prop_map(Step::Idle),
        (0usize..8).prop_map(Step::Drop),
    ]
}

proptest! {
    /// In every order of events, no permit is lost or created, and no caller waits beside a
    /// free slot or an idle client.
    #[test]
    fn no_permit_is_lost_and_no_caller_waits_in_vain(steps in proptest::collection::vec(step(), 0..60)) {
        const MAX: usize = 3;
        let limiter = EvictingLimiter::new(MAX);
        let (mut held, mut callers) = (Vec::new(), VecDeque::new());
        for step in steps {
            let of = |index: usize, len: usize| (len > 0).then(|| index % len.max(1));
            match step {
                Step::TryAcquire => {
                    let mut state = limiter.state();
                    if state.free > 0 || state.has_idle_for_one_more() {
                        callers.push_back(limiter.begin(&mut state));
                    }
                }
                Step::Acquire => callers.push_back(limiter.begin(&mut limiter.state())),
                Step::Cancel(index) => {
                    if let Some(index) = of(index, callers.len()) {
                        drop(callers.remove(index));
                    }
                }
                Step::Busy(index) => {
                    if let Some(permit) = of(index, held.len()).map(|index| &held[index]) {
                        Permit::set_busy(permit);
                    }
                }
                Step::Idle(index) => {
                    if let Some(permit) = of(index, held.len()).map(|index| &held[index]) {
                        Permit::set_idle(permit);
                    }
                }
                Step::Drop(index) => {
                    if let Some(index) = of(index, held.len()) {
                        drop(held.swap_remove(index));
                    }
                }
            }
            let mut waiting = VecDeque::new();
            for caller in callers.drain(..) {
                match caller {
                    Acquired::Now(permit) => held.push(permit),
                    Acquired::Later(mut receiver) => match receiver.try_recv() {
                        Ok(permit) => held.push(permit),
                        Err(_) => waiting.push_back(Acquired::Later(receiver)),
                    },
                }
            }
            callers = waiting;
            let state = limiter.state();
            let count = |wanted: fn(&SlotState) -> bool| {
                state.slots.iter().filter(|(_, slot)| wanted(&slot.state)).count()
            };
            prop_assert_eq!(state.free + held.len(), MAX);
            prop_assert_eq!(state.slots.len(), held.len());
            prop_assert_eq!(state.idle, count(|state| matches!(state, SlotState::Idle { .. })));
            prop_assert_eq!(state.evicting, count(|state| *state == SlotState::Evicting));
            prop_assert!(callers.is_empty() || state.free == 0);
            prop_assert!(state.idle == 0 || callers.len() <= state.evicting);
        }
    }
}
