//! The files of the store: whether they are ours, complete and unshared.

pub mod access;
pub(in crate::sqlite) mod checkpoint;
pub(in crate::sqlite) mod filesystem;
pub(in crate::sqlite) mod found_log;
mod free_space;
pub(in crate::sqlite) mod holders;
pub(in crate::sqlite) mod known_file;
pub(in crate::sqlite) mod lock_file;
pub(in crate::sqlite) mod log_file;
pub(in crate::sqlite) mod rescue;
pub(in crate::sqlite) mod store_files;
pub(in crate::sqlite) mod wal;
