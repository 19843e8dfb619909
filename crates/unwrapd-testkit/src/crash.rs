//! Load on a gateway that is killed or whose files fail: senders, applications, the ledger of both,
//! and the verdict over the store.

pub mod application;
pub mod gateway;
pub mod ledger;
pub mod openai;
pub mod store;
pub mod verdict;
pub mod webhooks;
