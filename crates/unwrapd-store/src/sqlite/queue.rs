//! The delivery queue: stores messages and claims due deliveries.

pub(in crate::sqlite) mod accept;
pub(in crate::sqlite) mod claim;
