//! `unwrapd` as a library: the gateway in-process, for tests and for programs that embed it.
//!
//! The modules are in the order in which a webhook passes them: [`receive`] verifies it with
//! `openai-webhooks`, [`route`] selects its destinations, [`store`] keeps it, [`dispatch`] claims
//! its deliveries, [`destinations`] sends them, and [`delivery`] decides about the next step.
#![deny(missing_docs)]
// On Windows the crate is empty, so that the build ends with the one sentence of `main.rs`.
#![cfg(not(windows))]

/// The version, with the commit in brackets if it was known at the build: `0.1.0 (e0ecbb2c1f3a)`.
pub const VERSION: &str = env!("UNWRAPD_VERSION");

pub use unwrapd_core::{
    certificates, clock, crash, delivery, files, handoff, message, printable, route, token_bucket,
};
pub use unwrapd_store as store;

pub mod cli;

pub mod config;

pub mod gateway;
pub mod receive;

pub mod intake;

pub mod quarantine;

pub mod dispatch;

pub mod destinations;

pub mod bulk;

mod prune;

mod alerts;

pub mod admin;

mod api;

pub mod pipeline_events;

pub mod observe;

mod listen;

mod metrics;

mod settings_file;

mod diagnosis;

pub mod tls;

mod evicting_limiter;

pub mod telemetry;

pub mod trace_context;

pub mod traces;

pub mod traffic;
