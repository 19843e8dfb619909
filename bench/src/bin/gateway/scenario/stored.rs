//! Rate of receiving with a large database beside the rate with an empty one.

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::filled::{self, Content};
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};
use crate::webhook::{Ids, Kind, OpenAi};

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    for (ids, name) in [(Ids::LedByTime, "led by time"), (Ids::Random, "random")] {
        let messages = scale.messages;
        let full_folder = filled::copied(
            installed,
            Content {
                messages,
                ids,
                due_to: None,
            },
        )?;
        let (mut empty, mut full) = (Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            empty.push(rate(installed, scale, ids, &Folder::new(&installed.work)?)?);
            full.push(rate(installed, scale, ids, &full_folder)?);
            eprintln!(
                "  ids {name}: empty {:.0}/s, full {:.0}/s",
                empty[empty.len() - 1],
                full[full.len() - 1]
            );
        }
        report.fact(
            format!("no messages stored, ids {name}, webhooks a second"),
            format!("{:.0}", median(&empty)),
        );
        report.fact(
            format!("{messages} messages stored, ids {name}, webhooks a second"),
            format!("{:.0}", median(&full)),
        );
        report.gate(
            format!("{messages} messages stored / no messages stored, ids {name}"),
            ratio(&full, &empty),
            "",
            Gate::AtLeast(0.8, 0.95),
        );
    }
    Ok(())
}

fn rate(installed: &Installed, scale: &Scale, ids: Ids, folder: &Folder) -> anyhow::Result<f64> {
    let gateway = Gateway::new().start(installed, folder)?;
    let mut load = Load::new(gateway.url(), OpenAi::new(ids, Kind::Response))?;
    load.closed_loop(scale.warm_up)?;
    let answers = load.closed_loop(scale.time)?;
    gateway.stop()?;
    Ok(answers.rate)
}
