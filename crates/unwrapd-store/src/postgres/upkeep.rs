//! Pruning, checks and copies.

pub(in crate::postgres) mod check;
pub(in crate::postgres) mod copy_endpoint;
pub(in crate::postgres) mod payload_partitions;
pub(in crate::postgres) mod prune;
