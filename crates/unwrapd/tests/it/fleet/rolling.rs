//! Gateways behind a load balancer are restarted one after the other, without a failed request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use openai_webhooks::EventType;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::store_url;
use crate::support::application::Application;
use crate::support::balancer::Balancer;
use crate::support::process::{Serving, write_config_on};
use crate::support::{Webhook, client, loopback};

/// One gateway with its own folder and address.
struct Place {
    folder: TempDir,
    address: Ipv4Addr,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            address: loopback(),
        }
    }

    fn configure(&self, store: &str, app: &str, drain_seconds: u32, destination: &str) {
        write_config_on(self.folder.path(), store, app, destination);
        let file = self.folder.path().join("unwrapd.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text
            .replacen("127.0.0.1:0", &format!("{}:8080", self.address), 1)
            .replacen("127.0.0.1:0", &format!("{}:8081", self.address), 1)
            .replacen(
                "[server]",
                &format!("[server]\ndrain_seconds = {drain_seconds}"),
                1,
            );
        std::fs::write(&file, text).unwrap();
    }

    fn start(&self) -> Serving {
        Serving::start(self.folder.path(), &[])
    }
}

/// Senders that continue until they are stopped.
struct Load {
    goes_on: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    senders: JoinSet<Vec<(String, String)>>,
}

impl Load {
    /// Starts one for each of these URLs.
    fn start(urls: &[String]) -> Self {
        const SENDERS: usize = 6;
        let goes_on = Arc::new(AtomicBool::new(true));
        let sent = Arc::new(AtomicUsize::new(0));
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let (goes_on, sent) = (Arc::clone(&goes_on), Arc::clone(&sent));
            let url = urls[sender % urls.len()].clone();
            senders.spawn(async move {
                let client = client();
                let mut answers = Vec::new();
                for number in 0.. {
                    if !goes_on.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = format!("wh_{sender}_{number}");
                    let webhook = Webhook::new(&id, EventType::BatchCompleted);
                    let answer = match webhook.request(&client, &url).send().await {
                        Ok(answer) => answer.status().as_u16().to_string(),
                        Err(error) => error.to_string(),
                    };
                    answers.push((id, answer));
                    sent.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(5)).await;
                }
                answers
            });
        }
        Self {
            goes_on,
            sent,
            senders,
        }
    }

    /// Waits until this many more were sent.
    async fn goes_on_for(&self, requests: usize) {
        let until = self.sent.load(Ordering::SeqCst) + requests;
        while self.sent.load(Ordering::SeqCst) < until {
            sleep(super::POLL).await;
        }
    }

    /// Every id that was sent, and every answer other than 200.
    async fn stop(self) -> (BTreeSet<String>, Vec<(String, String)>) {
        self.goes_on.store(false, Ordering::SeqCst);
        let answers = self.senders.join_all().await.concat();
        let ids = answers.iter().map(|(id, _)| id.clone()).collect();
        let refused = answers.into_iter().filter(|(_, answer)| answer != "200");
        (ids, refused.collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_refuses_no_request_and_delivers_each_message_once() {
    let mut app = Application::start([]).await;
    let store = store_url();
    let places = [Place::new(), Place::new()];
    for place in &places {
        place.configure(&store, &app.url, 3, "");
    }
    let addresses = [places[0].address, places[1].address];
    let balancers = [
        Balancer::start(addresses),
        Balancer::start_without_retries(addresses),
    ];
    let wait_until = |server: &str, is_up| {
        for balancer in &balancers {
            balancer.wait_until(server, is_up);
        }
    };
    let mut gateways: Vec<Option<Serving>> = Vec::new();
    for (place, name) in places.iter().zip(["gw1", "gw2"]) {
        gateways.push(Some(place.start()));
        wait_until(name, true);
    }
    let urls = balancers
        .each_ref()
        .map(|balancer| format!("http://{}:8080/webhooks/production", balancer.address));
    let load = Load::start(&urls);
    for destination in ["", "concurrency = 5"] {
        for (place, gateway) in gateways.iter_mut().enumerate() {
            load.goes_on_for(50).await;
            places[place].configure(&store, &app.url, 3, destination);
            let (status, log) = tokio::task::block_in_place(|| gateway.take().unwrap().terminate());
            assert!(status.success(), "{log}");
            let name = ["gw1", "gw2"][place];
            wait_until(name, false);
            *gateway = Some(places[place].start());
            wait_until(name, true);
        }
    }
    load.goes_on_for(50).await;
    let (ids, refused) = load.stop().await;
    assert_eq!(refused, []);

    let mut delivered: BTreeMap<String, usize> = BTreeMap::new();
    while delivered.len() < ids.len() {
        let id = app.next().await.webhook_id().to_owned();
        *delivered.entry(id).or_default() += 1;
    }
    for gateway in gateways.into_iter().flatten() {
        gateway.terminate();
    }
    assert!(!app.has_more());
    assert!(delivered.values().all(|times| *times == 1), "{delivered:?}");
    assert!(delivered.keys().eq(ids.iter()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_to_stop_says_so_at_once_and_accepts_webhooks_for_a_while() {
    let app = Application::start([]).await;
    let place = Place::new();
    let store = format!("sqlite:{}/unwrapd.db", place.folder.path().display());
    place.configure(&store, &app.url, 2, "");
    let mut serving = place.start();
    assert_eq!(serving.readyz().await, (200, "ok\n".into()));
    serving.signal(Signal::TERM);
    serving.announced("stopping in 2 s");
    assert_eq!(serving.readyz().await, (503, "stopping\n".into()));
    serving.receive("wh_1", EventType::BatchCompleted).await;
    assert!(serving.died("drained").success());
}
