//! Whether a destination notices that another one hangs.

use super::{Scale, milliseconds};
use crate::contestants::{Gateway, Installed};
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::sink::{Manner, Sink};
use crate::statistics::{median, percentile, ratio};
use crate::webhook::{Kind, OpenAi};

const A_SECOND: f64 = 500.0;

pub fn run(with: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        // Someone else begins each round.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                alone.push(p99(with, scale, false)?);
            } else {
                beside.push(p99(with, scale, true)?);
            }
        }
        eprintln!(
            "  p99 alone {:.2} ms, beside one that hangs {:.2} ms",
            alone[round], beside[round]
        );
    }
    report.fact(
        "a destination alone, p99, ms",
        format!("{:.2}", median(&alone)),
    );
    report.wish(
        "p99 beside a destination that hangs / alone",
        ratio(&beside, &alone),
        "",
        Gate::AtMost(1.1, 1.0),
    );
    Ok(())
}

/// Milliseconds from OpenAI to the application that does not hang.
fn p99(with: &Installed, scale: &Scale, has_neighbour: bool) -> anyhow::Result<f64> {
    let folder = Folder::new(&with.work)?;
    let mut fine = Sink::start(Manner::Prompt)?;
    let hung = Sink::start(Manner::Hung)?;
    let mut gateway = Gateway::receiving().and("fine", fine.url(), "");
    if has_neighbour {
        gateway = gateway.and("hung", hung.url(), "");
    }
    let gateway = gateway.start(with, &folder)?;
    let mut load = Load::new(gateway.url(), OpenAi::new(scale.ids, Kind::Response))?;
    let warm_up = load.pace(A_SECOND, scale.warm_up)?;
    fine.wait_for(Kind::Response, warm_up.latencies.len())?;
    let answers = load.pace(A_SECOND, scale.time)?;
    let latencies = fine.wait_for(Kind::Response, answers.latencies.len())?;
    Ok(milliseconds(percentile(&latencies, 0.99)))
}
