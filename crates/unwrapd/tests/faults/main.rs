//! The gateway on a disk that fails: full, read-only, damaged, gone, slow, or losing what it was told to keep.
//!
//! A library in C ([`shim`]) stands between the real binary and its files and has calls fail as a test asks. What it cannot show is
//! done to a real disk ([`full_disk`]). Mostly the load, the books and the verdict are those of the crash harness.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "../crash_harness/application.rs"]
#[allow(dead_code, reason = "the crash harness uses the rest")]
mod application;
#[path = "../crash_harness/gateway.rs"]
#[allow(dead_code, reason = "the crash harness uses the rest")]
mod gateway;
#[path = "../crash_harness/ledger.rs"]
#[allow(dead_code, reason = "the crash harness uses the rest")]
mod ledger;
#[path = "../crash_harness/openai.rs"]
mod openai;
#[path = "../crash_harness/store.rs"]
mod store;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;
#[path = "../crash_harness/verdict.rs"]
#[allow(dead_code, reason = "the crash harness uses the rest")]
mod verdict;
#[path = "../crash_harness/webhooks.rs"]
mod webhooks;

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
