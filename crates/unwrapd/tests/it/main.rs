//! The promises of the gateway, attacked through its public doors: HTTP, the command line, the
//! store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use unwrapd_testkit as support;

mod access;
mod admin_port;
mod alerts;
mod architecture;
mod bounds;
mod bulk;
mod cli;
#[cfg(feature = "crash-points")]
mod clock;
mod completions;
mod config;
mod config_view;
#[cfg(feature = "crash-points")]
mod crash;
mod dashboard;
mod database_file;
mod db;
#[cfg(feature = "server-tests")]
mod db_copy;
mod deduplicate;
mod deliver;
mod destinations;
mod destructive;
mod dispatch;
mod documentation;
mod endpoints;
#[cfg(feature = "server-tests")]
mod failover;
#[cfg(feature = "server-tests")]
mod fleet;
mod hostile;
#[cfg(feature = "server-tests")]
mod interleaved;
mod listen;
mod live;
mod log_lines;
mod metrics;
mod migrate;
mod mistaken_secrets;
mod mistakes;
mod mock;
mod night;
mod odd_events;
mod openapi;
mod operate;
mod overview;
mod pipeline_events;
mod ports;
#[cfg(feature = "server-tests")]
mod postgres_store;
mod prune;
mod quarantine;
mod receive;
mod reload;
mod replay;
#[cfg(feature = "peer-tests")]
mod sdk_peers;
mod secrecy;
mod seen;
#[cfg(feature = "peer-tests")]
mod serialisers;
mod service_manager;
mod shown;
mod sqlite_store;
mod stopping;
mod store_conformance;
mod tls;
mod torture;
mod traces;
mod traffic;
mod verify;
mod wrong_paths;

/// Shows in the output which tests this build left out. `scripts/test` runs them all, and fails if
/// a test is ignored.
#[cfg(not(all(
    feature = "crash-points",
    feature = "peer-tests",
    feature = "server-tests"
)))]
#[test]
#[ignore = "left to scripts/test: tests of PostgreSQL, pgbouncer and HAProxy (feature \
    server-tests), of the official SDKs (peer-tests), and those that kill the gateway at a point \
    (crash-points)"]
const fn tests_of_other_features() {}
