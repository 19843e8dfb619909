//! Claims due deliveries, and deliveries that were put off beyond the longest wait.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::put_off::{COUNT_MAX, PutOff};
use crate::queue::{ClaimRequest, Claimed};
use crate::sqlite::statements::{delivery, timestamp};
use crate::sqlite::writer::job::Work;
use crate::sqlite::writer::leases::{Held, Leases};
use unwrapd_core::delivery::{Delivery, Lane, later};

/// The state of a claim.
struct Claim<'c> {
    connection: &'c Connection,
    leases: &'c Leases,
    request: ClaimRequest<'c>,
    /// The time of the claim, on the clock of leases.
    steady_now: Timestamp,
    /// Deliveries due after this time are due now.
    put_off_from: Timestamp,
    taken: Vec<Delivery>,
    next_due_at: Option<Timestamp>,
}

pub(crate) fn claim(work: &mut Work<'_>, request: ClaimRequest<'_>) -> rusqlite::Result<Claimed> {
    let (destination, lane, now) = (request.destination, request.lane, request.now);
    let number = work.state.leases.next_claim();
    let put_off_from = request.terms.put_off_from(now);
    let mut claim = Claim {
        connection: work.connection,
        leases: &work.state.leases,
        request,
        steady_now: work.state.leases.steady(now),
        put_off_from,
        taken: Vec::new(),
        next_due_at: None,
    };
    // Put-off deliveries get half of each claim, or every second claim for a single delivery. So
    // neither kind starves the other.
    let share = if number % 2 == 0 {
        request.limit.div_ceil(2)
    } else {
        request.limit / 2
    };
    let was_put_off = claim.take_put_off(share)?;
    claim.take_due()?;
    let Claim {
        mut taken,
        mut next_due_at,
        steady_now,
        ..
    } = claim;
    if was_put_off > 0 {
        if !request.terms.is_whenever_due() && work.state.put_off.is_news(destination, lane) {
            let deliveries = count_put_off(work.connection, destination, lane, put_off_from)?;
            PutOff::log(destination, lane, deliveries);
        }
        // There may be more put-off deliveries.
        next_due_at = Some(now);
        // The delivery with the earliest due time comes first, and put-off ones come last.
        taken.rotate_left(was_put_off);
    }
    let ends_at = later(now, request.terms.lease);
    let leases = &mut work.state.leases;
    for delivery in &mut taken {
        delivery.claim = number;
        let held = Held {
            attempt: delivery.attempt,
            claim: number,
            ends_at: later(steady_now, request.terms.lease),
        };
        leases.take(delivery.id, held);
        next_due_at = Some(next_due_at.map_or(ends_at, |next| next.min(ends_at)));
    }
    Ok(Claimed {
        deliveries: taken,
        next_due_at,
    })
}

impl Claim<'_> {
    /// Takes up to `limit` put-off deliveries, and returns their number.
    fn take_put_off(&mut self, limit: usize) -> rusqlite::Result<usize> {
        let mut waiting = self.connection.prepare_cached(
            "SELECT id, due_at FROM delivery
             WHERE destination = ? AND lane = ? AND state = 'waiting' AND due_at > ? ORDER BY due_at, id",
        )?;
        let mut waiting = waiting.query(params![
            self.request.destination,
            self.request.lane.as_str(),
            self.put_off_from.as_millisecond()
        ])?;
        while self.taken.len() < limit
            && let Some(row) = waiting.next()?
        {
            self.take_free(row.get(0)?)?;
        }
        Ok(self.taken.len())
    }

    /// Takes due deliveries until there are as many as requested.
    fn take_due(&mut self) -> rusqlite::Result<()> {
        let mut waiting = self.connection.prepare_cached(
            "SELECT id, due_at FROM delivery WHERE destination = ? AND lane = ? AND state = 'waiting' ORDER BY due_at, id",
        )?;
        let mut waiting = waiting.query(params![
            self.request.destination,
            self.request.lane.as_str()
        ])?;
        while let Some(row) = waiting.next()? {
            let id = row.get(0)?;
            let due_at = timestamp(row, 1)?;
            let is_leased = self.is_leased(id);
            if !is_leased && (due_at > self.request.now || self.taken.len() == self.request.limit) {
                self.comes_at(if due_at > self.put_off_from {
                    self.request.now
                } else {
                    due_at
                });
                break;
            }
            self.take_free(id)?;
        }
        Ok(())
    }

    fn is_leased(&self, id: i64) -> bool {
        let held = self.leases.of(id);
        held.is_some_and(|held| self.leases.ends_at(held, self.steady_now).is_some())
    }

    /// Takes the delivery, unless it is leased.
    fn take_free(&mut self, id: i64) -> rusqlite::Result<()> {
        let held = self.leases.of(id);
        if let Some(ends_at) = held.and_then(|held| self.leases.ends_at(held, self.steady_now)) {
            self.comes_at(ends_at);
            return Ok(());
        }
        let mut delivery = delivery(
            self.connection,
            id,
            self.request.destination,
            self.request.lane,
        )?;
        if let Some(held) = held {
            // The holder of the old lease may still be delivering. Its settlement must have no
            // effect.
            let attempt = delivery.attempt.max(held.attempt + 1);
            delivery.uncounted_attempts += attempt - delivery.attempt;
            delivery.attempt = attempt;
        }
        self.taken.push(delivery);
        Ok(())
    }

    fn comes_at(&mut self, due_at: Timestamp) {
        self.next_due_at = Some(self.next_due_at.map_or(due_at, |next| next.min(due_at)));
    }
}

fn count_put_off(
    connection: &Connection,
    destination: &str,
    lane: Lane,
    from: Timestamp,
) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT count(*) FROM (
             SELECT 1 FROM delivery WHERE destination = ? AND lane = ? AND state = 'waiting' AND due_at > ? LIMIT ?)",
        params![destination, lane.as_str(), from.as_millisecond(), COUNT_MAX],
        |row| row.get(0),
    )
}
