//! Latency of the 200 at half of the rate that the gateway reaches under a closed loop.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Scale, milliseconds};
use crate::contestants::{Contestant, Installed};
use crate::disk;
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::statistics::{median, percentile, ratio};
use crate::webhook::{Kind, OpenAi};

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let mut rounds = Rounds::default();
    for _ in 0..scale.rounds {
        let folder = Folder::new(&installed.work)?;
        let half = gateway(installed, scale, &folder, &mut rounds)?;
        beside_bare_axum(installed, scale, &folder, half, &mut rounds)?;
    }
    let mut fact = |label: &str, values: &[f64]| {
        report.fact(label, format!("{:.3}", median(values)));
    };
    fact("one fdatasync of 4 KiB, ms", &rounds.sync);
    fact(
        "one fdatasync beside bare axum at the rate of half load, ms",
        &rounds.sync_under_load,
    );
    fact("half load, p50, ms", &rounds.p50);
    fact("half load, p99, ms", &rounds.p99);
    fact("quarter load, p50, ms", &rounds.p50_of_a_quarter);
    fact("eighth load, p50, ms", &rounds.p50_of_an_eighth);
    fact(
        "bare axum at the rate of half load, p50, ms",
        &rounds.p50_of_bare,
    );
    report.gate(
        "half load, p50 / one fdatasync of 4 KiB",
        ratio(&rounds.p50, &rounds.sync),
        "",
        Gate::AtMost(6.0, 3.5),
    );
    report.ratio(
        "half load, p50 / one fdatasync beside bare axum",
        ratio(&rounds.p50, &rounds.sync_under_load),
    );
    report.ratio(
        "quarter load, p50 / one fdatasync of 4 KiB",
        ratio(&rounds.p50_of_a_quarter, &rounds.sync),
    );
    report.ratio(
        "eighth load, p50 / one fdatasync of 4 KiB",
        ratio(&rounds.p50_of_an_eighth, &rounds.sync),
    );
    Ok(())
}

/// Milliseconds, one value for each round.
#[derive(Default)]
struct Rounds {
    sync: Vec<f64>,
    sync_under_load: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    p50_of_a_quarter: Vec<f64>,
    p50_of_an_eighth: Vec<f64>,
    p50_of_bare: Vec<f64>,
}

/// Measures the gateway, and returns half of its closed-loop rate in webhooks a second.
fn gateway(
    installed: &Installed,
    scale: &Scale,
    folder: &Folder,
    rounds: &mut Rounds,
) -> anyhow::Result<f64> {
    let server = Contestant::Unwrapd.start(installed, folder)?;
    let mut load = Load::new(server.url(), OpenAi::new(scale.ids, Kind::Response))?;
    load.closed_loop(scale.warm_up)?;
    let half = load.closed_loop(scale.time)?.rate / 2.0;
    rounds.sync.push(milliseconds(disk::fdatasync(folder)?));
    let latencies = load.open_loop(half, scale.time)?.latencies;
    let p50 = percentile(&latencies, 0.50);
    rounds.p50.push(milliseconds(p50));
    rounds.p99.push(milliseconds(percentile(&latencies, 0.99)));
    eprintln!("  {half:.0}/s: p50 {p50:?}");
    for (rate, values) in [
        (half / 2.0, &mut rounds.p50_of_a_quarter),
        (half / 4.0, &mut rounds.p50_of_an_eighth),
    ] {
        let p50 = percentile(&load.open_loop(rate, scale.time)?.latencies, 0.50);
        values.push(milliseconds(p50));
        eprintln!("  {rate:.0}/s: p50 {p50:?}");
    }
    Ok(half)
}

/// Measures an fdatasync while bare axum answers requests at the same rate.
fn beside_bare_axum(
    installed: &Installed,
    scale: &Scale,
    folder: &Folder,
    rate: f64,
    rounds: &mut Rounds,
) -> anyhow::Result<()> {
    let server = Contestant::Bare.start(installed, folder)?;
    let mut load = Load::new(server.url(), OpenAi::new(scale.ids, Kind::Response))?;
    load.closed_loop(scale.warm_up)?;
    let is_over = AtomicBool::new(false);
    let (sync, latencies) = std::thread::scope(|scope| {
        let sync = scope.spawn(|| disk::fdatasync_until(folder, &is_over));
        let answers = load.open_loop(rate, scale.time);
        is_over.store(true, Ordering::Relaxed);
        let sync = sync.join().expect("fdatasync does not panic");
        anyhow::Ok((sync?, answers?.latencies))
    })?;
    let p50 = percentile(&latencies, 0.50);
    eprintln!("  bare axum at {rate:.0}/s: p50 {p50:?}, fdatasync beside it {sync:?}");
    rounds.p50_of_bare.push(milliseconds(p50));
    rounds.sync_under_load.push(milliseconds(sync));
    Ok(())
}
