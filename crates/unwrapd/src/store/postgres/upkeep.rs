//! Pruning, checks and copies.

pub(in crate::store::postgres) mod check;
pub(in crate::store::postgres) mod copy_endpoint;
pub(in crate::store::postgres) mod payload_partitions;
pub(in crate::store::postgres) mod prune;
