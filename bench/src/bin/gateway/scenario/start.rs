//! Time from process start to the first accepted webhook, with many messages stored.

use std::time::Instant;

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::filled::{self, Content};
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::statistics::median;
use crate::webhook::{Ids, Kind, OpenAi};

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let messages = scale.messages * 2;
    let folder = filled::copied(
        installed,
        Content {
            messages,
            ids: Ids::LedByTime,
            due_to: None,
        },
    )?;
    let mut times = Vec::new();
    for _ in 0..scale.rounds {
        let start = Instant::now();
        let gateway = Gateway::new().start(installed, &folder)?;
        Load::new(gateway.url(), OpenAi::new(Ids::LedByTime, Kind::Response))?.one()?;
        times.push(start.elapsed().as_secs_f64());
        eprintln!("  first 200 after {:.3} s", times[times.len() - 1]);
        gateway.stop()?;
    }
    report.gate(
        format!("process start to the first 200, {messages} messages stored"),
        median(&times),
        " s",
        Gate::AtMost(1.0, 0.2),
    );
    Ok(())
}
