//! Accepts a message: stores its id, its bytes and its deliveries.

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::ids::deliveries_of;
use crate::inbox::{Accepted, Recipient};
use crate::sqlite::writer::id_hashes::IdHashes;
use crate::sqlite::writer::job::{Job, Urgency, Work};
use crate::sqlite::writer::leases::Held;
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::{Delivery, Lane, later};
use unwrapd_core::message::Message;

/// A message to store, and the caller that waits until it is durable.
pub(crate) struct Accepting {
    pub(crate) message: Message,
    pub(crate) hashes: IdHashes,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) answer: oneshot::Sender<Result<Accepted, StoreError>>,
    /// The result in the current transaction.
    pub(crate) outcome: Option<Result<AcceptOutcome, StoreError>>,
}

/// Result of storing a message.
pub(crate) enum AcceptOutcome {
    /// The message is new. The leased deliveries are to be handed off.
    Fresh(Vec<Leased>),
    Known,
}

/// A delivery that is leased in the commit that stores it.
pub(crate) struct Leased {
    id: i64,
    /// Index of the recipient.
    place: usize,
    claim: i64,
}

impl From<&AcceptOutcome> for Accepted {
    fn from(outcome: &AcceptOutcome) -> Self {
        match outcome {
            AcceptOutcome::Fresh(_) => Self::New,
            AcceptOutcome::Known => Self::Duplicate,
        }
    }
}

impl Job for Accepting {
    fn urgency(&self) -> Urgency {
        Urgency::NextCommit
    }

    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(accept(work, self.hashes, &self.message, &self.recipients)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self {
            message,
            mut recipients,
            answer,
            outcome: then,
            ..
        } = *self;
        let outcome = outcome.and_then(|()| then.ok_or_else(StoreError::closed)?);
        if let Ok(AcceptOutcome::Fresh(leased)) = &outcome {
            for Leased { id, place, claim } in leased {
                let Recipient {
                    destination,
                    reservation,
                    ..
                } = &mut recipients[*place];
                let Some(reservation) = reservation.take() else {
                    continue;
                };
                reservation.complete(Delivery {
                    id: *id,
                    destination: std::mem::take(destination),
                    lane: lane_of(&message),
                    attempt: 1,
                    claim: *claim,
                    uncounted_attempts: 0,
                    since: message.received_at,
                    message: message.clone(),
                });
            }
        }
        // Unused reservations are freed before the caller gets the result.
        drop(recipients);
        // The caller may have given up; the message is stored anyway.
        drop(answer.send(outcome.as_ref().map(Accepted::from).map_err(Clone::clone)));
    }
}

pub(crate) fn accept(
    work: &mut Work<'_>,
    hashes: IdHashes,
    message: &Message,
    recipients: &[Recipient],
) -> rusqlite::Result<Result<AcceptOutcome, StoreError>> {
    let connection = work.connection;
    for seq in work.state.dedupe_index.candidates(hashes.dedupe) {
        if is_of(connection, seq, message)? {
            return Ok(Ok(AcceptOutcome::Known));
        }
    }
    if let Err(full) = work.state.has_room(recipients.len()) {
        return Ok(Err(full));
    }
    let received_at = message.received_at.as_millisecond();
    let seq = work
        .state
        .dedupe_index
        .add(hashes, received_at, recipients.is_empty());
    connection
        .prepare_cached(
            "INSERT INTO message (seq, endpoint, webhook_id, event_type, sent_at, received_at, \
             secret, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            seq,
            message.endpoint,
            message.webhook_id,
            message.event_type,
            message.sent_at.as_millisecond(),
            received_at,
            message.secret,
            message.origin.column(),
        ])?;
    connection
        .prepare_cached("INSERT INTO payload (seq, bytes) VALUES (?, ?)")?
        .execute(params![seq, &*message.payload])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (id, message, destination, lane, since, due_at) VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    let lane = lane_of(message).as_str();
    let mut leased = Vec::new();
    for (id, (place, recipient)) in deliveries_of(seq).zip(recipients.iter().enumerate()) {
        let due_at = recipient.due_at(message).as_millisecond();
        insert.execute(params![
            id,
            seq,
            recipient.destination,
            lane,
            received_at,
            due_at
        ])?;
        if let Some(reservation) = &recipient.reservation {
            let claim = work.state.leases.next_claim();
            let from = work.state.leases.steady(reservation.from());
            let held = Held {
                attempt: 1,
                claim,
                ends_at: later(from, reservation.lease()),
            };
            work.state.leases.take_with_it(id, held);
            leased.push(Leased { id, place, claim });
        }
    }
    work.state.pend(message.payload.len(), recipients.len());
    crash::point(CrashPoint::Written);
    Ok(Ok(AcceptOutcome::Fresh(leased)))
}

fn lane_of(message: &Message) -> Lane {
    Lane::of(message.event_type.as_deref())
}

fn is_of(connection: &Connection, seq: i64, message: &Message) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM message WHERE seq = ? AND endpoint = ? AND webhook_id = ?")?
        .exists(params![seq, message.endpoint, message.webhook_id])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::search_keys::SearchKeys;
    use crate::sqlite::schema;
    use crate::sqlite::schema::tests::new_files;
    use crate::sqlite::writer::writer_state::WriterState;
    use bytes::Bytes;
    use jiff::Timestamp;
    use unwrapd_core::clock::Clock;
    use unwrapd_core::message::Origin;

    #[test]
    fn ids_with_equal_hashes_are_distinguished() {
        let (_folder, mut files) = new_files();
        let connection = schema::connect(&mut files).unwrap();
        let bounds = Bounds::default();
        let clock = Clock::default();
        let mut state = WriterState::read(&connection, Timestamp::MIN, &bounds, &clock).unwrap();
        let clash = IdHashes {
            dedupe: 42,
            search: SearchKeys::default(),
        };
        let mut accept = |id: &str, endpoint: &str| {
            let message = Message {
                origin: Origin::OpenAi,
                endpoint: endpoint.into(),
                webhook_id: id.into(),
                event_type: None,
                sent_at: Timestamp::UNIX_EPOCH,
                received_at: Timestamp::UNIX_EPOCH,
                secret: None,
                payload: Bytes::new(),
            };
            let mut work = Work {
                connection: &connection,
                state: &mut state,
            };
            let accepted = super::accept(&mut work, clash, &message, &[]).unwrap();
            state.commit();
            Accepted::from(&accepted.unwrap())
        };
        for expected in [Accepted::New, Accepted::Duplicate, Accepted::Duplicate] {
            assert_eq!(accept("wh_1", "production"), expected);
            assert_eq!(accept("wh_2", "production"), expected);
            assert_eq!(accept("wh_1", "staging"), expected);
        }
    }
}
