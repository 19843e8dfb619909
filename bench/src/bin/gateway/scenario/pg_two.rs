//! Whether two gateways on one PostgreSQL are worth no less than one, on a machine that they share with it.

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::folder::Folder;
use crate::load::Load;
use crate::postgres::Postgres;
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};
use crate::webhook::{Kind, OpenAi};

pub fn run(with: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        one.push(rate(with, scale, 1)?);
        two.push(rate(with, scale, 2)?);
        eprintln!(
            "  one {:.0}/s, two {:.0}/s",
            one[one.len() - 1],
            two[two.len() - 1]
        );
    }
    for (name, rates) in [("one gateway", &one), ("two gateways", &two)] {
        report.fact(
            format!("PostgreSQL: {name}, 200s a second"),
            format!("{:.0}", median(rates)),
        );
    }
    report.gate(
        "PostgreSQL: two gateways / one",
        ratio(&two, &one),
        "",
        Gate::AtLeast(1.0, 1.0),
    );
    Ok(())
}

fn rate(with: &Installed, scale: &Scale, gateways: usize) -> anyhow::Result<f64> {
    let folder = Folder::new(&with.work)?;
    let server = Postgres::start(&folder)?;
    let mut processes = Vec::new();
    for _ in 0..gateways {
        let folder = Folder::new(&with.work)?;
        let gateway = Gateway::receiving().keeping_in(&server.url("unwrapd"));
        processes.push((gateway.start(with, &folder)?, folder));
    }
    let urls: Vec<&str> = processes.iter().map(|(process, _)| process.url()).collect();
    let mut load = Load::across(&urls, OpenAi::new(scale.ids, Kind::Response))?;
    load.flood(scale.warm_up)?;
    let answers = load.flood(scale.time)?;
    Ok(answers.rate)
}
