//! What the pipeline asks: store messages, claim what is due, settle attempts.

pub(in crate::store::postgres) mod accept;
pub(in crate::store::postgres) mod batch;
pub(in crate::store::postgres) mod capacity;
pub(in crate::store::postgres) mod claim;
pub(in crate::store::postgres) mod claim_floor;
pub(in crate::store::postgres) mod settle;
