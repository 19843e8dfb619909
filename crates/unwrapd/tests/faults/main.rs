//! The gateway on a disk that fails: full, read-only, damaged, gone, slow, or losing what it was told to keep.
//!
//! A library in C ([`shim`]) stands between the real binary and its files and has calls fail as a test asks. What it cannot show is
//! done to a real disk ([`full_disk`]). Mostly the load, the books and the verdict are those of the crash harness.
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
