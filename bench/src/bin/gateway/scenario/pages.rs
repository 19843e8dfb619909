//! Time of the pages and of the API's lists with a million messages stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use unwrapd::store::Bounds;
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};

use super::{Scale, milliseconds};
use crate::contestants::{Gateway, Installed};
use crate::filled::{self, Content};
use crate::folder::Folder;
use crate::postgres::Postgres;
use crate::report::{Gate, Report};
use crate::statistics::percentile;
use crate::watch::Client;

/// Most messages that are stored.
const MESSAGES_MAX: u64 = 1_000_000;
/// A port at which nothing listens.
const CLOSED: &str = "http://127.0.0.1:9/webhook";
/// The pages, and the lists that programs read.
const PATHS: [&str; 14] = [
    "/",
    "/events",
    "/events?q=status:dead",
    "/events?q=status:waiting+destination:app",
    "/events?q=type:batch.*",
    "/events?q=status:unrouted",
    "/events?q=since:1h",
    "/events?q=since:1h+type:batch.*",
    "/events?q=nothing_has_this",
    "/destinations",
    "/destinations/app",
    "/refused",
    "/api/v1/messages?limit=100",
    "/api/v1/destinations",
];

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    for (due_to, name) in [(None, "stored"), (Some("app"), "waiting")] {
        let content = content(scale, due_to);
        let folder = filled::copied(installed, content)?;
        let name = format!("{} {name}", content.messages);
        measure(installed, &folder, gateway()?, scale, &name, report)?;
    }
    Ok(())
}

pub fn run_on_postgres(
    installed: &Installed,
    scale: &Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    let content = content(scale, Some("app"));
    let folder = Folder::new(&installed.work)?;
    let server = Postgres::start(&folder)?;
    let url = server.url("pages");
    let address: PostgresAddress = url.parse()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = PostgresStore::open(&address, &Bounds::default()).await?;
        filled::fill(Arc::new(store), content).await
    })?;
    let name = format!("{} waiting on PostgreSQL", content.messages);
    measure(
        installed,
        &folder,
        gateway()?.with_store(&url),
        scale,
        &name,
        report,
    )
}

fn content(scale: &Scale, due_to: Option<&'static str>) -> Content {
    Content {
        messages: scale.messages.min(MESSAGES_MAX),
        ids: scale.ids,
        due_to,
    }
}

fn gateway() -> anyhow::Result<Gateway> {
    let gateway = Gateway::new().with_admin()?;
    Ok(gateway.with_destination("app", CLOSED, "allow_private = true"))
}

/// Measures each path of a gateway whose store is filled. `name` says with what.
fn measure(
    installed: &Installed,
    folder: &Folder,
    gateway: Gateway,
    scale: &Scale,
    name: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let process = gateway.start(installed, folder)?;
    let mut client = Client::new(gateway.admin()?)?;
    let mut slowest = Duration::ZERO;
    for path in PATHS {
        let times = times(&mut client, scale, path)?;
        let p99 = percentile(&times, 0.99);
        slowest = slowest.max(p99);
        report.fact(
            format!("{path}, {name}, p50 and p99 in ms"),
            format!(
                "{:.1}, {:.1}",
                milliseconds(percentile(&times, 0.5)),
                milliseconds(p99)
            ),
        );
    }
    process.stop()?;
    report.gate(
        format!("slowest page or list, {name}, p99"),
        milliseconds(slowest),
        " ms",
        Gate::AtMost(100.0, 20.0),
    );
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
