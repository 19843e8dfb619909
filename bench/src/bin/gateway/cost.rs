//! CPU time and commits of a run on PostgreSQL: of the server, the gateways and the load.

use std::time::Duration;

use crate::cpu;
use crate::postgres::Postgres;
use crate::process::Process;

/// Totals since the start of each process.
pub struct Usage {
    server: Duration,
    gateways: Duration,
    load: Duration,
    writes: u64,
}

/// Cost of one webhook. CPU times are in microseconds.
#[derive(Clone, Copy)]
pub struct Cost {
    pub server: f64,
    pub gateways: f64,
    pub load: f64,
    /// Webhooks per transaction that wrote.
    pub webhooks_per_commit: f64,
}

impl Usage {
    pub fn read(server: &Postgres, gateways: &[Process]) -> anyhow::Result<Self> {
        let of_each = gateways.iter().map(|gateway| cpu::used_by(gateway.pid()));
        Ok(Self {
            server: server.cpu()?,
            gateways: of_each.sum::<anyhow::Result<_>>()?,
            load: cpu::used_by(std::process::id())?,
            writes: server.writes()?,
        })
    }

    /// Mean cost of `webhooks` webhooks since `before`.
    pub fn cost_since(&self, before: &Self, webhooks: usize) -> Cost {
        let each = |after: Duration, before: Duration| {
            (after - before).as_secs_f64() * 1e6 / webhooks as f64
        };
        Cost {
            server: each(self.server, before.server),
            gateways: each(self.gateways, before.gateways),
            load: each(self.load, before.load),
            webhooks_per_commit: webhooks as f64 / (self.writes - before.writes) as f64,
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            server,
            gateways,
            load,
            webhooks_per_commit,
        } = self;
        write!(
            f,
            "webhooks per commit {webhooks_per_commit:.0}; µs per webhook: server {server:.1}, \
             gateways {gateways:.1}, load {load:.1}"
        )
    }
}
