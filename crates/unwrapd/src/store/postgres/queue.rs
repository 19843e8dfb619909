//! The delivery queue: stores messages, claims due deliveries, settles attempts.

pub(in crate::store::postgres) mod accept;
pub(in crate::store::postgres) mod batch;
pub(in crate::store::postgres) mod capacity;
pub(in crate::store::postgres) mod claim;
pub(in crate::store::postgres) mod claim_floor;
pub(in crate::store::postgres) mod settle;
