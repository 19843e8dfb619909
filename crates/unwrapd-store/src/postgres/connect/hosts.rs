//! Which of the hosts of an address is the primary. A stand-by is passed over, and so is a server
//! that was the primary before another took its place: whatever is written there is not in the
//! database of the others.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Config;

use crate::StoreError;
use crate::postgres::connect::address::{CONNECT_TIME, PostgresAddress};
use crate::postgres::connect::connection::PgConnection;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::server::{self, Does, Line};
use crate::postgres::connect::tls::Tls;
use crate::postgres::fleet::notify::Notifications;
use crate::postgres::lock;

/// How long, once a primary has answered, the other hosts may take: of two that take writes one was
/// left behind. Who knows of none yet waits for all of them.
const OTHERS_TIME: Duration = Duration::from_secs(1);

/// The hosts, and what is known of them.
pub(crate) struct Hosts {
    each: Vec<Config>,
    /// For people.
    place: String,
    tls: Option<Arc<Tls>>,
    known: Mutex<Known>,
    /// How often another one was found.
    failovers: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The host that was the primary when we last looked,
    place: usize,
    /// and what was written there.
    line: Option<Line>,
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.place)
    }
}

/// A connection to the primary, and what that does.
pub(crate) struct Connected {
    pub(crate) link: PgConnection,
    pub(crate) does: Does,
    line: Option<Line>,
}

impl Connected {
    /// An error if no gateway can work there.
    pub(crate) fn for_gateway(self) -> Result<Self, Failure> {
        match self.does.unfit {
            Some(problem) => Err(Failure::OfTheStore(StoreError::Unusable(problem))),
            None => Ok(self),
        }
    }
}

impl Hosts {
    pub(crate) fn new(address: &PostgresAddress) -> Result<Arc<Self>, Failure> {
        let tls = address
            .tls()
            .map_err(|error| Failure::OfTheStore(StoreError::Unusable(error)))?;
        Ok(Arc::new(Self {
            each: address.hosts(),
            place: address.place(),
            tls,
            known: Mutex::default(),
            failovers: watch::Sender::new(0),
        }))
    }

    /// Where they are.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// How often another host was found to be the primary. Connections of before lead to one that was left behind.
    pub(crate) fn failovers(&self) -> watch::Receiver<u64> {
        self.failovers.subscribe()
    }

    /// Whether there is another one to be found.
    pub(crate) fn are_many(&self) -> bool {
        self.each.len() > 1
    }

    /// Connects to the primary, and refuses a server that would lose what it has committed.
    /// `notifications` gets what is told over this connection. All hosts are asked at once: one
    /// that is gone keeps silent for long, and one that was left behind may answer first.
    pub(crate) async fn connect(
        &self,
        notifications: Option<&Arc<Notifications>>,
    ) -> Result<Connected, Failure> {
        let known = *lock(&self.known);
        let mut asked = JoinSet::new();
        for (place, config) in self.each.iter().enumerate() {
            let (config, tls) = (config.clone(), self.tls.clone());
            let notifications = notifications.map(Arc::clone);
            asked
                .spawn(async move { (place, look(&config, tls, notifications, known.line).await) });
        }
        let mut best: Option<(usize, Connected)> = None;
        let mut failed: Option<Failure> = None;
        let mut others_until = None;
        loop {
            let answer = match others_until {
                None => asked.join_next().await,
                Some(until) => timeout_at(until, asked.join_next()).await.unwrap_or(None),
            };
            match answer {
                None => break,
                Some(Ok((place, Ok(found)))) => {
                    if known.line.is_some() {
                        others_until.get_or_insert_with(|| Instant::now() + OTHERS_TIME);
                    }
                    let is_better = best.as_ref().is_none_or(|(other_place, other)| {
                        match Line::compare(found.line, other.line) {
                            Some(order) if order.is_ne() => order.is_gt(),
                            _ => {
                                place == known.place
                                    || *other_place != known.place && place < *other_place
                            }
                        }
                    });
                    if is_better {
                        best = Some((place, found));
                    }
                }
                // That there is no connection says less than what a server has said.
                Some(Ok((_, Err(failure)))) => {
                    if matches!(failed, None | Some(Failure::Lost(_))) {
                        failed = Some(failure);
                    }
                }
                Some(Err(_)) => {}
            }
        }
        match (best, failed) {
            (Some((place, found)), _) => self.take(place, found),
            (None, Some(failure))
                if self.each.len() == 1 || !matches!(failure, Failure::Lost(_)) =>
            {
                Err(failure)
            }
            (None, _) => Err(Failure::unavailable("none of the database hosts answers")),
        }
    }

    fn take(&self, place: usize, found: Connected) -> Result<Connected, Failure> {
        let mut known = lock(&self.known);
        // Another connection, which began later, may have found it.
        if Line::compare(found.line, known.line).is_some_and(Ordering::is_lt) {
            return Err(left_behind());
        }
        if known.line.is_some() && known.place != place {
            tracing::warn!(
                "another host of the database has become the primary, and is used from now on"
            );
        }
        if known.place != place
            || Line::compare(found.line, known.line).is_some_and(Ordering::is_gt)
        {
            self.failovers.send_modify(|failovers| *failovers += 1);
        }
        known.place = place;
        known.line = found.line.or(known.line);
        Ok(found)
    }
}

/// Connects to one host, and looks whether it is a primary, and not one of before.
async fn look(
    config: &Config,
    tls: Option<Arc<Tls>>,
    notifications: Option<Arc<Notifications>>,
    known: Option<Line>,
) -> Result<Connected, Failure> {
    let link = PgConnection::open(config, tls, notifications).await?;
    let rows = link.first(server::LOOK).await?;
    let does = server::check(&rows).map_err(Failure::OfTheStore)?;
    // Not every server that speaks as PostgreSQL knows of this.
    let on = match link.alone(CONNECT_TIME, server::LINE).await {
        Ok(rows) => Line::read(&rows),
        Err(lost @ Failure::Lost(_)) => return Err(lost),
        Err(_) => None,
    };
    if Line::compare(on, known).is_some_and(Ordering::is_lt) {
        return Err(left_behind());
    }
    Ok(Connected {
        link,
        does,
        line: on,
    })
}

fn left_behind() -> Failure {
    Failure::unavailable(
        "the server that answers was the primary before another one took over, and data written to it would be lost: stop it, or let it follow the new primary. If you went back to it on purpose, restart unwrapd",
    )
}
