//! Resident memory of the gateway: idle, after a closed loop, and with a large backlog.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::filled::{self, Content};
use crate::folder::Folder;
use crate::load::Load;
use crate::process::Process;
use crate::report::{Gate, Report};
use crate::sink::{Sink, SinkBehaviour};
use crate::webhook::{Ids, Kind, OpenAi};

const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const MIB: f64 = 1024.0 * 1024.0;

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let (idle, after_load) = idle(installed, scale)?;
    let due = scale.messages / 5;
    let with_backlog = with_backlog(installed, scale, due)?;
    report.fact(
        "resident memory after a closed loop, MiB",
        format!("{after_load:.1}"),
    );
    report.gate(
        "resident memory, idle",
        idle,
        " MiB",
        Gate::AtMost(64.0, 32.0),
    );
    report.gate(
        format!("largest resident memory, {due} deliveries due to a closed port"),
        with_backlog,
        " MiB",
        Gate::AtMost(128.0, 96.0),
    );
    Ok(())
}

fn idle(installed: &Installed, scale: &Scale) -> anyhow::Result<(f64, f64)> {
    let folder = Folder::new(&installed.work)?;
    let sink = Sink::start(SinkBehaviour::Prompt)?;
    let gateway = Gateway::new().with_destination("app", sink.url(), "");
    let gateway = gateway.start(installed, &folder)?;
    let idle = most_resident(&gateway, scale.watch / 4)?;
    Load::new(gateway.url(), OpenAi::new(scale.ids, Kind::Response))?.closed_loop(scale.time)?;
    thread::sleep(scale.watch / 4);
    let after_load = gateway.resident_bytes()? as f64 / MIB;
    eprintln!("  idle {idle:.1} MiB, after a closed loop {after_load:.1} MiB");
    Ok((idle, after_load))
}

fn with_backlog(installed: &Installed, scale: &Scale, due: u64) -> anyhow::Result<f64> {
    let folder = filled::copied(
        installed,
        Content {
            messages: due,
            ids: Ids::LedByTime,
            due_to: Some("app"),
        },
    )?;
    let gateway = Gateway::new().with_destination("app", &refusing_url()?, "");
    let gateway = gateway.start(installed, &folder)?;
    let most = most_resident(&gateway, scale.watch)?;
    eprintln!("  {due} deliveries due {most:.1} MiB");
    Ok(most)
}

/// URL of a closed port: one that was free a moment ago.
fn refusing_url() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("http://{}/", listener.local_addr()?))
}

/// Largest sampled resident memory, in MiB.
fn most_resident(process: &Process, time: Duration) -> anyhow::Result<f64> {
    let end = Instant::now() + time;
    let mut most = 0;
    while Instant::now() < end {
        most = process.resident_bytes()?.max(most);
        thread::sleep(SAMPLE_EVERY);
    }
    Ok(most as f64 / MIB)
}
