//! The ledger: what was posted, what was acknowledged, and what each destination received.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use crate::crash::verdict::{Offence, Wrong};
use crate::crash::webhooks::{self, Destination};

/// Number of undelivered messages at which no new webhook is sent, so that the final drain is
/// short.
const UNDELIVERED_MAX: usize = 256;

/// The ledger, shared by all tasks. Every entry wakes the tasks that wait for a change.
#[derive(Clone, Default)]
pub struct Ledger(Arc<watch::Sender<Book>>);

#[derive(Default)]
pub struct Book {
    /// One entry for each number that was posted.
    pub webhooks: Vec<Entry>,
    pub offences: Vec<Offence>,
    /// Number of posted requests, copies and repetitions included.
    pub requests: u64,
    /// Number of received deliveries, repetitions included.
    receptions: u64,
    pub acknowledged: usize,
    /// Number of 503 answers.
    pub refused: usize,
    /// Webhooks that were posted, not acknowledged, and must be sent again.
    again: VecDeque<usize>,
    /// Number of deliveries still to be made.
    undelivered: usize,
    /// Whether no new webhooks are sent and no more failures occur.
    is_calm: bool,
}

/// The record of one webhook.
#[derive(Default)]
pub struct Entry {
    /// The first process that answered 200.
    pub acknowledged_in: Option<u32>,
    /// Number of requests that posted it.
    posted: usize,
    /// Receptions of each destination.
    deliveries: [Received; Destination::ALL.len()],
}

/// The deliveries of one webhook that a destination received.
#[derive(Default)]
pub struct Received {
    /// Each reception.
    pub receptions: Vec<Reception>,
    /// Whether the response was 200, as far as the destination knows.
    pub is_delivered: bool,
}

#[derive(Clone, Copy)]
pub struct Reception {
    /// The process that sent it.
    pub life: u32,
    /// Whether the destination answered with a failure.
    pub has_failed: bool,
}

impl Entry {
    pub fn at(&self, destination: Destination) -> &Received {
        &self.deliveries[destination as usize]
    }
}

/// The next step of a sender.
enum Next {
    Post(usize),
    Wait,
    Nothing,
}

impl Ledger {
    pub fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.0.borrow())
    }

    pub fn calm(&self) {
        self.0.send_modify(|book| book.is_calm = true);
    }

    pub fn is_calm(&self) -> bool {
        self.read(|book| book.is_calm)
    }

    /// The number of the webhook to post next: a new one, or, if there is one and `rather_again`,
    /// one that was not acknowledged. `None`: nothing more is to be posted.
    pub async fn next(&self, rather_again: bool) -> Option<usize> {
        let mut changes = self.0.subscribe();
        loop {
            let mut next = Next::Wait;
            self.0.send_if_modified(|book| {
                next = book.next(rather_again);
                matches!(next, Next::Post(_))
            });
            match next {
                Next::Post(number) => return Some(number),
                Next::Nothing => return None,
                Next::Wait => changes.changed().await.unwrap(),
            }
        }
    }

    /// Adds a webhook that no sender posts, and expects its deliveries.
    #[allow(dead_code, reason = "the tests of faults do so")]
    pub fn announce(&self) -> usize {
        let mut number = 0;
        self.0.send_modify(|book| number = book.announce());
        number
    }

    pub fn posted(&self) -> usize {
        self.read(|book| book.webhooks.len())
    }

    /// Records an acknowledgement by this process.
    pub fn acknowledge(&self, number: usize, life: u32) {
        self.0.send_modify(|book| {
            let first = &mut book.webhooks[number].acknowledged_in;
            if first.is_none() {
                *first = Some(life);
                book.acknowledged += 1;
            }
        });
    }

    pub fn refuse(&self) {
        self.0.send_modify(|book| book.refused += 1);
    }

    /// Schedules another request, unless a copy was acknowledged.
    pub fn send_again(&self, number: usize) {
        self.0.send_modify(|book| {
            if book.webhooks[number].acknowledged_in.is_none() {
                book.again.push_back(number);
            }
        });
    }

    /// Counts a request for this webhook and returns its rank plus the number, so that each webhook
    /// begins at a different gateway.
    pub fn count_request(&self, number: usize) -> usize {
        let mut place = 0;
        self.0.send_modify(|book| {
            book.requests += 1;
            let posted = &mut book.webhooks[number].posted;
            place = number + *posted;
            *posted += 1;
        });
        place
    }

    pub fn receive(&self, number: usize, destination: Destination, reception: Reception) {
        self.0.send_modify(|book| {
            book.receptions += 1;
            book.webhooks[number].deliveries[destination as usize]
                .receptions
                .push(reception);
        });
    }

    pub fn has_received(&self, number: usize, destination: Destination) -> bool {
        self.read(|book| !book.webhooks[number].at(destination).receptions.is_empty())
    }

    /// Records a delivery that the destination acknowledges.
    pub fn deliver(&self, number: usize, destination: Destination) {
        self.0.send_modify(|book| {
            let received = &mut book.webhooks[number].deliveries[destination as usize];
            if !std::mem::replace(&mut received.is_delivered, true) && destination.wants(number) {
                book.undelivered -= 1;
            }
        });
    }

    /// Records an offence of this process.
    pub fn offend(&self, wrong: Wrong, id: impl Into<String>, life: u32) {
        self.0.send_modify(|book| {
            book.offences.push(Offence {
                wrong,
                id: id.into(),
                life: Some(life),
            });
        });
    }

    pub fn has_offences(&self) -> bool {
        self.read(|book| !book.offences.is_empty())
    }

    /// Waits until every posted webhook is acknowledged and delivered.
    pub async fn settled(&self) {
        let is_settled =
            |book: &Book| book.undelivered == 0 && book.acknowledged == book.webhooks.len();
        self.wait_for(is_settled).await;
    }

    pub fn receptions(&self) -> u64 {
        self.read(|book| book.receptions)
    }

    /// Waits until this many deliveries have been received since the beginning.
    pub async fn received_in_all(&self, receptions: u64) {
        self.wait_for(|book| book.receptions >= receptions).await;
    }

    pub async fn wait_for(&self, is_so: impl FnMut(&Book) -> bool) {
        drop(self.0.subscribe().wait_for(is_so).await.unwrap());
    }

    pub fn progress(&self) -> String {
        self.read(|book| {
            format!(
                "{} posted, {} acknowledged, {} times refused, {} received, {} to be delivered,",
                book.webhooks.len(),
                book.acknowledged,
                book.refused,
                book.receptions,
                book.undelivered
            )
        })
    }
}

impl Book {
    /// A new webhook.
    fn announce(&mut self) -> usize {
        let number = self.webhooks.len();
        self.webhooks.push(Entry::default());
        self.undelivered += Destination::ALL
            .into_iter()
            .filter(|destination| destination.wants(number))
            .count();
        number
    }

    fn next(&mut self, rather_again: bool) -> Next {
        let may_be_new = !self.is_calm && self.undelivered < UNDELIVERED_MAX;
        if (rather_again || !may_be_new)
            && let Some(number) = self.again.pop_front()
        {
            return Next::Post(number);
        }
        if may_be_new {
            return Next::Post(self.announce());
        }
        // A sender whose webhook was not acknowledged comes back here, so the others need not wait
        // for it.
        if self.is_calm {
            Next::Nothing
        } else {
            Next::Wait
        }
    }
}

/// The number of a webhook that was posted.
pub fn known(book: &Book, id: &str) -> Option<usize> {
    webhooks::number(id).filter(|number| *number < book.webhooks.len())
}
