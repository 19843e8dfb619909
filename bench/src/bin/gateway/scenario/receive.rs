//! How many webhooks a second are durable and answered, beside who does nothing and who does the
//! same.

use super::{Scale, flooded};
use crate::contestants::{Installed, Who};
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};

pub fn run(with: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let mut rates: [Vec<f64>; Who::ALONE.len()] = Default::default();
    for round in 0..scale.rounds {
        for turn in 0..Who::ALONE.len() {
            // Someone else begins each round.
            let index = (turn + round) % Who::ALONE.len();
            rates[index].push(flooded(with, scale, Who::ALONE[index])?);
        }
    }
    for (who, rates) in Who::ALONE.iter().zip(&rates) {
        report.fact(
            format!("{}, 200s a second", who.name()),
            format!("{:.0}", median(rates)),
        );
    }

    let [bare, ours, fastapi_sqlite, express_sqlite, without @ ..] = &rates;
    let gate = Gate::AtLeast(0.30, 0.50);
    report.gate("durable receive / bare axum", ratio(ours, bare), "", gate);
    let pairs = fastapi_sqlite.iter().zip(express_sqlite);
    let best: Vec<f64> = pairs.map(|(one, other)| one.max(*other)).collect();
    report.gate(
        "durable receive / the better of FastAPI and Express, + SQLite",
        ratio(ours, &best),
        "",
        Gate::AtLeast(10.0, 18.0),
    );
    for (who, rates) in Who::ALONE[4..].iter().zip(without) {
        let what = format!("durable receive / {}, storing nothing", who.name());
        report.ratio(what, ratio(ours, rates));
    }
    Ok(())
}
