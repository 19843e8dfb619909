//! What the gateway says about itself: warnings that repeat, and warnings that last.

pub mod oddities;
pub mod refusals;
pub mod repeated;
pub mod warnings;
