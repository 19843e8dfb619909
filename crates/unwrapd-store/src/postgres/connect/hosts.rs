//! Finds the primary among the hosts of an address. Stand-bys are skipped, and so is a former
//! primary that another host has replaced: data written there is missing in the database of the
//! others.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Config;

use crate::error::StoreError;
use crate::mutex::lock;
use crate::postgres::connect::address::{CONNECT_TIME, PostgresAddress};
use crate::postgres::connect::connection::{Listener, PgConnection};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::server::{self, Does, Line};
use crate::postgres::connect::tls::Tls;

/// How long to wait for the other hosts after a primary has answered: if two hosts accept writes,
/// one is a former primary. If no primary was known before, all hosts are waited for.
const OTHERS_TIME: Duration = Duration::from_secs(1);

/// The hosts, and what is known about them.
pub(crate) struct Hosts {
    each: Vec<Config>,
    /// The hosts, for people.
    place: String,
    tls: Option<Arc<Tls>>,
    known: Mutex<Known>,
    /// Number of fail-overs that were detected.
    failovers: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Index of the primary at the last connection.
    place: usize,
    /// Its timeline.
    line: Option<Line>,
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.place)
    }
}

/// A connection to the primary, and its settings.
pub(crate) struct Connected {
    pub(crate) link: PgConnection,
    pub(crate) does: Does,
    line: Option<Line>,
}

impl Connected {
    /// Returns an error if a gateway cannot work on this server.
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

    /// The hosts, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Number of fail-overs so far. Earlier connections lead to a former primary.
    pub(crate) fn failovers(&self) -> watch::Receiver<u64> {
        self.failovers.subscribe()
    }

    /// Whether there is more than one host.
    pub(crate) fn are_many(&self) -> bool {
        self.each.len() > 1
    }

    /// Connects to the primary, and refuses a server that could lose commits. `listener`
    /// receives the notifications on this connection. All hosts are contacted at once: a dead host
    /// is silent for long, and a former primary may answer first.
    pub(crate) async fn connect(&self, listener: Option<Listener>) -> Result<Connected, Failure> {
        let known = *lock(&self.known);
        let mut asked = JoinSet::new();
        for (place, config) in self.each.iter().enumerate() {
            let (config, tls) = (config.clone(), self.tls.clone());
            let listener = listener.clone();
            asked.spawn(async move { (place, look(&config, tls, listener, known.line).await) });
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
                // An answer of a server says more than a failed connection.
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
        // A connection that began later may have found a newer primary.
        if Line::compare(found.line, known.line).is_some_and(Ordering::is_lt) {
            return Err(left_behind());
        }
        if known.line.is_some() && known.place != place {
            tracing::warn!("another host of the database has become the primary; unwrapd uses it");
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

/// Connects to one host, and checks that it is a primary and not a former one.
async fn look(
    config: &Config,
    tls: Option<Arc<Tls>>,
    listener: Option<Listener>,
    known: Option<Line>,
) -> Result<Connected, Failure> {
    let link = PgConnection::open(config, tls, listener).await?;
    let rows = link.first(server::LOOK).await?;
    let does = server::check(&rows).map_err(Failure::OfTheStore)?;
    // Some servers that speak the protocol of PostgreSQL do not support this query.
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
        "the server that answers is a former primary, and data written to it would be lost: stop \
         it, or let it follow the new primary. If you went back to it on purpose, restart unwrapd",
    )
}
