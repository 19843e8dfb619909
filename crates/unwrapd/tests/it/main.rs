//! The promises of the gateway, attacked through its public doors: HTTP, the command line, the store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod support;

mod architecture;
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
mod failover;
mod fleet;
mod hostile;
mod interleaved;
mod listen;
mod migrate;
mod mistakes;
mod night;
mod mistaken_secrets;
mod odd_events;
mod operate;
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
mod store_conformance;
mod tls;
