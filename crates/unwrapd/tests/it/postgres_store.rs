//! Promises of the PostgreSQL store beyond those of every store: several stores on one database,
//! and a database that goes away.

mod clock;
mod cut;
mod hang;
mod keep;
mod lost;
mod ready;
mod refuse;
mod together;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use unwrapd::delivery::{Lane, Next};
use unwrapd::handoff::DirectHandoff;
use unwrapd::message::Message;
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::{
    Accepted, Bounds, GatewayIdentity, QuarantinedRequest, Recipient, Settled, Store, StoreError,
};

use crate::store_conformance::{
    DAY, LEASE, Place as _, PostgresPlace, accept, at, attempt, claim, claim_up_to, ids, message,
    new_among, prune, settle,
};
use crate::support::postgres::{self as server, Server};
use crate::support::relay::Relay;
use crate::support::tally::Counted as _;
use crate::support::{PATIENCE, until};

async fn open(address: &PostgresAddress) -> Result<Arc<dyn Store>, StoreError> {
    let store = PostgresStore::open(address, &Bounds::default()).await?;
    Ok(Arc::new(store))
}

fn schema_of(place: &PostgresPlace) -> &str {
    place.0.schema()
}
