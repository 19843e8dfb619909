//! Which of the hosts of an address is the primary. A stand-by is passed over, and so is a server that was the primary before
//! another took its place: whatever is written there is not in the database of the others.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_postgres::Config;

use super::address::{CONNECT_TIME, PostgresAddress};
use super::failure::Failure;
use super::link::Link;
use super::lock;
use super::news::News;
use super::server::{self, Line};
use super::tls::Tls;
use crate::store::StoreError;

/// The hosts, and what is known of them.
pub(super) struct Hosts {
    each: Vec<Config>,
    /// For people.
    place: String,
    tls: Option<Arc<Tls>>,
    known: Mutex<Known>,
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

/// A primary, and how its commits are durable.
struct Found {
    link: Link,
    synchronous_commit: String,
    line: Option<Line>,
}

impl Hosts {
    pub(super) fn new(address: &PostgresAddress) -> Result<Arc<Self>, Failure> {
        let tls = address
            .tls()
            .map_err(|error| Failure::OfTheStore(StoreError::Unusable(error)))?;
        Ok(Arc::new(Self {
            each: address.hosts(),
            place: address.place(),
            tls,
            known: Mutex::default(),
        }))
    }

    /// Where they are.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Connects to the primary, and refuses a server that would lose what it has committed. Gives how its commits are durable as
    /// well. `news` gets what is told over this connection.
    pub(super) async fn connect(
        &self,
        news: Option<&Arc<News>>,
    ) -> Result<(Link, String), Failure> {
        let known = *lock(&self.known);
        // Who has just begun knows none, and asks all: of two that take writes one may have been left behind.
        if known.line.is_some() || self.each.len() == 1 {
            match self.ask(known, news).await {
                Err(failure) if self.each.len() == 1 => return Err(failure),
                Err(_) => {}
                Ok(found) => return Ok(self.take(known.place, found)),
            }
        }
        self.find(known, news).await
    }

    /// Asks all at once: one that is gone keeps silent for long.
    async fn find(
        &self,
        known: Known,
        news: Option<&Arc<News>>,
    ) -> Result<(Link, String), Failure> {
        let mut asked = JoinSet::new();
        for place in 0..self.each.len() {
            let (config, tls) = (self.each[place].clone(), self.tls.clone());
            let news = news.map(Arc::clone);
            asked.spawn(async move { (place, look(&config, tls, news, known.line).await) });
        }
        let mut best: Option<(usize, Found)> = None;
        let mut failed = Failure::unavailable("no host of the database answers");
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((place, Ok(found))) => {
                    if known.line.is_some() {
                        return Ok(self.take(place, found));
                    }
                    let is_better = best.as_ref().is_none_or(|(other_place, other)| {
                        match Line::compare(found.line, other.line) {
                            Some(order) => order == Ordering::Greater,
                            None => place < *other_place,
                        }
                    });
                    if is_better {
                        best = Some((place, found));
                    }
                }
                // That there is no connection says less than what a server has said.
                Ok((_, Err(failure))) if !matches!(failure, Failure::Lost(_)) => failed = failure,
                Ok((_, Err(failure))) => {
                    if matches!(failed, Failure::Lost(_)) {
                        failed = failure;
                    }
                }
                Err(_) => {}
            }
        }
        match best {
            Some((place, found)) => Ok(self.take(place, found)),
            None => Err(failed),
        }
    }

    async fn ask(&self, known: Known, news: Option<&Arc<News>>) -> Result<Found, Failure> {
        let (config, tls) = (&self.each[known.place], self.tls.clone());
        look(config, tls, news.map(Arc::clone), known.line).await
    }

    fn take(&self, place: usize, found: Found) -> (Link, String) {
        let mut known = lock(&self.known);
        if known.line.is_some() && known.place != place {
            tracing::warn!("another host of the database has taken over, and is used from now on");
        }
        known.place = place;
        known.line = found.line.or(known.line);
        (found.link, found.synchronous_commit)
    }
}

/// Connects to one host, and looks whether it is a primary, and not one of before.
async fn look(
    config: &Config,
    tls: Option<Arc<Tls>>,
    news: Option<Arc<News>>,
    known: Option<Line>,
) -> Result<Found, Failure> {
    let link = Link::open(config, tls, news).await?;
    let rows = link.alone(CONNECT_TIME, server::LOOK).await?;
    let synchronous_commit = server::check(&rows).map_err(Failure::OfTheStore)?;
    // Not every server that speaks as PostgreSQL knows of this.
    let on = match link.alone(CONNECT_TIME, server::LINE).await {
        Ok(rows) => Line::read(&rows),
        Err(lost @ Failure::Lost(_)) => return Err(lost),
        Err(_) => None,
    };
    if Line::compare(on, known).is_some_and(Ordering::is_lt) {
        return Err(Failure::unavailable(
            "the server that answers was the primary before another one took over, and what is written there is lost to the others: stop it, or have it follow the new one. Did you go back to it on purpose, restart unwrapd",
        ));
    }
    Ok(Found {
        link,
        synchronous_commit,
        line: on,
    })
}
