//! Durable receive on PostgreSQL, in webhooks a second, beside a bare handler and an application
//! that inserts each event.

use super::{Scale, closed_loop_rates};
use crate::contestants::{Contestant, Installed};
use crate::report::{Gate, Report};
use crate::statistics::ratio;

const CONTESTANTS: [Contestant; 3] = [
    Contestant::Bare,
    Contestant::UnwrapdPostgres,
    Contestant::FastApiPostgres,
];

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let rates = closed_loop_rates(installed, scale, report, CONTESTANTS)?;
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
