//! Commands of operators: list, replay, drop, pause, and the quarantine.

pub(in crate::store::postgres) mod browse;
pub(in crate::store::postgres) mod candidate;
pub(in crate::store::postgres) mod dead;
pub(in crate::store::postgres) mod pause;
pub(in crate::store::postgres) mod quarantine;
pub(in crate::store::postgres) mod replay;
pub(in crate::store::postgres) mod replay_record;
pub(in crate::store::postgres) mod scan;
pub(in crate::store::postgres) mod traffic;
