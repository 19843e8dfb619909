//! The delivery queue: stores messages and claims due deliveries.

pub(in crate::store::sqlite) mod accept;
pub(in crate::store::sqlite) mod claim;
