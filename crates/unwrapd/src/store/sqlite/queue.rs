//! What the pipeline asks: store a message, claim what is due.

pub(in crate::store::sqlite) mod accept;
pub(in crate::store::sqlite) mod claim;
