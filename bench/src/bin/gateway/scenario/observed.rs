//! Receiving with everything that can watch it: a scrape of the metrics each second, a client of the
//! live stream, and an open overview. Beside it, receiving without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Scale;
use crate::contestants::{Gateway, Installed};
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{Gate, Report};
use crate::statistics::{median, ratio};
use crate::watch::{Client, stream};
use crate::webhook::{Kind, OpenAi};

/// Interval between scrapes. Prometheus' default is a minute.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// Scrapes for each load of the overview, which loads itself again every five seconds.
const SCRAPES_PER_PAGE: u32 = 5;

pub fn run(installed: &Installed, scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    // The difference is small, so there are more rounds than elsewhere.
    for round in 0..scale.rounds * 2 {
        for is_watched in [round % 2 == 0, round % 2 != 0] {
            let rates = if is_watched { &mut watched } else { &mut alone };
            rates.push(rate(installed, scale, is_watched)?);
        }
        eprintln!(
            "  alone {:.0}/s, watched {:.0}/s",
            alone[alone.len() - 1],
            watched[watched.len() - 1]
        );
    }
    report.fact(
        "not watched, webhooks a second",
        format!("{:.0}", median(&alone)),
    );
    report.fact(
        "watched, webhooks a second",
        format!("{:.0}", median(&watched)),
    );
    report.gate(
        "receiving with metrics, live stream and overview / without",
        ratio(&watched, &alone),
        "",
        Gate::AtLeast(0.95, 0.98),
    );
    Ok(())
}

fn rate(installed: &Installed, scale: &Scale, is_watched: bool) -> anyhow::Result<f64> {
    let folder = Folder::new(&installed.work)?;
    let mut gateway = Gateway::new();
    if is_watched {
        gateway = gateway.with_admin()?;
    }
    let process = gateway.start(installed, &folder)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut watchers = Vec::new();
    if is_watched {
        let admin = gateway.admin()?.to_owned();
        let over = Arc::clone(&is_over);
        watchers.push(thread::spawn({
            let admin = admin.clone();
            move || scrape(&admin, &over)
        }));
        let over = Arc::clone(&is_over);
        watchers.push(thread::spawn(move || stream(&admin, &over)));
    }
    let mut load = Load::new(process.url(), OpenAi::new(scale.ids, Kind::Response))?;
    load.closed_loop(scale.warm_up)?;
    let answers = load.closed_loop(scale.time)?;
    is_over.store(true, Ordering::Relaxed);
    process.stop()?;
    for watcher in watchers {
        watcher.join().expect("it does not panic")?;
    }
    Ok(answers.rate)
}

/// Scrapes the metrics and loads the overview until the end.
fn scrape(admin: &str, is_over: &AtomicBool) -> anyhow::Result<()> {
    let mut client = Client::new(admin)?;
    let mut next = Instant::now();
    let mut scrapes = 0;
    while !is_over.load(Ordering::Relaxed) {
        client.get("/metrics")?;
        if scrapes % SCRAPES_PER_PAGE == 0 {
            client.get("/")?;
        }
        scrapes += 1;
        next += SCRAPE_EVERY;
        while Instant::now() < next && !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}
