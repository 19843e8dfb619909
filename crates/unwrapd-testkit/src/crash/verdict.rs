//! Compares the ledger with the store.
//!
//! **Reasons to deliver a message again:** the previous attempt failed, or the process died between
//! sending the message and having its settlement on the disk. The second case cannot be observed
//! directly, but the store writes a row for each settled attempt. So:
//! - exactly one attempt is settled as a success: the last. Each of the others is settled as
//!   failed, or was in flight when its process died, which is the only way to end without a row;
//! - two copies from the same process need a row with a failure, because a process does not survive
//!   its own death;
//! - a copy with a good answer, followed by one of a later process, was in flight at that kill: it
//!   occupied one of the destination's slots, or was being settled. So there are at most
//!   `IN_FLIGHT_MAX` of these for each kill and destination.
//!
//! If several processes share a store, and are also frozen, the audit of their leases gives the
//! reasons ([`Again`]).

use std::collections::BTreeMap;
use std::fmt;

use unwrapd::dispatch::SETTLING_MAX;

use crate::crash::gateway::CONCURRENCY;
use crate::crash::ledger::{Book, Entry, Ledger, Received, known};
use crate::crash::store::{StoredDelivery, StoredWebhooks};
use crate::crash::webhooks::{self, Destination};

/// Maximum number of deliveries to one destination between their beginning and their durable
/// settlement.
const IN_FLIGHT_MAX: usize = CONCURRENCY + SETTLING_MAX;
/// Maximum number of ids shown of each kind of offence.
const SHOWN_MAX: usize = 20;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A webhook was answered with 200, but is not in the store.
    NotStored,
    /// A webhook was answered with 200 and wanted, but not delivered.
    NotDelivered(Destination),
    /// A delivered webhook was never posted.
    Invented,
    /// Bytes or type differ from those that were posted.
    Altered,
    /// A delivery was not signed with the secret of the destination.
    Unproven(Destination),
    /// A destination received a webhook that it does not want.
    Stray(Destination),
    /// The store has more than one message, or more than one delivery for one destination.
    Doubled,
    /// A genuine webhook was answered neither with 200 nor with 503 and `Retry-After`.
    Refused(u16),
    /// A webhook was never answered with 200, although the gateway was running.
    NotAcknowledged,
    /// A delivery was made, but not settled in the store.
    NotSettled(Destination),
    /// A delivery was made again without a reason.
    Again(Destination),
    /// More deliveries were in flight at a kill than allowed. The id is the number of the process.
    Crowded(Destination),
}

pub struct Offence {
    pub wrong: Wrong,
    pub id: String,
    /// The process that answered 200, or that committed the offence.
    pub life: Option<u32>,
}

impl Wrong {
    fn is_loss(self) -> bool {
        matches!(self, Self::NotStored | Self::NotDelivered(_))
    }
}

/// Numbers of repeated deliveries, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Copies after a failed attempt.
    pub after_failure: usize,
    /// Copies after an attempt that was in flight at a kill.
    pub after_kill: usize,
    /// Copies after an attempt that was in flight at a freeze.
    pub after_freeze: usize,
    /// Copies without a reason.
    pub unexplained: usize,
}

/// Returns the reasons why this id was delivered more than once to this destination.
pub type Reasons<'a> = dyn Fn(&str, Destination, &Received) -> Again + 'a;

#[derive(Default)]
pub struct Verdict {
    offences: BTreeMap<Wrong, Vec<String>>,
    posted: usize,
    requests: u64,
    acknowledged: usize,
    /// Number of deliveries, each counted once.
    delivered: usize,
    again: Again,
    /// Number of deliveries that were in flight at the death of a process and were repeated, by
    /// process and destination.
    in_flight: BTreeMap<(u32, Destination), usize>,
}

impl Verdict {
    pub fn reach(ledger: &Ledger, stored: &StoredWebhooks) -> Self {
        let mut verdict = Self::default();
        ledger.read(|book| verdict.compare(book, stored, None));
        verdict
    }

    /// The verdict, with the reasons for each repeated delivery.
    pub fn reach_by(ledger: &Ledger, stored: &StoredWebhooks, reasons: &Reasons<'_>) -> Self {
        let mut verdict = Self::default();
        ledger.read(|book| verdict.compare(book, stored, Some(reasons)));
        verdict
    }

    pub fn is_clean(&self) -> bool {
        self.offences.is_empty()
    }

    fn compare(&mut self, book: &Book, stored: &StoredWebhooks, reasons: Option<&Reasons<'_>>) {
        self.posted = book.webhooks.len();
        self.requests = book.requests;
        for offence in &book.offences {
            self.offend(offence.wrong, &offence.id, offence.life);
        }
        for id in stored.keys() {
            if known(book, id).is_none() {
                self.offend(Wrong::Invented, id, None);
            }
        }
        for (number, entry) in book.webhooks.iter().enumerate() {
            self.compare_webhook(number, entry, stored, reasons);
        }
        for ((life, destination), count) in std::mem::take(&mut self.in_flight) {
            if count > IN_FLIGHT_MAX {
                self.offend(Wrong::Crowded(destination), &count.to_string(), Some(life));
            }
        }
    }

    fn compare_webhook(
        &mut self,
        number: usize,
        entry: &Entry,
        stored: &StoredWebhooks,
        reasons: Option<&Reasons<'_>>,
    ) {
        let id = webhooks::id(number);
        let life = entry.acknowledged_in;
        if life.is_some() {
            self.acknowledged += 1;
        } else {
            self.offend(Wrong::NotAcknowledged, &id, None);
        }
        let Some(webhook) = stored.get(&id) else {
            if life.is_some() {
                self.offend(Wrong::NotStored, &id, life);
            }
            return;
        };
        if webhook.copies != 1 {
            self.offend(Wrong::Doubled, &id, life);
        }
        if !webhook.is_exact {
            self.offend(Wrong::Altered, &id, life);
        }
        for destination in Destination::ALL {
            let deliveries: Vec<&StoredDelivery> = webhook.to(destination).collect();
            match (deliveries.as_slice(), destination.wants(number)) {
                ([], false) => {}
                ([], true) => self.offend(Wrong::NotDelivered(destination), &id, life),
                (_, false) => self.offend(Wrong::Stray(destination), &id, life),
                ([delivery], true) => {
                    self.compare_delivery(&id, destination, entry, delivery);
                    self.compare_copies(&id, destination, entry, delivery, reasons);
                }
                ([_, _, ..], true) => self.offend(Wrong::Doubled, &id, life),
            }
        }
    }

    fn compare_delivery(
        &mut self,
        id: &str,
        destination: Destination,
        entry: &Entry,
        delivery: &StoredDelivery,
    ) {
        let received = entry.at(destination);
        let life = entry.acknowledged_in;
        if received.is_delivered {
            self.delivered += 1;
        } else if life.is_some() {
            self.offend(Wrong::NotDelivered(destination), id, life);
        }
        if received.is_delivered && !delivery.is_delivered {
            self.offend(Wrong::NotSettled(destination), id, life);
        }
    }

    fn compare_copies(
        &mut self,
        id: &str,
        destination: Destination,
        entry: &Entry,
        delivery: &StoredDelivery,
        reasons: Option<&Reasons<'_>>,
    ) {
        let received = entry.at(destination);
        let again = match reasons {
            Some(reasons) => reasons(id, destination, received),
            None => self.reasons_alone(destination, received, delivery),
        };
        self.again.after_failure += again.after_failure;
        self.again.after_kill += again.after_kill;
        self.again.after_freeze += again.after_freeze;
        if again.unexplained > 0 || delivery.succeeded > 1 {
            self.offend(Wrong::Again(destination), id, entry.acknowledged_in);
        }
    }

    /// The reasons in a run in which one process follows another.
    fn reasons_alone(
        &mut self,
        destination: Destination,
        received: &Received,
        delivery: &StoredDelivery,
    ) -> Again {
        let mut again = Again::default();
        let mut from_the_same: usize = 0;
        for pair in received.receptions.windows(2) {
            let [earlier, later] = pair else { continue };
            if earlier.life == later.life {
                from_the_same += 1;
            }
            if earlier.has_failed {
                again.after_failure += 1;
            } else if earlier.life != later.life {
                again.after_kill += 1;
                *self
                    .in_flight
                    .entry((earlier.life, destination))
                    .or_default() += 1;
            }
        }
        again.unexplained = from_the_same.saturating_sub(delivery.failed);
        again
    }

    fn offend(&mut self, wrong: Wrong, id: &str, life: Option<u32>) {
        let text = match life {
            Some(life) => format!("{id} (life {life})"),
            None => id.to_owned(),
        };
        self.offences.entry(wrong).or_default().push(text);
    }

    fn count(&self, is_meant: impl Fn(Wrong) -> bool) -> usize {
        let meant = self.offences.iter().filter(|(wrong, _)| is_meant(**wrong));
        meant.map(|(_, ids)| ids.len()).sum()
    }
}

impl fmt::Display for Verdict {
    /// Shows ids only, never payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "posted      {} webhooks in {} requests",
            self.posted, self.requests
        )?;
        writeln!(f, "acknowledged {}", self.acknowledged)?;
        writeln!(f, "delivered   {}", self.delivered)?;
        writeln!(
            f,
            "duplicates  {}: {} after a failure, {} in flight at a kill, {} at a freeze",
            self.again.after_failure + self.again.after_kill + self.again.after_freeze,
            self.again.after_failure,
            self.again.after_kill,
            self.again.after_freeze
        )?;
        writeln!(f, "lost        {}", self.count(Wrong::is_loss))?;
        write!(
            f,
            "invented    {}",
            self.count(|wrong| wrong == Wrong::Invented)
        )?;
        for (wrong, ids) in &self.offences {
            let shown = ids.len().min(SHOWN_MAX);
            write!(
                f,
                "\n{wrong:?}: {} ({})",
                ids.len(),
                ids[..shown].join(", ")
            )?;
        }
        Ok(())
    }
}
