//! Settles attempts, many in one commit.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;

use crate::postgres::connect::connection::{Work, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::queue::batch::{Change, FULL};
use crate::postgres::rows::{natural, signed, storable};
use crate::postgres::shared::Shared;
use crate::queue::{Attempt, Settled};
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::Next;

/// Returns the settlements that took effect.
const SETTLE: Work = Work::Function("settle");

#[async_trait]
impl Change for Attempt {
    type Outcome = Settled;
    type Made = Settled;

    const OVER: Purpose = Purpose::Settling;

    /// No request waits for a settlement. If the process dies before it, the delivery is attempted
    /// again, and not lost.
    const CROWD: usize = FULL;
    const GATHERS: Duration = Duration::from_millis(20);

    fn bytes(&self) -> usize {
        self.answer.len() + self.said.as_str().len()
    }

    async fn apply(shared: &Shared, changes: &[&Self]) -> Result<Vec<Settled>, Failure> {
        // In the order of the table, and each only once.
        let mut firsts: HashMap<(i64, u32), usize> = HashMap::new();
        for (place, attempt) in changes.iter().enumerate() {
            firsts
                .entry((attempt.delivery, attempt.number))
                .or_insert(place);
        }
        let mut attempts: Vec<&Self> = firsts.values().map(|place| changes[*place]).collect();
        attempts.sort_unstable_by_key(|attempt| attempt.delivery);
        crash::point(CrashPoint::Settling);
        let settled = settle(shared, &attempts).await?;
        for attempt in &attempts {
            if let Next::Retry { due_at } = attempt.next {
                shared.claim_floors.comes_somewhere(due_at.as_millisecond());
            }
        }

        let outcomes = changes.iter().enumerate().map(|(place, attempt)| {
            let key = (attempt.delivery, attempt.number);
            if settled.contains(&key) && firsts[&key] == place {
                Settled::Settled
            } else {
                Settled::Fenced
            }
        });
        Ok(outcomes.collect())
    }

    fn finish(self, outcome: Settled) -> Settled {
        outcome
    }
}

async fn settle(shared: &Shared, attempts: &[&Attempt]) -> Result<HashSet<(i64, u32)>, Failure> {
    let deliveries: Vec<i64> = attempts.iter().map(|attempt| attempt.delivery).collect();
    let numbers: Vec<i32> = attempts
        .iter()
        .map(|attempt| i32::try_from(attempt.number).unwrap_or(i32::MAX))
        .collect();
    let ended: Vec<i64> = attempts
        .iter()
        .map(|attempt| attempt.ended_at.as_millisecond())
        .collect();
    let took: Vec<i64> = attempts
        .iter()
        .map(|attempt| signed(attempt.took.as_millis()))
        .collect();
    let answers: Vec<_> = attempts
        .iter()
        .map(|attempt| storable(&attempt.answer))
        .collect();
    let bodies: Vec<_> = attempts
        .iter()
        .map(|attempt| Some(storable(attempt.said.as_str())).filter(|said| !said.is_empty()))
        .collect();
    let answers: Vec<&str> = answers.iter().map(|answer| &**answer).collect();
    let bodies: Vec<Option<&str>> = bodies.iter().map(Option::as_deref).collect();
    let (states, due): (Vec<&str>, Vec<i64>) = attempts
        .iter()
        .map(|attempt| match attempt.next {
            Next::Delivered => ("delivered", attempt.ended_at.as_millisecond()),
            Next::Dead => ("dead", attempt.ended_at.as_millisecond()),
            Next::Retry { due_at } => ("waiting", due_at.as_millisecond()),
        })
        .unzip();
    let given = params![
        deliveries => INT8_ARRAY, numbers => INT4_ARRAY, ended => INT8_ARRAY, took => INT8_ARRAY,
        answers => TEXT_ARRAY, bodies => TEXT_ARRAY, states => TEXT_ARRAY, due => INT8_ARRAY,
    ];
    let rows = shared.pool.once(Purpose::Settling, SETTLE, given).await?;
    let over: HashMap<(i64, u32), bool> = attempts
        .iter()
        .map(|attempt| {
            let is_over = !matches!(attempt.next, Next::Retry { .. });
            ((attempt.delivery, attempt.number), is_over)
        })
        .collect();
    let mut settled = HashSet::with_capacity(rows.len());
    for row in &rows {
        let key = (row.try_get(0)?, natural(row, 1)?);
        settled.insert(key);
        if over.get(&key).is_some_and(|is_over| *is_over) {
            shared.capacity.done();
        }
    }
    Ok(settled)
}
