//! The promises of the gateway, attacked through its public doors: HTTP, the command line, the store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod support;

mod admin_port;
mod architecture;
mod bounds;
mod cli;
#[cfg(feature = "crash-points")]
mod clock;
mod config;
#[cfg(feature = "crash-points")]
mod crash;
mod database_file;
mod db;
mod db_copy;
mod deduplicate;
mod deliver;
mod destinations;
mod destructive;
mod dispatch;
mod documentation;
mod failover;
mod fleet;
mod hostile;
mod interleaved;
mod listen;
mod migrate;
mod mistaken_secrets;
mod mistakes;
mod night;
mod odd_events;
mod operate;
mod ports;
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
mod shown;
mod sqlite_store;
mod stopping;
mod store_conformance;
mod tls;
mod wrong_paths;
