//! Commands of operators: list, replay, drop, pause, and the quarantine.

pub(in crate::store::sqlite) mod browse;
pub(in crate::store::sqlite) mod candidate;
pub(in crate::store::sqlite) mod dead;
pub(in crate::store::sqlite) mod pause;
pub(in crate::store::sqlite) mod quarantine;
pub(in crate::store::sqlite) mod replay;
pub(in crate::store::sqlite) mod replay_record;
pub(in crate::store::sqlite) mod scan;
pub(in crate::store::sqlite) mod traffic;
