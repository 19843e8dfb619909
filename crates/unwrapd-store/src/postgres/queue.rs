//! The delivery queue: stores messages, claims due deliveries, settles attempts.

pub(in crate::postgres) mod accept;
pub(in crate::postgres) mod batch;
pub(in crate::postgres) mod capacity;
pub(in crate::postgres) mod claim;
pub(in crate::postgres) mod claim_floor;
pub(in crate::postgres) mod leases;
pub(in crate::postgres) mod settle;
