//! State that the workers of a store share.

use std::sync::Arc;

use crate::postgres::connect::pool::Pool;
use crate::postgres::fleet::membership::Membership;
use crate::postgres::fleet::notify::Notifications;
use crate::postgres::queue::capacity::Capacity;
use crate::postgres::queue::claim_floor::ClaimFloors;
use crate::postgres::queue::leases::Leases;
use crate::put_off::PutOff;
use crate::reports::StoreReporter;
use unwrapd_core::clock::Clock;

/// State that the workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Arc<Pool>,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) notifications: Arc<Notifications>,
    pub(crate) membership: Membership,
    pub(crate) leases: Leases,
    pub(crate) claim_floors: ClaimFloors,
    pub(crate) put_off: PutOff,
    pub(crate) reporter: StoreReporter,
    /// Follows the clock of the database.
    pub(crate) clock: Clock,
}
