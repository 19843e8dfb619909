//! Durable receive, in webhooks a second, beside a bare handler and typical applications with and
//! without a database.

use super::{Scale, closed_loop_rates};
use crate::contestants::{Contestant, Installed};
use crate::report::{Gate, Report};
use crate::statistics::ratio;

const CONTESTANTS: [Contestant; 7] = [
    Contestant::Bare,
    Contestant::Unwrapd,
    Contestant::FastApiSqlite,
    Contestant::ExpressSqlite,
    Contestant::FastApi,
    Contestant::Express,
    Contestant::Fastify,
];

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let rates = closed_loop_rates(installed, scale, report, CONTESTANTS)?;

    let [bare, ours, fastapi_sqlite, express_sqlite, without @ ..] = &rates;
    let gate = Gate::AtLeast(0.30, 0.50);
    report.gate("durable receive / bare axum", ratio(ours, bare), "", gate);
    let pairs = fastapi_sqlite.iter().zip(express_sqlite);
    let best: Vec<f64> = pairs.map(|(one, other)| one.max(*other)).collect();
    report.gate(
        "durable receive / the better of FastAPI and Express with SQLite",
        ratio(ours, &best),
        "",
        Gate::AtLeast(10.0, 18.0),
    );
    for (contestant, rates) in CONTESTANTS[4..].iter().zip(without) {
        let label = format!("durable receive / {}, storing nothing", contestant.name());
        report.ratio(label, ratio(ours, rates));
    }
    Ok(())
}
