//! Effect of a destination that hangs on the latency of another destination.

use super::{Scale, milliseconds};
use crate::contestants::{Gateway, Installed};
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::sink::{Sink, SinkBehaviour};
use crate::statistics::{median, percentile, ratio};
use crate::webhook::{Kind, OpenAi};

/// Webhooks a second.
const RATE: f64 = 500.0;

/// Factor on the measured time. Without it, the p99 of 3,000 webhooks would rest on 30 of them.
const TIME_FACTOR: u32 = 3;

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    // A second destination adds a delivery to each webhook. A destination that answers is sent all
    // of its deliveries; one that hangs only until its circuit opens. So both comparisons are
    // reported.
    let neighbours = [None, Some(SinkBehaviour::Prompt), Some(SinkBehaviour::Hung)];
    let mut rounds = [const { Vec::new() }; 3];
    for round in 0..scale.rounds {
        for turn in 0..3 {
            // Each round begins with another setup; the direction alternates.
            let index = (round + turn * if round % 2 == 0 { 1 } else { 2 }) % 3;
            rounds[index].push(p99(installed, scale, neighbours[index])?);
        }
        let [alone, prompt, hung] = rounds.each_ref().map(|values| values[round]);
        eprintln!(
            "  p99 alone {alone:.2} ms, beside one that answers {prompt:.2} ms, beside one that hangs {hung:.2} ms"
        );
    }
    let [alone, prompt, hung] = &rounds;
    let mut fact = |label: &str, values: &[f64]| {
        report.fact(label, format!("{:.2}", median(values)));
    };
    fact("destination alone, p99, ms", alone);
    fact("destination beside one that answers, p99, ms", prompt);
    fact("destination beside one that hangs, p99, ms", hung);
    report.unenforced_gate(
        "p99 of a destination beside one that hangs / beside one that answers",
        ratio(hung, prompt),
        "",
        Gate::AtMost(1.1, 1.0),
    );
    report.ratio(
        "p99 of a destination beside one that hangs / alone",
        ratio(hung, alone),
    );
    Ok(())
}

/// p99 from OpenAI to the application that answers, in milliseconds.
fn p99(
    installed: &Installed,
    scale: &Scale,
    neighbour: Option<SinkBehaviour>,
) -> anyhow::Result<f64> {
    let folder = Folder::new(&installed.work)?;
    let mut fine = Sink::start(SinkBehaviour::Prompt)?;
    let neighbour = neighbour.map(Sink::start).transpose()?;
    let mut gateway = Gateway::new().with_destination("fine", fine.url(), "");
    if let Some(neighbour) = &neighbour {
        gateway = gateway.with_destination("neighbour", neighbour.url(), "");
    }
    let gateway = gateway.start(installed, &folder)?;
    let mut load = Load::new(gateway.url(), OpenAi::new(scale.ids, Kind::Response))?;
    let warm_up = load.open_loop(RATE, scale.warm_up)?;
    fine.wait_for(Kind::Response, warm_up.latencies.len())?;
    let answers = load.open_loop(RATE, scale.time * TIME_FACTOR)?;
    let latencies = fine.wait_for(Kind::Response, answers.latencies.len())?;
    Ok(milliseconds(percentile(&latencies, 0.99)))
}
