//! How long a webhook waits for its 200 when the gateway is at half of what it could take.

use super::{Scale, milliseconds};
use crate::contestants::{Installed, Who};
use crate::disk;
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::statistics::{median, percentile, ratio};
use crate::webhook::{Kind, OpenAi};

pub fn run(with: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let (mut p50, mut p99, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let folder = Folder::new(&with.work)?;
        let server = Who::Unwrapd.start(with, &folder)?;
        let mut load = Load::new(server.url(), OpenAi::new(scale.ids, Kind::Response))?;
        load.flood(scale.warm_up)?;
        let half = load.flood(scale.time)?.rate / 2.0;
        sync.push(milliseconds(disk::fdatasync(&folder)?));
        let latencies = load.pace(half, scale.time)?.latencies;
        p50.push(milliseconds(percentile(&latencies, 0.50)));
        p99.push(milliseconds(percentile(&latencies, 0.99)));
        eprintln!("  {half:.0}/s: p50 {:?}", percentile(&latencies, 0.50));
    }
    let fact = |report: &mut Report, what: &str, values: &[f64]| {
        report.fact(what, format!("{:.3}", median(values)));
    };
    fact(report, "one fdatasync of 4 KiB, ms", &sync);
    fact(report, "half load, p50, ms", &p50);
    fact(report, "half load, p99, ms", &p99);
    report.gate(
        "half load, p50 / one fdatasync of 4 KiB",
        ratio(&p50, &sync),
        "",
        Gate::AtMost(6.0, 3.5),
    );
    Ok(())
}
