//! `scripts/bench gateway`: measures `unwrapd serve` from outside, beside a bare handler and the
//! applications people write, and fails when a gate is missed.
//!
//! Everyone is a process of its own and takes turns in several rounds, so that whatever else the
//! machine does meets them alike; what counts are ratios within a round, and of those the medians.

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
    about = "Measures unwrapd beside others"
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(clap::Args)]
struct Measure {
    /// Only this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<Scenario>,
    /// Small numbers, and no gate: whether the benchmark works
    #[arg(long)]
    quick: bool,
    /// Messages stored: so many for `stored`, twice as many for `start`, a fifth as many due for
    /// `memory` [default: 5000000]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Order of the ids where it is not what is measured
    #[arg(long, value_name = "ORDER", default_value = "led-by-time")]
    ids: Ids,
    /// The binary
    #[arg(
        long,
        value_name = "FILE",
        hide = true,
        default_value = "target/bench/dist/unwrapd"
    )]
    unwrapd: PathBuf,
    /// Where SDKs and frameworks are installed
    #[arg(
        long,
        value_name = "FOLDER",
        hide = true,
        default_value = "target/bench/sdks"
    )]
    sdks: PathBuf,
    /// Where databases may lie: on the disk to be measured
    #[arg(
        long,
        value_name = "FOLDER",
        hide = true,
        default_value = "target/bench/gateway"
    )]
    work: PathBuf,
}

/// What a process of this program does that another one starts.
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

/// Says whether every gate was passed.
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
