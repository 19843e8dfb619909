//! Warnings of the gateway about itself: repeated ones, and ones that last.

pub(crate) mod oddities;
pub mod refusals;

pub use unwrapd_core::observe::{repeated, warnings};
