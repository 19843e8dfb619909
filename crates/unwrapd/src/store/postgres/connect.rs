//! Connections: addresses, hosts, TLS, the pool, and what failures mean.

pub(in crate::store::postgres) mod address;
pub(in crate::store::postgres) mod connection;
pub(in crate::store::postgres) mod failure;
pub(in crate::store::postgres) mod hosts;
pub(in crate::store::postgres) mod outage;
pub(in crate::store::postgres) mod pool;
pub(in crate::store::postgres) mod server;
pub(in crate::store::postgres) mod tls;
