//! `scripts/bench gateway`: measures `unwrapd serve` from outside, beside a bare handler and
//! typical applications. A missed gate fails the benchmark.
//!
//! Each contestant is a process. The contestants take turns in several rounds, so that disturbances
//! of the machine affect all of them alike. The results are medians of the ratios within a round.

mod bare;
mod contestants;
mod cost;
mod cpu;
mod disk;
mod filled;
mod folder;
mod http;
mod load;
mod postgres;
mod process;
mod report;
mod scenario;
mod sink;
mod statistics;
mod watch;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum as _};

use contestants::Installed;
use report::Report;
use scenario::{Scale, Scenario};
use sink::SinkBehaviour;
use webhook::Ids;

#[derive(Parser)]
#[command(
    name = "scripts/bench gateway",
    about = "Measures unwrapd beside other servers"
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(clap::Args)]
struct Measure {
    /// Run only this scenario; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<Scenario>,
    /// Use small numbers and no gates: checks in some minutes that the benchmark works
    #[arg(long)]
    quick: bool,
    /// Number of stored messages for `stored`; `start` stores twice as many, `memory` and
    /// `pg-claims` a fifth [default: 5000000]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Order of webhook ids in scenarios that do not measure it
    #[arg(long, value_name = "ORDER", default_value = "led-by-time")]
    ids: Ids,
    /// Binary of unwrapd
    #[arg(
        long,
        value_name = "FILE",
        hide = true,
        default_value = "target/bench/dist/unwrapd"
    )]
    unwrapd: PathBuf,
    /// Folder of the installed SDKs and frameworks
    #[arg(
        long,
        value_name = "FOLDER",
        hide = true,
        default_value = "target/bench/sdks"
    )]
    sdks: PathBuf,
    /// Folder for databases, on the disk to be measured
    #[arg(
        long,
        value_name = "FOLDER",
        hide = true,
        default_value = "target/bench/gateway"
    )]
    work: PathBuf,
}

/// Role of a child process of the benchmark.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Bare,
    #[command(hide = true)]
    Sink {
        #[arg(long)]
        delay_ms: Option<u64>,
        #[arg(long)]
        hang: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let has_passed = match arguments.role {
        Some(Role::Bare) => bare::serve().map(|()| true),
        Some(Role::Sink { hang: true, .. }) => sink::serve(SinkBehaviour::Hung).map(|()| true),
        Some(Role::Sink { delay_ms, .. }) => {
            let slow = |delay| SinkBehaviour::Slow(Duration::from_millis(delay));
            sink::serve(delay_ms.map_or(SinkBehaviour::Prompt, slow)).map(|()| true)
        }
        None => measure(&arguments.measure),
    };
    match has_passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns `true` if every gate passes.
fn measure(arguments: &Measure) -> anyhow::Result<bool> {
    let mut scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    scale.messages = arguments.messages.unwrap_or(scale.messages);
    scale.ids = arguments.ids;
    std::fs::create_dir_all(&arguments.work)?;
    folder::sweep(&arguments.work)?;
    let installed = Installed {
        unwrapd: arguments.unwrapd.canonicalize()?,
        sdks: arguments.sdks.clone(),
        work: arguments.work.canonicalize()?,
    };

    let mut report = Report::default();
    for scenario in Scenario::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(scenario) {
            let started = Instant::now();
            eprintln!("{scenario:?}");
            scenario.run(&installed, &scale, &mut report)?;
            eprintln!("  took {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    Ok(report.print(!arguments.quick))
}
