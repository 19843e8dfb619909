//! The gateway on a disk that fails: full, read-only, damaged, gone, slow, or losing synced data.
//!
//! A C library ([`shim`]) between the real binary and its files makes calls fail as a test
//! requires. One fault that it cannot simulate needs a real disk ([`full_disk`]). Load, ledger and
//! verdict are mostly those of the crash harness.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use unwrapd_testkit as support;
use unwrapd_testkit::crash::{application, gateway, ledger, openai, store, verdict, webhooks};

mod power;
mod rig;
mod shim;

mod commits;
mod disk;
mod files;
mod frozen;
mod full_disk;
mod readers;
mod schedule;
mod settle;
mod start;
mod sync;
