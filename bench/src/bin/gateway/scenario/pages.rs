//! Time of the pages and of the API's lists with a million messages stored.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Scale, milliseconds};
use crate::contestants::{Gateway, Installed};
use crate::filled::{self, Content};
use crate::report::{Gate, Report};
use crate::statistics::percentile;
use crate::watch::Client;

/// Most messages that are stored.
const MESSAGES_MAX: u64 = 1_000_000;
/// A port at which nothing listens.
const CLOSED: &str = "http://127.0.0.1:9/webhook";
/// The pages, and the lists that programs read.
const PATHS: [&str; 12] = [
    "/",
    "/events",
    "/events?q=status:dead",
    "/events?q=status:waiting+destination:app",
    "/events?q=type:batch.*",
    "/events?q=since:1h",
    "/events?q=nothing_has_this",
    "/destinations",
    "/destinations/app",
    "/refused",
    "/api/v1/messages?limit=100",
    "/api/v1/destinations",
];

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let messages = scale.messages.min(MESSAGES_MAX);
    for (due_to, name) in [(None, "stored"), (Some("app"), "waiting")] {
        let content = Content {
            messages,
            ids: scale.ids,
            due_to,
        };
        let folder = filled::copied(installed, content)?;
        let gateway = Gateway::new()
            .with_admin()?
            .with_destination("app", CLOSED, "allow_private = true");
        let process = gateway.start(installed, &folder)?;
        let mut client = Client::new(gateway.admin()?)?;
        let mut slowest = Duration::ZERO;
        for path in PATHS {
            let times = times(&mut client, scale, path)?;
            let p99 = percentile(&times, 0.99);
            slowest = slowest.max(p99);
            report.fact(
                format!("{path}, {messages} {name}, p50 and p99 in ms"),
                format!(
                    "{:.1}, {:.1}",
                    milliseconds(percentile(&times, 0.5)),
                    milliseconds(p99)
                ),
            );
        }
        process.stop()?;
        report.gate(
            format!("slowest page or list, {messages} {name}, p99"),
            milliseconds(slowest),
            " ms",
            Gate::AtMost(100.0, 20.0),
        );
    }
    Ok(())
}

/// Times of one path, after a first request that fills caches.
fn times(client: &mut Client, scale: &Scale, path: &str) -> anyhow::Result<Vec<Duration>> {
    client.get(path)?;
    let end = Instant::now() + scale.time / 2;
    let mut times = Vec::new();
    while Instant::now() < end || times.len() < 5 {
        let began = Instant::now();
        let status = client.get(path)?;
        times.push(began.elapsed());
        ensure!(status == 200, "{path} was answered {status}");
    }
    Ok(times)
}
