//! The mock through its door: HTTP, and the webhooks that it sends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod agents;
mod batches;
mod calls;
mod endpoints;
mod errors;
mod faults;
mod responses;
mod retries;
mod support;
