//! Latency of calls while ten thousand other deliveries wait for the same, slow application.

use std::time::Duration;

use anyhow::ensure;

use super::{Scale, milliseconds};
use crate::contestants::{Gateway, Installed};
use crate::filled::{self, Content};
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::sink::{Sink, SinkBehaviour};
use crate::statistics::{median, percentile};
use crate::webhook::{Ids, Kind, OpenAi};

/// Response time of the application.
const DELAY: Duration = Duration::from_millis(100);
const CONCURRENCY: u64 = 16;
const CALLS_A_SECOND: f64 = 25.0;
/// Factor on the measured time. Calls are few, and the gate is on their p99.
const TIME_FACTOR: u32 = 2;

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let time = scale.time * TIME_FACTOR;
    // Extra messages replace those delivered during the run, so that the backlog lasts to the end.
    let deliveries_a_second = CONCURRENCY as f64 / DELAY.as_secs_f64();
    let delivered_max = (deliveries_a_second * (time + scale.warm_up * 2).as_secs_f64()) as u64;
    let backlog = scale.calls_backlog + delivered_max;
    let content = Content {
        messages: backlog,
        ids: Ids::LedByTime,
        due_to: Some("app"),
    };
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let folder = filled::copied(installed, content)?;
        let mut sink = Sink::start(SinkBehaviour::Slow(DELAY))?;
        let settings = format!("concurrency = {CONCURRENCY}");
        let gateway = Gateway::new().with_destination("app", sink.url(), &settings);
        let gateway = gateway.start(installed, &folder)?;
        let mut load = Load::new(gateway.url(), OpenAi::new(Ids::LedByTime, Kind::Call))?;
        let warm_up = load.open_loop(CALLS_A_SECOND, scale.warm_up)?;
        sink.wait_for(Kind::Call, warm_up.latencies.len())?;

        let answers = load.open_loop(CALLS_A_SECOND, time)?;
        let waiting = backlog.saturating_sub(sink.latencies(Kind::Response)?.len() as u64);
        let latencies = sink.wait_for(Kind::Call, answers.latencies.len())?;
        ensure!(
            waiting >= scale.calls_backlog,
            "the backlog fell to {waiting}"
        );
        p50.push(milliseconds(percentile(&latencies, 0.50)));
        p99.push(milliseconds(percentile(&latencies, 0.99)));
        eprintln!(
            "  {} calls, {waiting} others waiting: p99 {:.2} ms",
            latencies.len(),
            p99[p99.len() - 1]
        );
    }
    report.fact(
        format!(
            "call behind {} other deliveries, p50, ms",
            scale.calls_backlog
        ),
        format!("{:.2}", median(&p50)),
    );
    report.gate(
        format!(
            "call behind {} other deliveries, OpenAI to application, p99",
            scale.calls_backlog
        ),
        median(&p99),
        " ms",
        Gate::AtMost(25.0, 5.0),
    );
    Ok(())
}
