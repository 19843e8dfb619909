//! Whether two gateways on one PostgreSQL are worth no less than one, on a machine that they share with it; and where the time goes.

use std::time::Duration;

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::cpu;
use crate::folder::Folder;
use crate::load::Load;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};
use crate::webhook::{Kind, OpenAi};

/// Who share the machine.
struct Setup {
    name: &'static str,
    gateways: usize,
    /// Whether each has its part of the cores, or a thread for each of them like one that is alone.
    divide_cores: bool,
}

/// Who shares a machine with so many processes is now faster, now slower by a tenth.
const TIMES_AS_MANY_ROUNDS: usize = 3;

const SETUPS: [Setup; 3] = [
    Setup {
        name: "one gateway",
        gateways: 1,
        divide_cores: false,
    },
    Setup {
        name: "two gateways",
        gateways: 2,
        divide_cores: true,
    },
    Setup {
        name: "two with a thread for each core",
        gateways: 2,
        divide_cores: false,
    },
];

pub fn run(with: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let mut rounds = SETUPS.each_ref().map(|_| Vec::new());
    for round in 0..scale.rounds * TIMES_AS_MANY_ROUNDS {
        for turn in 0..SETUPS.len() {
            // Another begins each round.
            let who = (round + turn) % SETUPS.len();
            let run = Run::of(&SETUPS[who], with, scale)?;
            eprintln!("  {}: {run}", SETUPS[who].name);
            rounds[who].push(run);
        }
    }
    for (setup, runs) in SETUPS.iter().zip(&rounds) {
        let mut fact = |what: &str, of: fn(&Run) -> f64| {
            let values: Vec<f64> = runs.iter().map(of).collect();
            report.fact(
                format!("PostgreSQL: {}, {what}", setup.name),
                format!("{:.1}", median(&values)),
            );
        };
        fact("200s a second", |run| run.rate);
        fact("webhooks a commit", |run| run.a_commit);
        fact("µs of the server a webhook", |run| run.server);
        fact("µs of the gateways a webhook", |run| run.gateways);
        fact("µs of the load a webhook", |run| run.load);
    }
    let [one, two, undivided] =
        rounds.map(|runs| runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    report.gate(
        "PostgreSQL: two gateways, each with its part of the cores / one",
        ratio(&two, &one),
        "",
        Gate::AtLeast(1.0, 1.0),
    );
    report.ratio(
        "PostgreSQL: two gateways, each with a thread for each core / one",
        ratio(&undivided, &one),
    );
    Ok(())
}

/// What a flood came to.
struct Run {
    /// 200s a second.
    rate: f64,
    a_commit: f64,
    /// Microseconds of a processor that each webhook took.
    server: f64,
    gateways: f64,
    load: f64,
}

impl Run {
    fn of(setup: &Setup, with: &Installed, scale: &Scale) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let folder = Folder::new(&with.work)?;
        let server = Postgres::start(&folder)?;
        let mut folders = Vec::new();
        let mut processes = Vec::new();
        for _ in 0..setup.gateways {
            let folder = Folder::new(&with.work)?;
            let mut gateway = Gateway::receiving().keeping_in(&server.url("unwrapd"));
            if setup.divide_cores {
                gateway = gateway.with_threads((cores / setup.gateways).max(1));
            }
            processes.push(gateway.start(with, &folder)?);
            folders.push(folder);
        }
        let urls: Vec<&str> = processes.iter().map(Process::url).collect();
        let mut load = Load::across(&urls, OpenAi::new(scale.ids, Kind::Response))?;
        load.flood(scale.warm_up)?;
        let before = Used::until_now(&server, &processes)?;
        let answers = load.flood(scale.time)?;
        let after = Used::until_now(&server, &processes)?;
        let count = answers.latencies.len() as f64;
        let each = |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / count;
        Ok(Self {
            rate: answers.rate,
            a_commit: count / (after.commits - before.commits) as f64,
            server: each(after.server, before.server),
            gateways: each(after.gateways, before.gateways),
            load: each(after.load, before.load),
        })
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            rate,
            a_commit,
            server,
            gateways,
            load,
        } = self;
        write!(
            f,
            "{rate:.0}/s ({a_commit:.0} a commit; µs: server {server:.1}, gateways {gateways:.1}, load {load:.1})"
        )
    }
}

struct Used {
    commits: u64,
    server: Duration,
    gateways: Duration,
    load: Duration,
}

impl Used {
    fn until_now(server: &Postgres, gateways: &[Process]) -> anyhow::Result<Self> {
        let of_each = gateways.iter().map(|gateway| cpu::of(gateway.pid()));
        Ok(Self {
            commits: server.commits()?,
            server: server.cpu()?,
            gateways: of_each.sum::<anyhow::Result<_>>()?,
            load: cpu::of(std::process::id())?,
        })
    }
}
