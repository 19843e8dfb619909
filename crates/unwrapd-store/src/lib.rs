//! Stores of the gateway `unwrapd`: receiving puts messages in, dispatching takes deliveries out.
//!
//! One trait for each user, of which [`Store`] is all, and two implementations, [`sqlite`] and
//! [`postgres`]. [`open`] opens either. Rules of both are beside them: `operate` lists, replays and
//! drops, `retention` says what is old, and [`copy`] moves one store into another. This crate is
//! internal: it may change in any release.
#![deny(missing_docs)]
#![cfg(not(windows))]

mod bounds;
mod bulk;
mod capacity;
mod check;
mod copy;
mod destination_control;
mod error;
mod failures;
pub mod filter;
mod fleet;
mod give_up;
mod ids;
mod inbox;
mod lifecycle;
mod maintenance;
mod mutex;
mod open;
mod operate;
mod operations;
mod paths;
pub mod postgres;
mod precheck;
mod put_off;
mod quarantine;
mod queue;
pub mod replay;
mod reports;
mod retention;
mod search_keys;
mod settings;
pub mod sqlite;
mod store;
mod text_in_json;
mod traffic;
mod views;

pub use bounds::Bounds;
pub use bulk::{
    BULK_RUNS_MAX, BulkAction, BulkBegun, BulkEnd, BulkRun, BulkRuns, BulkStart, BulkState,
};
pub use check::Check;
pub use copy::{Copied, CopyError, Progress, Step, copy};
pub use destination_control::{DestinationControl, DestinationCounts, LaneCounts, waiting};
pub use error::StoreError;
pub use failures::{FAILED_MAX, FailureCause, Failures};
pub use fleet::{
    Configuration, FRESH, Fleet, FleetChanges, FleetGateway, GatewayIdentity, SharedCircuit,
};
pub use give_up::{GivenUp, give_up};
pub use ids::DELIVERIES_MAX;
pub use inbox::{Accepted, Inbox, Recipient};
pub use lifecycle::Lifecycle;
pub use maintenance::{Maintenance, Pruned, SUMMARY_MESSAGES_MAX, StoreUsage, Summary};
pub use open::open;
pub use operations::Operations;
pub use precheck::precheck;
pub use quarantine::{
    QUARANTINED_MAX, QuarantineStore, Quarantined, QuarantinedRequest, QuarantinedSummary,
};
pub use queue::{Attempt, ClaimRequest, Claimed, DeliveryQueue, Lease, Settled, Terms};
pub use reports::{StoreReport, StoreReporter};
pub use settings::{StoreSettings, StoreUrl, StoreUrlError};
pub use store::{Store, gateways};
pub use traffic::{AttemptHistory, TrafficCount, TrafficKind, TrafficRange, TrafficStore};
pub use views::{
    ATTEMPTS_SHOWN_MAX, AttemptView, DeliveryView, MessageCount, MessagePage, MessageView,
    PAGE_MAX, Page, SHOWN_MAX,
};
