//! Notifications between the gateways on one database: new deliveries, pauses, circuits, and
//! heartbeats.
//!
//! Notifications are sent after the commit, not within it: PostgreSQL makes only one commit with
//! notifications at a time, on the whole server, so concurrent commits would gain nothing. If a
//! notification is lost, because the process dies or because of a pooler, the next regular search
//! replaces it.

use std::collections::BTreeSet;
use std::mem::take;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::FleetChanges;
use crate::mutex::lock;
use crate::postgres::connect::connection::{Listener, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::queue::claim_floor::ClaimFloors;
use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::Lane;

/// Maximum time until a change without a notification is found.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// If a search takes long, the rest after it, in multiples of its duration.
const LOOK_REST: u32 = 10;
/// Minimum interval between two notifications of this gateway; changes in between share one.
const TELL_GAP: Duration = Duration::from_millis(10);
/// Rest before a lost listening connection is replaced.
const LISTEN_REST: Duration = Duration::from_secs(1);
/// Notification of a pause or a resumption.
const PAUSES: &str = "paused";
/// Notification of an opened or closed circuit.
const CIRCUITS: &str = "circuits";
/// Notification of a gateway that has joined, or has changed its state.
const MEMBERS: &str = "members";

const TELL: &str = "SELECT pg_notify($1, told) FROM unnest($2::text[]) AS told";

/// The lanes with due deliveries, and the time since when. It jumps from one destination and lane
/// to the next, so the number of waiting deliveries does not matter.
const LOOK: &str = "
    WITH RECURSIVE found AS (
        (SELECT destination, lane FROM delivery WHERE state = 'waiting' ORDER BY destination, lane LIMIT 1)
        UNION ALL
        SELECT next.destination, next.lane FROM found CROSS JOIN LATERAL (
            SELECT destination, lane FROM delivery
            WHERE state = 'waiting' AND (destination, lane) > (found.destination, found.lane)
            ORDER BY destination, lane LIMIT 1
        ) AS next
    )
    SELECT destination, lane, first.ready_at FROM found CROSS JOIN LATERAL (
        SELECT ready_at FROM delivery
        WHERE destination = found.destination AND lane = found.lane AND state = 'waiting' AND ready_at <= $1
        ORDER BY ready_at LIMIT 1
    ) AS first";

#[derive(Debug)]
pub(crate) struct Notifications {
    /// Identity of this gateway, whose own notifications are ignored.
    origin: String,
    channel: String,
    to_tell: Mutex<BTreeSet<String>>,
    tells: Notify,
    heard: Mutex<FleetChanges>,
    hears: Notify,
    /// Requests a heartbeat.
    calls: Notify,
    look_at: Mutex<Instant>,
}

impl Notifications {
    pub(crate) fn new(schema: &str) -> Arc<Self> {
        Arc::new(Self {
            origin: uuid::Uuid::now_v7().simple().to_string(),
            channel: format!("unwrapd_{schema}"),
            to_tell: Mutex::default(),
            tells: Notify::new(),
            heard: Mutex::default(),
            hears: Notify::new(),
            calls: Notify::new(),
            look_at: Mutex::new(Instant::now() + LOOK_EVERY),
        })
    }

    /// Announces new deliveries for these destinations.
    pub(crate) fn notify_all<'d>(
        &self,
        destinations: impl IntoIterator<Item = &'d String>,
        lane: Lane,
    ) {
        let mut to_tell = lock(&self.to_tell);
        for destination in destinations {
            to_tell.insert(format!("{} {destination}", lane.as_str()));
        }
        if !to_tell.is_empty() {
            self.tells.notify_one();
        }
    }

    /// Announces a pause or a resumption.
    pub(crate) fn notify_pauses(&self) {
        self.notify_of(PAUSES);
    }

    /// Announces an opened or closed circuit.
    pub(crate) fn notify_circuits(&self) {
        self.notify_of(CIRCUITS);
    }

    /// Announces a change of this gateway's state.
    pub(crate) fn notify_gateways(&self) {
        self.notify_of(MEMBERS);
    }

    fn notify_of(&self, what: &str) {
        lock(&self.to_tell).insert(what.to_owned());
        self.tells.notify_one();
    }

    /// Waits until another gateway announces a change of its state.
    pub(crate) async fn are_called(&self) {
        self.calls.notified().await;
    }

    /// Records changes in the state of other gateways.
    pub(crate) fn gateways_changed(&self) {
        lock(&self.heard).gateways = true;
        self.hears.notify_one();
    }

    /// Receives a notification from another gateway or from this one.
    fn hear(&self, told: &str) {
        let Some((origin, notifications)) = told.split_once(' ') else {
            return;
        };
        if origin == self.origin {
            return;
        }
        let mut heard = lock(&self.heard);
        if notifications == PAUSES {
            heard.pauses = true;
        } else if notifications == CIRCUITS {
            heard.circuits = true;
        } else if notifications == MEMBERS {
            self.calls.notify_one();
            return;
        } else if let Some((lane, destination)) = notifications.split_once(' ')
            && let Some(lane) = Lane::named(lane)
        {
            heard.due.insert((destination.to_owned(), lane));
        }
        self.hears.notify_one();
    }

    /// Waits for a notification, or until the next regular search.
    pub(crate) async fn next(
        &self,
        pool: &Arc<Pool>,
        clock: &Clock,
        claim_floors: &ClaimFloors,
    ) -> FleetChanges {
        let look_at = *lock(&self.look_at);
        tokio::select! {
            () = self.hears.notified() => {}
            () = sleep_until(look_at) => {}
        }
        let mut heard = take(&mut *lock(&self.heard));
        // The time may have been moved forward meanwhile.
        let next_at = {
            let mut look_at = lock(&self.look_at);
            let now = Instant::now();
            (now >= *look_at).then(|| {
                *look_at = now + LOOK_EVERY;
                *look_at
            })
        };
        if let Some(next_at) = next_at {
            heard.pauses = true;
            heard.circuits = true;
            let began = Instant::now();
            match look(pool, clock).await {
                Ok(due) => {
                    for (destination, lane, since_ms) in due {
                        claim_floors.comes(&destination, lane, since_ms);
                        heard.due.insert((destination, lane));
                    }
                    let rest = began.elapsed() * LOOK_REST;
                    let mut look_at = lock(&self.look_at);
                    // Unless an earlier search was requested meanwhile.
                    if rest > LOOK_EVERY && *look_at == next_at {
                        *look_at = Instant::now() + rest;
                    }
                }
                Err(failure) => tracing::debug!("cannot look for due deliveries: {failure:?}"),
            }
        }
        heard
    }

    fn look_now(&self) {
        *lock(&self.look_at) = Instant::now();
        self.hears.notify_one();
    }
}

async fn look(pool: &Arc<Pool>, clock: &Clock) -> Result<Vec<(String, Lane, i64)>, Failure> {
    let now = clock.now().as_millisecond();
    let given = params![now => INT8];
    let rows = pool.once(Purpose::Claiming, LOOK, given).await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(lane) = Lane::named(row.try_get(1)?) {
            due.push((row.try_get(0)?, lane, row.try_get(2)?));
        }
    }
    Ok(due)
}

/// Sends pending notifications, until the store is closed.
pub(crate) async fn send(
    notifications: Arc<Notifications>,
    pool: Arc<Pool>,
    mut closing: watch::Receiver<()>,
) {
    let mut is_closing = false;
    while !is_closing {
        tokio::select! {
            () = notifications.tells.notified() => {}
            _ = closing.changed() => is_closing = true,
        }
        let told: Vec<String> = take(&mut *lock(&notifications.to_tell))
            .into_iter()
            .map(|told| format!("{} {told}", notifications.origin))
            .collect();
        if told.is_empty() {
            continue;
        }
        let given = params![notifications.channel => TEXT, told => TEXT_ARRAY];
        if let Err(failure) = pool.once(Purpose::Telling, TELL, given).await {
            tracing::debug!("cannot notify the other gateways: {failure:?}");
        }
        if !is_closing {
            sleep(TELL_GAP).await;
        }
    }
}

/// Listens for notifications, until the store is closed. This needs a session of its own, which a
/// pooler may not provide; then none arrives.
pub(crate) async fn listen(
    notifications: Arc<Notifications>,
    pool: Arc<Pool>,
    mut closing: watch::Receiver<()>,
) {
    let heard = Arc::clone(&notifications);
    let listener: Listener = Arc::new(move |told: &str| heard.hear(told));
    let listen = format!("LISTEN {}", notifications.channel);
    loop {
        let session = async {
            let listener = Some(Arc::clone(&listener));
            let mut link = pool.hosts().connect(listener).await?.link;
            link.batch(LISTEN_REST, &listen).await?;
            // Notifications from before the subscription are not repeated.
            notifications.look_now();
            link.ended().await;
            Err::<(), _>(Failure::unavailable(
                "the connection for notifications has ended",
            ))
        };
        tokio::select! {
            Err(failure) = session => tracing::debug!("{failure:?}"),
            _ = closing.changed() => return,
        }
        tokio::select! {
            () = sleep(LISTEN_REST) => {}
            _ = closing.changed() => return,
        }
    }
}
