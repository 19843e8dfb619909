//! Pruning, checks, backups and copies.

pub(in crate::sqlite) mod backup;
pub(in crate::sqlite) mod check;
pub(in crate::sqlite) mod copy_endpoint;
pub(in crate::sqlite) mod prune;
pub(in crate::sqlite) mod vacuum;
