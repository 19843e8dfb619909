//! Latency of a claim with few and with many due deliveries.

use std::time::{Duration, Instant};

use anyhow::ensure;
use jiff::Timestamp;
use unwrapd::delivery::{Lane, Next};
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::{Attempt, Bounds, DeliveryQueue as _, Lifecycle as _};

use super::{Scale, milliseconds};
use crate::contestants::Installed;
use crate::filled;
use crate::folder::Folder;
use crate::postgres::Postgres;
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};
use crate::webhook::Ids;

const DESTINATION: &str = "app";
const FEW: u64 = 1000;
/// Limit of deliveries per claim.
const BATCH: usize = 32;
/// Claims per round. Together with the first claim they take fewer than [`FEW`] deliveries.
const CLAIMS: usize = 25;
const LEASE: Duration = Duration::from_secs(60);

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = Folder::new(&installed.work)?;
    let server = Postgres::start(&folder)?;
    runtime.block_on(measure(&server, scale, report))
}

async fn measure(server: &Postgres, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let due = scale.messages / 5;
    let many = Due::fill(server, "many", due).await?;
    let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        let few = Due::fill(server, &format!("few_{round}"), FEW).await?;
        // Warm-up: the first claim of a connection is slower.
        few.claim(1).await?;
        many.claim(1).await?;
        of_few.push(few.claim(CLAIMS).await?);
        of_many.push(many.claim(CLAIMS).await?);
        few.store.close().await;
    }
    many.store.close().await;
    for (due, times) in [(FEW, &of_few), (due, &of_many)] {
        report.fact(
            format!("PostgreSQL: claim of {BATCH} with {due} deliveries due, ms"),
            format!("{:.2}", median(times)),
        );
    }
    report.gate(
        format!("PostgreSQL: claim with {due} deliveries due / with {FEW}"),
        ratio(&of_many, &of_few),
        "",
        Gate::AtMost(1.5, 1.1),
    );
    Ok(())
}

/// A store with due deliveries for one destination.
struct Due {
    store: PostgresStore,
}

impl Due {
    async fn fill(server: &Postgres, schema: &str, deliveries: u64) -> anyhow::Result<Self> {
        let address: PostgresAddress = server.url(schema).parse()?;
        let open = || async { PostgresStore::open(&address, &Bounds::default()).await };
        filled::fill(
            std::sync::Arc::new(open().await?),
            filled::Content {
                messages: deliveries,
                ids: Ids::LedByTime,
                due_to: Some(DESTINATION),
            },
        )
        .await?;
        Ok(Self {
            store: open().await?,
        })
    }

    /// Makes `claims` claims, and settles all claimed deliveries as delivered. Returns the median
    /// latency of a claim in milliseconds.
    async fn claim(&self, claims: usize) -> anyhow::Result<f64> {
        let mut times = Vec::with_capacity(claims);
        for _ in 0..claims {
            let now = Timestamp::now();
            let started = Instant::now();
            let claimed = self
                .store
                .claim(DESTINATION, Lane::Standard, now, LEASE, BATCH)
                .await?;
            times.push(milliseconds(started.elapsed()));
            ensure!(
                claimed.deliveries.len() == BATCH,
                "{} were claimed",
                claimed.deliveries.len()
            );
            for delivery in claimed.deliveries {
                let attempt = Attempt {
                    delivery: delivery.id,
                    number: delivery.attempt,
                    ended_at: now,
                    took: Duration::ZERO,
                    answer: "200".into(),
                    said: Default::default(),
                    next: Next::Delivered,
                };
                self.store.settle(attempt).await?;
            }
        }
        Ok(median(&times))
    }
}
