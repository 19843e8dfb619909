//! Rules and leaves of the gateway `unwrapd`, which its stores and its binary share.
//!
//! [`message`], [`route`] and [`delivery`] are pure: times and random numbers are arguments.
//! [`clock`] supplies the time for each decision. This crate is internal: it may change in any
//! release.
#![deny(missing_docs)]
#![cfg(not(windows))]

pub mod certificates;
pub mod clock;
pub mod crash;
pub mod delivery;
pub mod files;
pub mod handoff;
pub mod message;
pub mod observe;
pub mod printable;
pub mod route;
pub mod token_bucket;
