//! Rate of two gateways beside the rate of one, on one PostgreSQL server on the same machine; and
//! the CPU time of each process.

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::cost::{Cost, Usage};
use crate::folder::Folder;
use crate::load::Load;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};
use crate::webhook::{Kind, OpenAi};

/// Gateways that share the machine.
struct Setup {
    name: &'static str,
    gateways: usize,
    /// `true`: a gateway has `cores / DIVIDED_BY` threads, at least one. `false`: it has one thread
    /// for each core.
    divide_cores: bool,
}

/// Factor on the rounds. With so many processes on a machine, a round varies by a tenth.
const ROUNDS_FACTOR: usize = 3;

const SETUPS: [Setup; 4] = [
    Setup {
        name: "one gateway",
        gateways: 1,
        divide_cores: false,
    },
    Setup {
        name: "two gateways, each with its part of the cores",
        gateways: 2,
        divide_cores: true,
    },
    Setup {
        name: "two gateways, each with a thread for each core",
        gateways: 2,
        divide_cores: false,
    },
    Setup {
        name: "one gateway with its part of the cores",
        gateways: 1,
        divide_cores: true,
    },
];
/// Number of gateways that divide the cores.
const DIVIDED_BY: usize = 2;

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let mut rounds = SETUPS.each_ref().map(|_| Vec::new());
    for round in 0..scale.rounds * ROUNDS_FACTOR {
        for turn in 0..SETUPS.len() {
            // Each round begins with another setup; the direction alternates.
            let step = if round % 2 == 0 { 1 } else { SETUPS.len() - 1 };
            let index = (round + turn * step) % SETUPS.len();
            let run = Run::of(&SETUPS[index], installed, scale)?;
            eprintln!("  {}: {run}", SETUPS[index].name);
            rounds[index].push(run);
        }
    }
    for (setup, runs) in SETUPS.iter().zip(&rounds) {
        let mut fact = |label: &str, of: fn(&Run) -> f64| {
            let values: Vec<f64> = runs.iter().map(of).collect();
            report.fact(
                format!("PostgreSQL: {}, {label}", setup.name),
                format!("{:.1}", median(&values)),
            );
        };
        fact("webhooks a second", |run| run.rate);
        fact("webhooks per commit", |run| run.cost.webhooks_per_commit);
        fact("CPU time of the server per webhook, µs", |run| {
            run.cost.server
        });
        fact("CPU time of the gateways per webhook, µs", |run| {
            run.cost.gateways
        });
        fact("CPU time of the load per webhook, µs", |run| run.cost.load);
    }
    let [one, two, undivided, left] =
        rounds.map(|runs| runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    report.gate(
        "PostgreSQL: two gateways, each with its part of the cores / one",
        ratio(&two, &one),
        "",
        Gate::AtLeast(1.0, 1.0),
    );
    for (name, rates) in [(SETUPS[2].name, &undivided), (SETUPS[3].name, &left)] {
        report.ratio(format!("PostgreSQL: {name} / one"), ratio(rates, &one));
    }
    Ok(())
}

/// Result of one closed loop.
struct Run {
    /// Accepted webhooks a second.
    rate: f64,
    cost: Cost,
}

impl Run {
    fn of(setup: &Setup, installed: &Installed, scale: &Scale) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let folder = Folder::new(&installed.work)?;
        let server = Postgres::start(&folder)?;
        let mut folders = Vec::new();
        let mut processes = Vec::new();
        for _ in 0..setup.gateways {
            let folder = Folder::new(&installed.work)?;
            let mut gateway = Gateway::new().with_store(&server.url("unwrapd"));
            if setup.divide_cores {
                gateway = gateway.with_threads((cores / DIVIDED_BY).max(1));
            }
            processes.push(gateway.start(installed, &folder)?);
            folders.push(folder);
        }
        let urls: Vec<&str> = processes.iter().map(Process::url).collect();
        let mut load = Load::across(&urls, OpenAi::new(scale.ids, Kind::Response))?;
        load.closed_loop(scale.warm_up)?;
        let before = Usage::read(&server, &processes)?;
        let answers = load.closed_loop(scale.time)?;
        let after = Usage::read(&server, &processes)?;
        Ok(Self {
            rate: answers.rate,
            cost: after.cost_since(&before, answers.latencies.len()),
        })
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s ({})", self.rate, self.cost)
    }
}
