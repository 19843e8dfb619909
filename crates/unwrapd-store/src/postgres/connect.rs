//! Connections: addresses, hosts, TLS, the pool, and the meaning of failures.

pub(crate) mod address;
pub(in crate::postgres) mod connection;
pub(in crate::postgres) mod failure;
pub(in crate::postgres) mod hosts;
pub(in crate::postgres) mod outage;
pub(in crate::postgres) mod pool;
pub(in crate::postgres) mod purpose;
pub(in crate::postgres) mod server;
pub(in crate::postgres) mod tls;
