//! Delivering again. Readers find what is meant, a piece at a time; the writer changes it, a step
//! at a time, and writes down how far it is in the same commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::clock::Moment;
use crate::crash::{self, CrashPoint};
use crate::store::StoreError;
use crate::store::filter::{Filter, Selection};
use crate::store::replay::{AsOf, Counts, Plan, Replay, ReplayStep, Replayed, Token};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::operate::candidate::{Chosen, hurry};
use crate::store::sqlite::operate::replay_record::{Record, begin, read_record};
use crate::store::sqlite::operate::scan::{Order, newest, scan};
use crate::store::sqlite::writer::job::{Urgency, Work};

/// A piece of what is meant.
pub(crate) struct ScanPage {
    pub(crate) messages: Vec<i64>,
    pub(crate) next: Option<i64>,
}

impl SqliteStore {
    pub(crate) async fn plan_replay(
        &self,
        replay: &Replay,
        now: Timestamp,
    ) -> Result<Plan, StoreError> {
        // As exactly as it is written down, so that the replay does what was planned.
        let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let selection = replay.filter.select(at);
        let mut plan = Plan {
            as_of: AsOf {
                at,
                newest: self.read(newest).await?,
            },
            counts: Counts::default(),
            oldest: None,
            newest: None,
            destinations: BTreeMap::new(),
            unknown: self.unknown(&replay.filter.webhook_id).await?,
        };
        let mut from = Some(0);
        while let Some(first) = from {
            let (selection, replay) = (selection.clone(), replay.clone());
            (plan, from) = self
                .read(move |connection| {
                    let next = plan_piece(connection, &selection, &replay, first, &mut plan)?;
                    Ok((plan, next))
                })
                .await?;
        }
        Ok(plan)
    }

    /// Of these ids, those of no message.
    async fn unknown(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut unknown: Vec<String> = ids.to_vec();
        unknown.sort_unstable();
        unknown.dedup();
        let selection = Filter {
            webhook_id: ids.to_vec(),
            ..Filter::default()
        }
        .select(Timestamp::MIN);
        let mut from = (!ids.is_empty()).then_some(0);
        while let Some(first) = from {
            let selection = selection.clone();
            let (known, next) = self
                .read(move |connection| known_piece(connection, &selection, first))
                .await?;
            unknown.retain(|id| !known.contains(id));
            from = next;
        }
        Ok(unknown)
    }

    pub(crate) async fn step_replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Moment,
        limit: usize,
    ) -> Result<ReplayStep, StoreError> {
        let record = self.record(replay, token, as_of, now.now).await?;
        if record.asked != *replay {
            return Ok(ReplayStep::AnotherReplay);
        }
        if record.has_ended {
            return Ok(ReplayStep::Done(Replayed {
                counts: record.counts,
                due: BTreeSet::new(),
            }));
        }
        let selection = replay.filter.select(record.begun_at);
        let mut from = record.next;
        let piece = loop {
            let (selection, replay, newest) = (selection.clone(), replay.clone(), record.newest);
            let piece = self
                .read(move |connection| {
                    find_piece(connection, &selection, from, newest, limit, |message| {
                        Ok(message.choose(connection, &replay)?.0.deliveries())
                    })
                })
                .await?;
            match piece.next {
                Some(next) if piece.messages.is_empty() => from = next,
                _ => break piece,
            }
        };
        let step = self
            .ask(Urgency::NextCommit, move |work| {
                let step = make_due(work, &record, &piece, now);
                crash::point(CrashPoint::Replayed);
                step
            })
            .await;
        crash::point(CrashPoint::ReplayCommitted);
        step?
    }

    /// The record of this token. If there is none, the replay begins.
    async fn record(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
    ) -> Result<Record, StoreError> {
        let name = token.clone();
        let known = self
            .read(move |connection| read_record(connection, &name))
            .await?;
        if let Some(record) = known {
            return Ok(record);
        }
        let (replay, token) = (replay.clone(), token.clone());
        self.ask(Urgency::NextCommit, move |work| {
            begin(work.connection, &replay, &token, as_of, now)
        })
        .await
    }
}

fn plan_piece(
    connection: &Connection,
    selection: &Selection,
    replay: &Replay,
    first: i64,
    plan: &mut Plan,
) -> rusqlite::Result<Option<i64>> {
    let within = first..=plan.as_of.newest;
    scan(
        connection,
        selection,
        within,
        Order::OldestFirst,
        |candidate| {
            let message = Chosen::of(connection, &candidate)?;
            let (choice, can_be_made) = message.choose(connection, replay)?;
            if plan.counts.add(&choice, message.lane, can_be_made) {
                let at = candidate.received_at;
                plan.oldest = Some(plan.oldest.map_or(at, |oldest| oldest.min(at)));
                plan.newest = Some(plan.newest.map_or(at, |newest| newest.max(at)));
                let again = choice.again.iter().map(|delivery| &delivery.destination);
                for destination in again.chain(replay.to.as_ref().filter(|_| choice.is_missing)) {
                    *plan.destinations.entry(destination.clone()).or_default() += 1;
                }
            }
            Ok(ControlFlow::Continue(()))
        },
    )
}

fn known_piece(
    connection: &Connection,
    selection: &Selection,
    first: i64,
) -> rusqlite::Result<(HashSet<String>, Option<i64>)> {
    let mut known = HashSet::new();
    let mut id = connection.prepare_cached("SELECT webhook_id FROM message WHERE seq = ?")?;
    let within = first..=i64::MAX;
    let next = scan(
        connection,
        selection,
        within,
        Order::OldestFirst,
        |message| {
            known.insert(id.query_row(params![message.seq], |row| row.get(0))?);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok((known, next))
}

/// The next messages of which something is meant, until that comes to `limit` deliveries.
pub(crate) fn find_piece(
    connection: &Connection,
    selection: &Selection,
    first: i64,
    newest: i64,
    limit: usize,
    meant: impl Fn(&Chosen) -> rusqlite::Result<usize>,
) -> rusqlite::Result<ScanPage> {
    let mut messages = Vec::new();
    let mut found = 0;
    let within = first..=newest;
    let next = scan(
        connection,
        selection,
        within,
        Order::OldestFirst,
        |message| {
            let deliveries = meant(&Chosen::of(connection, &message)?)?;
            if deliveries > 0 {
                messages.push(message.seq);
                found += deliveries;
            }
            Ok(if found >= limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )?;
    Ok(ScanPage { messages, next })
}

/// Makes a piece due and writes down that it is done; or, if someone else has come further meanwhile, changes nothing.
fn make_due(
    work: &mut Work<'_>,
    record: &Record,
    piece: &ScanPage,
    now: Moment,
) -> rusqlite::Result<Result<ReplayStep, StoreError>> {
    let connection = work.connection;
    let mut counts = record.counts;
    let mut due = BTreeSet::new();
    if !record.is_current(connection)? {
        return Ok(Ok(ReplayStep::More(Replayed { counts, due })));
    }
    let mut next = piece.next;
    for &seq in &piece.messages {
        let Some(message) = Chosen::read(connection, seq)? else {
            continue;
        };
        let (choice, can_be_made) = message.choose(connection, &record.asked)?;
        let before = counts;
        if counts.add(&choice, message.lane, can_be_made) {
            let deliveries = counts.deliveries - before.deliveries;
            if let Err(full) = work.state.has_room_to_replay(deliveries) {
                if due.is_empty() {
                    return Ok(Err(full));
                }
                counts = before;
                next = Some(seq);
                break;
            }
            work.state
                .pend(0, usize::try_from(deliveries).unwrap_or(usize::MAX));
            message.make_due(
                connection,
                &choice,
                record.asked.to.as_deref(),
                now,
                &mut due,
            )?;
        }
        // What is being made is claimed after its lease, as before.
        hurry(connection, &choice, now.now, &mut due)?;
    }
    record.write(connection, next, &counts, now.stamp)?;
    let replayed = Replayed { counts, due };
    Ok(Ok(match next {
        Some(_) => ReplayStep::More(replayed),
        None => ReplayStep::Done(replayed),
    }))
}
