//! Warnings that repeat, and warnings that last.

pub mod repeated;
pub mod warnings;
