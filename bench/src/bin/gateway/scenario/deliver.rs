//! Receiving and delivering at the same time under a closed loop. Receiving must not starve
//! delivering: the backlog stays flat.

use std::slice;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Scale, closed_loop_rate};
use crate::contestants::{Contestant, Gateway, Installed};
use crate::cost::{Cost, Usage};
use crate::folder::Folder;
use crate::load::Load;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::report::{Gate, Report};
use crate::sink::{Sink, SinkBehaviour};
use crate::statistics::{median, ratio};
use crate::webhook::{Kind, OpenAi};

/// Bound of a flat backlog, in seconds of traffic.
const BACKLOG_SECONDS_MAX: f64 = 2.0;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Time limit for the remaining deliveries after the load has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

struct Round {
    delivered_a_second: f64,
    /// Backlog at the end of the load, in seconds of traffic.
    backlog: f64,
    /// Largest sampled backlog, in seconds of traffic.
    backlog_max: f64,
    refused: u64,
    undelivered: u64,
    /// Cost of one webhook; PostgreSQL only.
    cost: Option<Cost>,
}

/// Measures the gateway on SQLite.
pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let in_sqlite = |folder: &Folder, sink: &Sink| {
        let gateway = Gateway::new().with_destination("app", sink.url(), "");
        gateway.start(installed, folder)
    };
    let gate = Gate::AtLeast(0.15, 0.25);
    measure(installed, scale, report, ("", gate), in_sqlite)
}

/// Measures the gateway on PostgreSQL.
pub fn run_on_postgres(
    installed: &Installed,
    scale: &Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    let in_postgres = |folder: &Folder, sink: &Sink| {
        let server = Postgres::start(folder)?;
        let gateway = Gateway::new()
            .with_store(&server.url("unwrapd"))
            .with_destination("app", sink.url(), "");
        Ok(gateway.start(installed, folder)?.with_database(server))
    };
    let gate = Gate::AtLeast(0.10, 0.20);
    measure(
        installed,
        scale,
        report,
        ("PostgreSQL: ", gate),
        in_postgres,
    )
}

fn measure(
    installed: &Installed,
    scale: &Scale,
    report: &mut Report,
    (name, gate): (&str, Gate),
    start: impl Fn(&Folder, &Sink) -> anyhow::Result<Process>,
) -> anyhow::Result<()> {
    let mut bare = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..scale.rounds {
        bare.push(closed_loop_rate(installed, scale, Contestant::Bare)?);
        let folder = Folder::new(&installed.work)?;
        let sink = Sink::start(SinkBehaviour::Prompt)?;
        let gateway = start(&folder, &sink)?;
        rounds.push(deliver(&gateway, sink, scale)?);
    }
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let delivered = of(|round| round.delivered_a_second);
    let refused: u64 = rounds.iter().map(|round| round.refused).sum();
    let undelivered: u64 = rounds.iter().map(|round| round.undelivered).sum();

    let seconds = scale.deliver_time.as_secs();
    report.fact(
        format!("{name}deliveries a second, closed loop for {seconds} s"),
        format!("{:.0}", median(&delivered)),
    );
    report.fact(
        format!("{name}largest backlog, in seconds of traffic"),
        format!("{:.2}", median(&of(|round| round.backlog_max))),
    );
    report.fact(
        format!("{name}webhooks refused with 503 and sent again, all rounds"),
        refused,
    );
    report.fact(
        format!("{name}messages not delivered {DRAIN_TIMEOUT:?} after the end, all rounds"),
        undelivered,
    );
    let costs: Vec<Cost> = rounds.iter().filter_map(|round| round.cost).collect();
    if !costs.is_empty() {
        let mut fact = |label: &str, of: fn(&Cost) -> f64| {
            let values: Vec<f64> = costs.iter().map(of).collect();
            report.fact(
                format!("{name}CPU time of the {label} per delivered webhook, µs"),
                format!("{:.1}", median(&values)),
            );
        };
        fact("server", |cost| cost.server);
        fact("gateway", |cost| cost.gateways);
        fact("load", |cost| cost.load);
    }
    report.gate(
        format!("{name}receive → delivered / bare axum"),
        ratio(&delivered, &bare),
        "",
        gate,
    );
    report.gate(
        format!("{name}backlog after {seconds} s, in seconds of traffic"),
        median(&of(|round| round.backlog)),
        " s",
        Gate::AtMost(BACKLOG_SECONDS_MAX, 0.5),
    );
    Ok(())
}

fn deliver(gateway: &Process, mut sink: Sink, scale: &Scale) -> anyhow::Result<Round> {
    let mut load = Load::new(gateway.url(), OpenAi::new(scale.ids, Kind::Response))?;
    load.closed_loop(scale.warm_up)?;

    let accepted = load.accepted();
    let backlog = |sink: &mut Sink| {
        // Deliveries between the two reads make the backlog look smaller, but never negative.
        let accepted = accepted.load(Ordering::Relaxed);
        anyhow::Ok(accepted.saturating_sub(sink.count()?))
    };
    let usage = || {
        let server = gateway.database();
        server.map(|server| Usage::read(server, slice::from_ref(gateway)))
    };
    let usage_before = usage().transpose()?;
    let start = Instant::now();
    let delivered_before = sink.count()?;
    let (answers, backlog_max) = thread::scope(|scope| {
        let (until_dropped, is_over) = channel::<()>();
        let sampler = scope.spawn(|| {
            let is_over = is_over;
            let mut backlog_max = 0;
            while is_over.recv_timeout(SAMPLE_EVERY) == Err(RecvTimeoutError::Timeout) {
                backlog_max = backlog(&mut sink)?.max(backlog_max);
            }
            anyhow::Ok(backlog_max)
        });
        let answers = load.closed_loop(scale.deliver_time);
        drop(until_dropped);
        let backlog_max = sampler.join().expect("sampling does not panic");
        anyhow::Ok((answers?, backlog_max?))
    })?;
    let delivered = sink.count()? - delivered_before;
    let cost = match (usage().transpose()?, &usage_before) {
        (Some(usage), Some(before)) => Some(usage.cost_since(before, delivered.try_into()?)),
        _ => None,
    };
    let delivered_a_second = delivered as f64 / start.elapsed().as_secs_f64();
    let backlog_end = backlog(&mut sink)?;
    let undelivered = wait_for_rest(|| backlog(&mut sink))?;
    eprintln!(
        "  received {:.0}/s, delivered {delivered_a_second:.0}/s, backlog {backlog_end}",
        answers.rate
    );
    if let Some(cost) = &cost {
        eprintln!("  {cost}");
    }
    Ok(Round {
        delivered_a_second,
        backlog: backlog_end as f64 / delivered_a_second,
        backlog_max: backlog_max as f64 / delivered_a_second,
        refused: answers.refused,
        undelivered,
        cost,
    })
}

fn wait_for_rest(mut backlog: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    loop {
        let rest = backlog()?;
        if rest == 0 || Instant::now() > deadline {
            return Ok(rest);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
