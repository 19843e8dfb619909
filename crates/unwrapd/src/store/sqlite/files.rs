//! The files of the store: whether they are ours, complete, unshared, and read by others.

pub(crate) mod access;
pub(in crate::store::sqlite) mod checkpoint;
pub(in crate::store::sqlite) mod filesystem;
pub(in crate::store::sqlite) mod found_log;
pub(in crate::store::sqlite) mod holders;
pub(in crate::store::sqlite) mod log_file;
pub(in crate::store::sqlite) mod readers;
pub(in crate::store::sqlite) mod rescue;
pub(in crate::store::sqlite) mod store_files;
pub(in crate::store::sqlite) mod wal;
