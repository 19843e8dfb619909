//! The books: what was posted, what was acknowledged, and what each destination received.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use crate::crash::verdict::{Offence, Wrong};
use crate::crash::webhooks::{self, Destination};

/// Most deliveries still to be made; then no new webhook is sent. So the load lasts, and the drain does not.
const UNDELIVERED_MAX: usize = 256;

/// Shared by all; who waits for something in it is woken by every entry.
#[derive(Clone, Default)]
pub struct Ledger(Arc<watch::Sender<Book>>);

#[derive(Default)]
pub struct Book {
    /// One for each number that was posted.
    pub webhooks: Vec<Entry>,
    pub offences: Vec<Offence>,
    /// Requests posted, copies and repetitions included.
    pub requests: u64,
    /// Deliveries received, repetitions included.
    receptions: u64,
    pub acknowledged: usize,
    /// Answers that it cannot be kept now.
    pub refused: usize,
    /// Posted, not acknowledged, and to be sent again.
    again: VecDeque<usize>,
    /// Deliveries still to be made.
    undelivered: usize,
    /// No new webhooks, no more failures.
    is_calm: bool,
}

/// What is known of one webhook.
#[derive(Default)]
pub struct Entry {
    /// The process that was the first to answer 200.
    pub acknowledged_in: Option<u32>,
    /// How often.
    posted: usize,
    /// By destination.
    deliveries: [Received; Destination::ALL.len()],
}

/// What a destination received of one webhook.
#[derive(Default)]
pub struct Received {
    /// Each time it came.
    pub receptions: Vec<Reception>,
    /// Whether it was answered 200, as far as the destination can tell.
    pub is_delivered: bool,
}

#[derive(Clone, Copy)]
pub struct Reception {
    /// The process that sent it.
    pub life: u32,
    /// The destination answered that it failed.
    pub has_failed: bool,
}

impl Entry {
    pub fn at(&self, destination: Destination) -> &Received {
        &self.deliveries[destination as usize]
    }
}

/// What a sender is to do next.
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

    /// The number of the webhook to post next: a new one, or (if there is one and `rather_again`) one that was not acknowledged.
    /// `None`: there will be no more.
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

    /// A new webhook that is not posted by a sender. What it is delivered to is still to come.
    #[allow(dead_code, reason = "the tests of faults do so")]
    pub fn announce(&self) -> usize {
        let mut number = 0;
        self.0.send_modify(|book| number = book.announce());
        number
    }

    pub fn posted(&self) -> usize {
        self.read(|book| book.webhooks.len())
    }

    /// By this process.
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

    /// Has it sent again, unless a copy of it was acknowledged.
    pub fn send_again(&self, number: usize) {
        self.0.send_modify(|book| {
            if book.webhooks[number].acknowledged_in.is_none() {
                book.again.push_back(number);
            }
        });
    }

    /// Counts a request that posts it, and gives which one it is, counted from its number: so each begins elsewhere.
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

    /// The destination has it and says so.
    pub fn deliver(&self, number: usize, destination: Destination) {
        self.0.send_modify(|book| {
            let received = &mut book.webhooks[number].deliveries[destination as usize];
            if !std::mem::replace(&mut received.is_delivered, true) && destination.wants(number) {
                book.undelivered -= 1;
            }
        });
    }

    /// By this process.
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

    /// Waits until everything posted is acknowledged and delivered.
    pub async fn settled(&self) {
        let is_settled =
            |book: &Book| book.undelivered == 0 && book.acknowledged == book.webhooks.len();
        self.wait_for(is_settled).await;
    }

    pub fn receptions(&self) -> u64 {
        self.read(|book| book.receptions)
    }

    /// Waits until so much has been received since the beginning.
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
        // Who has posted one that is not acknowledged comes here again; nobody has to wait for it.
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
