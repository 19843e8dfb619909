//! Pruning, checks, backups and copies.

pub(in crate::store::sqlite) mod backup;
pub(in crate::store::sqlite) mod check;
pub(in crate::store::sqlite) mod copy_endpoint;
pub(in crate::store::sqlite) mod prune;
pub(in crate::store::sqlite) mod size;
