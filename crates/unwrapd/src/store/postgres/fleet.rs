//! The other gateways on the database: heartbeats, membership, notifications and circuits.

pub(in crate::store::postgres) mod circuits;
pub(in crate::store::postgres) mod heartbeat;
pub(in crate::store::postgres) mod membership;
pub(in crate::store::postgres) mod notify;
