//! How many webhooks a second are durable in PostgreSQL and answered, beside who does nothing and
//! who does the same.

use super::{Scale, flooded};
use crate::contestants::{Installed, Who};
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};

const WHO: [Who; 3] = [Who::Bare, Who::UnwrapdPostgres, Who::FastApiPostgres];

pub fn run(with: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let mut rates: [Vec<f64>; WHO.len()] = Default::default();
    for round in 0..scale.rounds {
        for turn in 0..WHO.len() {
            // Someone else begins each round.
            let index = (turn + round) % WHO.len();
            rates[index].push(flooded(with, scale, WHO[index])?);
        }
    }
    for (who, rates) in WHO.iter().zip(&rates) {
        report.fact(
            format!("{}, 200s a second", who.name()),
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
        "PostgreSQL: durable receive / FastAPI with an insert a request",
        ratio(ours, fastapi),
        "",
        Gate::AtLeast(5.0, 10.0),
    );
    Ok(())
}
