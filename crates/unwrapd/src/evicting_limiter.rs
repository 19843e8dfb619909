//! A concurrency limiter that evicts. When it is full, the client that we have waited on longest
//! loses its permit, untrusted clients first. So slow clients replace each other, and a quick
//! client gets a permit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slab::Slab;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;

/// Limits the number of permits.
pub(crate) struct EvictingLimiter {
    state: Mutex<State>,
    /// Notified when the last permit is dropped.
    all_dropped: Notify,
}

/// A permit. Dropping it frees its slot.
pub(crate) struct Permit {
    limiter: Arc<EvictingLimiter>,
    key: usize,
    evict: Arc<Notify>,
}

/// Invariant, after each change: while callers wait, at least as many slots as callers are being
/// evicted, or no slot is idle.
struct State {
    free: usize,
    slots: Slab<Slot>,
    /// Number of slots that are [`SlotState::Idle`], and that are [`SlotState::Evicting`].
    idle: usize,
    evicting: usize,
    /// Callers that wait for a permit, in the order of arrival.
    waiting: VecDeque<oneshot::Sender<Permit>>,
    is_closing: bool,
}

struct Slot {
    state: SlotState,
    is_trusted: bool,
    /// Whether the connection has many concurrent requests.
    is_crowded: bool,
    /// Whether the connection must end, whatever its client does.
    must_end: bool,
    evict: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq)]
enum SlotState {
    /// The client waits for us.
    Busy,
    /// We wait for the client.
    Idle { since: Instant },
    /// The client must give up its permit, and has not been notified yet.
    Evicting,
}

impl EvictingLimiter {
    /// A limiter with `max` permits.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: max,
                slots: Slab::new(),
                idle: 0,
                evicting: 0,
                waiting: VecDeque::new(),
                is_closing: false,
            }),
            all_dropped: Notify::new(),
        })
    }

    /// Whether all permits are in use.
    pub(crate) fn is_full(&self) -> bool {
        self.state().free == 0
    }

    /// Takes a permit, if necessary from an idle client. `None` if all clients are busy. The new
    /// permit is idle.
    pub(crate) async fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let acquired = {
            let mut state = self.state();
            if state.free == 0 && !state.has_idle_for_one_more() {
                return None;
            }
            self.begin(&mut state)
        };
        acquired.permit().await
    }

    /// Takes a permit as [`try_acquire`](Self::try_acquire) does, but waits for an idle client if
    /// all are busy.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        let acquired = self.begin(&mut self.state());
        // The limiter keeps the sender until it has sent.
        acquired.permit().await.expect("a permit is sent")
    }

    fn begin(self: &Arc<Self>, state: &mut State) -> Acquired {
        if state.free > 0 {
            state.free -= 1;
            return Acquired::Now(self.permit(state));
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push_back(sender);
        state.balance();
        Acquired::Later(receiver)
    }

    /// Evicts the client that we have waited on longest. False if none is idle.
    pub(crate) fn evict_one(&self) -> bool {
        self.state().evict_longest_idle()
    }

    /// Evicts all clients, busy ones included.
    pub(crate) fn evict_all(&self) {
        let mut state = self.state();
        state.is_closing = true;
        for (_, slot) in &state.slots {
            slot.evict.notify_one();
        }
    }

    /// Waits until all permits are dropped. No permit may be requested after this.
    pub(crate) async fn all_dropped(&self) {
        loop {
            let dropped = self.all_dropped.notified();
            if self.state().slots.is_empty() {
                return;
            }
            dropped.await;
        }
    }

    /// A permit for a slot that was taken from the free ones.
    fn permit(self: &Arc<Self>, state: &mut State) -> Permit {
        let evict = Arc::new(Notify::new());
        let key = state.slots.insert(Slot {
            state: SlotState::Idle {
                since: Instant::now(),
            },
            is_trusted: false,
            is_crowded: false,
            must_end: false,
            evict: Arc::clone(&evict),
        });
        state.idle += 1;
        Permit {
            limiter: Arc::clone(self),
            key,
            evict,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit, or the receiver of a later one.
enum Acquired {
    Now(Permit),
    Later(oneshot::Receiver<Permit>),
}

impl Acquired {
    async fn permit(self) -> Option<Permit> {
        match self {
            Self::Now(permit) => Some(permit),
            Self::Later(receiver) => receiver.await.ok(),
        }
    }
}

impl State {
    /// Whether an idle slot is left for one more caller, after one for each waiting caller.
    fn has_idle_for_one_more(&mut self) -> bool {
        self.forget_cancelled();
        self.idle + self.evicting > self.waiting.len()
    }

    /// Evicts idle clients until there is a slot for each waiting caller, as far as possible.
    fn balance(&mut self) {
        if self.waiting.len() > self.evicting {
            self.forget_cancelled();
        }
        while self.waiting.len() > self.evicting && self.evict_longest_idle() {}
    }

    fn forget_cancelled(&mut self) {
        self.waiting.retain(|waiting| !waiting.is_closed());
    }

    fn evict_longest_idle(&mut self) -> bool {
        if self.idle == 0 {
            return false;
        }
        let idle = self
            .slots
            .iter_mut()
            .filter_map(|(_, slot)| match slot.state {
                SlotState::Idle { since } => Some(((slot.is_trusted, since), slot)),
                SlotState::Busy | SlotState::Evicting => None,
            });
        let Some((_, slot)) = idle.min_by_key(|(rank, _)| *rank) else {
            return false;
        };
        slot.state = SlotState::Evicting;
        slot.evict.notify_one();
        self.idle -= 1;
        self.evicting += 1;
        true
    }

    fn enter(&mut self, key: usize, next: SlotState) {
        let before = std::mem::replace(&mut self.slots[key].state, next);
        self.leave(before);
        if next != SlotState::Busy {
            self.idle += 1;
        }
        // Either a client avoided its eviction by activity, or a client became idle while a caller
        // waits.
        self.balance();
    }

    fn leave(&mut self, state: SlotState) {
        match state {
            SlotState::Busy => {}
            SlotState::Idle { .. } => self.idle -= 1,
            SlotState::Evicting => self.evicting -= 1,
        }
    }

    /// Ends the crowded connection that we have waited on longest, unless `enough` of them are
    /// ending.
    fn end_longest_idle_crowded(&mut self, enough: usize) {
        let crowded = self.slots.iter_mut().filter(|(_, slot)| slot.is_crowded);
        let (ending, going_on): (Vec<_>, Vec<_>) = crowded.partition(|(_, slot)| slot.must_end);
        if ending.len() >= enough {
            return;
        }
        let idle = going_on
            .into_iter()
            .filter_map(|(_, slot)| match slot.state {
                SlotState::Idle { since } => Some(((slot.is_trusted, since), slot)),
                SlotState::Busy | SlotState::Evicting => None,
            });
        if let Some((_, slot)) = idle.min_by_key(|(rank, _)| *rank) {
            slot.must_end = true;
            slot.evict.notify_one();
        }
    }
}

impl Permit {
    /// Marks the client as idle: we wait for it, and it may be evicted.
    pub(crate) fn set_idle(&self) {
        let since = Instant::now();
        self.limiter
            .state()
            .enter(self.key, SlotState::Idle { since });
    }

    /// Marks the client as busy: it waits for us, and is not evicted.
    pub(crate) fn set_busy(&self) {
        self.limiter.state().enter(self.key, SlotState::Busy);
    }

    /// Sets whether the connection has many concurrent requests.
    pub(crate) fn set_crowded(&self, is_crowded: bool) {
        self.limiter.state().slots[self.key].is_crowded = is_crowded;
    }

    /// Marks the client as trusted: it is evicted only after all untrusted ones.
    pub(crate) fn set_trusted(&self) {
        self.limiter.state().slots[self.key].is_trusted = true;
    }

    /// Ends the crowded connection that has waited longest for its client, possibly this one,
    /// unless `enough` of them are ending. A connection with few requests is never ended for this
    /// reason: the limit on connections bounds those.
    pub(crate) fn end_longest_idle_crowded(&self, enough: usize) {
        self.limiter.state().end_longest_idle_crowded(enough);
    }

    /// Waits until the client is evicted. A client that becomes busy before the notification keeps
    /// its permit, and another one is evicted: a request that has arrived must not be cut off
    /// because no task has read it yet.
    pub(crate) async fn evicted(&self) {
        loop {
            self.evict.notified().await;
            // The runtime polls the system for new data before this continues, so that pending
            // requests count.
            yield_now().await;
            let state = self.limiter.state();
            let slot = &state.slots[self.key];
            if slot.state == SlotState::Evicting || slot.must_end || state.is_closing {
                return;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        let slot = state.slots.remove(self.key);
        state.leave(slot.state);
        state.forget_cancelled();
        let Some(next) = state.waiting.pop_front() else {
            state.free += 1;
            if state.slots.is_empty() {
                self.limiter.all_dropped.notify_waiters();
            }
            return;
        };
        let permit = self.limiter.permit(&mut state);
        state.balance();
        drop(state);
        // If the caller has given up, the permit is dropped here and goes to the next one.
        drop(next.send(permit));
    }
}

#[cfg(test)]
mod tests;
