//! Durable receive on PostgreSQL, in webhooks a second, beside a bare handler and an application
//! that inserts each event.

use super::{Scale, closed_loop_rate};
use crate::contestants::{Contestant, Installed};
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};

const CONTESTANTS: [Contestant; 3] = [
    Contestant::Bare,
    Contestant::UnwrapdPostgres,
    Contestant::FastApiPostgres,
];

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let mut rates: [Vec<f64>; CONTESTANTS.len()] = Default::default();
    for round in 0..scale.rounds {
        for turn in 0..CONTESTANTS.len() {
            // Each round begins with another contestant.
            let index = (turn + round) % CONTESTANTS.len();
            rates[index].push(closed_loop_rate(installed, scale, CONTESTANTS[index])?);
        }
    }
    for (contestant, rates) in CONTESTANTS.iter().zip(&rates) {
        report.fact(
            format!("{}, webhooks a second", contestant.name()),
            format!("{:.0}", median(rates)),
        );
    }
    let [bare, ours, fastapi] = &rates;
    report.gate(
        "PostgreSQL: durable receive / bare axum",
        ratio(ours, bare),
        "",
        Gate::AtLeast(0.22, 0.35),
    );
    report.gate(
        "PostgreSQL: durable receive / FastAPI with one insert per request",
        ratio(ours, fastapi),
        "",
        Gate::AtLeast(5.0, 10.0),
    );
    Ok(())
}
