//! The scenarios, one file each. A scenario measures its contestants in turns and reports ratios.

mod calls;
mod deliver;
mod half_load;
mod memory;
mod neighbour;
mod observed;
mod pages;
mod pg_claims;
mod pg_receive;
mod pg_two;
mod receive;
mod start;
mod stored;

use std::time::Duration;

use clap::ValueEnum;

use crate::contestants::{Contestant, Installed};
use crate::folder::Folder;
use crate::load::Load;
use crate::report::Report;
use crate::statistics::median;
use crate::webhook::{Ids, Kind, OpenAi};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Durable receive beside a bare handler and typical applications
    Receive,
    /// Receiving and delivering under a closed loop, with a flat backlog
    Deliver,
    /// Latency at half of the closed loop's rate, beside an fdatasync
    HalfLoad,
    /// Receiving with millions of messages stored
    Stored,
    /// Calls behind a backlog
    Calls,
    /// Resident memory, idle and with a backlog
    Memory,
    /// Time from process start to the first 200 with millions of messages stored
    Start,
    /// A destination beside one that hangs
    Neighbour,
    /// Receiving while metrics, live stream and pages are read
    Observed,
    /// Time of pages and lists with a million messages stored
    Pages,
    /// Durable receive on PostgreSQL
    PgReceive,
    /// Receiving and delivering under a closed loop on PostgreSQL
    PgDeliver,
    /// Two gateways on one PostgreSQL server beside one gateway
    PgTwo,
    /// Time of pages and lists with a million messages stored on PostgreSQL
    PgPages,
    /// Latency of a claim with a thousand and with a million due deliveries on PostgreSQL
    PgClaims,
}

/// Durations and sizes of the scenarios.
pub struct Scale {
    pub rounds: usize,
    pub warm_up: Duration,
    pub time: Duration,
    pub deliver_time: Duration,
    /// Number of stored messages; `start` stores twice as many, `memory` and `pg-claims` a fifth.
    pub messages: u64,
    pub calls_backlog: u64,
    /// Duration of memory sampling.
    pub watch: Duration,
    pub ids: Ids,
}

impl Scale {
    pub const FULL: Self = Self {
        rounds: 3,
        warm_up: Duration::from_millis(1500),
        time: Duration::from_secs(6),
        deliver_time: Duration::from_secs(60),
        messages: 5_000_000,
        calls_backlog: 10_000,
        watch: Duration::from_secs(20),
        ids: Ids::LedByTime,
    };

    /// Small numbers, to check that the benchmark works.
    pub const QUICK: Self = Self {
        rounds: 1,
        warm_up: Duration::from_millis(200),
        time: Duration::from_millis(800),
        deliver_time: Duration::from_secs(3),
        messages: 20_000,
        calls_backlog: 1_000,
        watch: Duration::from_secs(2),
        ids: Ids::LedByTime,
    };
}

impl Scenario {
    pub fn run(
        self,
        installed: &Installed,
        scale: &Scale,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        match self {
            Self::Receive => receive::run(installed, scale, report),
            Self::Deliver => deliver::run(installed, scale, report),
            Self::HalfLoad => half_load::run(installed, scale, report),
            Self::Stored => stored::run(installed, scale, report),
            Self::Calls => calls::run(installed, scale, report),
            Self::Memory => memory::run(installed, scale, report),
            Self::Start => start::run(installed, scale, report),
            Self::Neighbour => neighbour::run(installed, scale, report),
            Self::Observed => observed::run(installed, scale, report),
            Self::Pages => pages::run(installed, scale, report),
            Self::PgReceive => pg_receive::run(installed, scale, report),
            Self::PgDeliver => deliver::run_on_postgres(installed, scale, report),
            Self::PgTwo => pg_two::run(installed, scale, report),
            Self::PgPages => pages::run_on_postgres(installed, scale, report),
            Self::PgClaims => pg_claims::run(installed, scale, report),
        }
    }
}

/// Webhooks a second that a newly started contestant accepts under a closed loop.
fn closed_loop_rate(
    installed: &Installed,
    scale: &Scale,
    contestant: Contestant,
) -> anyhow::Result<f64> {
    let folder = Folder::new(&installed.work)?;
    let server = contestant.start(installed, &folder)?;
    let mut load = Load::new(server.url(), OpenAi::new(scale.ids, Kind::Response))?;
    load.closed_loop(scale.warm_up)?;
    let answers = load.closed_loop(scale.time)?;
    eprintln!("  {}: {:.0}/s", contestant.name(), answers.rate);
    Ok(answers.rate)
}

/// The rates of these contestants in each round. Reports the median of each.
fn closed_loop_rates<const N: usize>(
    installed: &Installed,
    scale: &Scale,
    report: &mut Report,
    contestants: [Contestant; N],
) -> anyhow::Result<[Vec<f64>; N]> {
    let mut rates = [const { Vec::new() }; N];
    for round in 0..scale.rounds {
        for turn in 0..N {
            // Each round begins with another contestant.
            let index = (turn + round) % N;
            rates[index].push(closed_loop_rate(installed, scale, contestants[index])?);
        }
    }
    for (contestant, rates) in contestants.iter().zip(&rates) {
        report.fact(
            format!("{}, webhooks a second", contestant.name()),
            format!("{:.0}", median(rates)),
        );
    }
    Ok(rates)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
