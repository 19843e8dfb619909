//! The other gateways on the database: heartbeats, membership, notifications and circuits.

pub(in crate::postgres) mod circuits;
pub(in crate::postgres) mod gateway_row;
pub(in crate::postgres) mod heartbeat;
pub(in crate::postgres) mod membership;
pub(in crate::postgres) mod notify;
