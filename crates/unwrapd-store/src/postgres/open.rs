//! Opens the store: connects, migrates the schema, joins the fleet, and starts the tasks.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{PostgresStore, Queues};
use crate::bounds::Bounds;
use crate::error::StoreError;
use crate::postgres::connect::address::PostgresAddress;
use crate::postgres::connect::hosts::{Connected, Hosts};
use crate::postgres::connect::pool::Pool;
use crate::postgres::fleet::heartbeat;
use crate::postgres::fleet::membership::Membership;
use crate::postgres::fleet::notify::{self, Notifications};
use crate::postgres::queue::batch::Queue;
use crate::postgres::queue::capacity::{self, Capacity};
use crate::postgres::queue::claim_floor::ClaimFloors;
use crate::postgres::queue::leases::Leases;
use crate::postgres::shared::Shared;
use crate::postgres::upkeep::prune::Pruner;
use crate::postgres::workers::Workers;
use crate::postgres::{migration, time};
use crate::put_off::PutOff;
use crate::reports::StoreReporter;
use unwrapd_core::clock::Clock;

impl PostgresStore {
    /// Connects, creates the schema if it does not exist, and migrates it. Other gateways may do so
    /// at the same time.
    pub async fn open(address: &PostgresAddress, bounds: &Bounds) -> Result<Self, StoreError> {
        Self::open_with(
            address,
            bounds,
            &Clock::default(),
            &StoreReporter::default(),
        )
        .await
    }

    /// Does the same as [`open`](Self::open), with the given clock, which follows the clock of the
    /// database from then on. Each change in whether the store accepts webhooks is reported to
    /// `health`.
    pub async fn open_with(
        address: &PostgresAddress,
        bounds: &Bounds,
        clock: &Clock,
        health: &StoreReporter,
    ) -> Result<Self, StoreError> {
        let hosts = Hosts::new(address)?;
        let connected = hosts.connect(None).await?.for_gateway()?;
        let Connected { link, does, .. } = connected;
        if does.logs_values {
            tracing::warn!(
                "the database may write slow statements with their payloads into its own log: set \
                 `log_parameter_max_length = 0` on the server"
            );
        }
        let membership = Membership::new(clock.clone())?;
        let is_new = migration::run(&link, address, Some(membership.id())).await?;
        let shared = Arc::new(Shared {
            pool: Pool::new(
                hosts,
                address.schema(),
                link,
                &does.synchronous_commit,
                health,
            ),
            capacity: Capacity::new(bounds.undelivered_max),
            notifications: Notifications::new(address.schema()),
            membership,
            leases: Leases::default(),
            claim_floors: ClaimFloors::default(),
            put_off: PutOff::default(),
            reporter: health.clone(),
            clock: clock.clone(),
        });
        if let Err(failure) = shared.capacity.count(&shared.pool).await {
            tracing::warn!(
                "cannot count the waiting deliveries, so `undelivered_max` has no effect until the \
                 next count: {failure:?}"
            );
        }
        // A gateway without peers gets all limits at once. If this heartbeat fails, a later one
        // does it.
        if let Err(failure) = heartbeat::beat_now(&shared).await {
            tracing::debug!("cannot send a heartbeat: {failure:?}");
        }
        clock.anchor(time::remembered(&shared).await?);
        let (open, closing) = watch::channel(());
        let (mut workers, ended) = Workers::new();
        let queues = Queues {
            accepting: Queue::start(&shared, &mut workers),
            settling: Queue::start(&shared, &mut workers),
        };
        let (notifications, pool) = (&shared.notifications, &shared.pool);
        workers.begin(notify::send(
            Arc::clone(notifications),
            Arc::clone(pool),
            closing.clone(),
        ));
        workers.begin(notify::listen(
            Arc::clone(notifications),
            Arc::clone(pool),
            closing.clone(),
        ));
        workers.begin(heartbeat::beat(Arc::clone(&shared), closing.clone()));
        workers.begin(capacity::keep_count(
            Arc::clone(&shared.capacity),
            Arc::clone(pool),
            closing,
        ));
        Ok(Self {
            is_new,
            shared,
            queues: Mutex::new(Some(queues)),
            workers: tokio::sync::Mutex::new(workers),
            open: Mutex::new(Some(open)),
            ended,
            pruner: tokio::sync::Mutex::new(Pruner::new(bounds)),
        })
    }
}
