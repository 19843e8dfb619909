//! A disk that hangs: waiting requests are answered within a bound, and everything continues when
//! the disk answers again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openai_webhooks::EventType;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::rig::Rig;
use crate::shim::Shim;
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, write_config};
use crate::support::{Webhook, client};

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_108;
/// Number of webhooks that arrive while the disk hangs: more than may wait for a commit.
const FLOOD: usize = 3000;
const AT_ONCE: usize = 64;
/// The documented time within which a webhook is answered.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest time for the gateway to stop. A container gets more time, and deliveries have thirty
/// seconds to be settled.
const END_MAX: Duration = Duration::from_secs(20);

fn unwanted(rig: &Rig, id: &str) -> reqwest::RequestBuilder {
    let url = rig.doors.borrow()[0].url.clone();
    Webhook::new(id, EventType::ResponseCancelled)
        .request(&rig.client, &url)
        .timeout(ANSWER_MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_refused_while_the_disk_hangs_and_accepted_afterwards() {
    let rig = Rig::start(SEED).await;
    assert_eq!(unwanted(&rig, "wh_0").send().await.unwrap().status(), 200);
    rig.shim.hold();
    // The gateway notices the hang during the first request, and knows of it at the second.
    for number in 1..=2 {
        let answer = unwanted(&rig, &format!("wh_{number}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
    rig.says_why("disk of the store has not answered").await;

    // Changes whose callers have given up do not pile up: all requests are answered at once.
    let mut answers = JoinSet::new();
    for number in 0..FLOOD {
        if answers.len() == AT_ONCE {
            let status: u16 = answers.join_next().await.unwrap().unwrap();
            assert_eq!(status, 503);
        }
        let request = unwanted(&rig, &format!("wh_flood_{number}"));
        answers.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    assert!(answers.join_all().await.iter().all(|status| *status == 503));

    rig.shim.let_go();
    rig.is_ready().await;
    // A refused webhook may have been stored, and its copy is then a duplicate.
    for number in 0..=2 {
        let id = format!("wh_{number}");
        assert_eq!(unwanted(&rig, &id).send().await.unwrap().status(), 200);
        assert_eq!(rig.count(&id), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_does_not_hold_up_the_end() {
    let folder = TempDir::new().unwrap();
    // No server listens there.
    write_config(folder.path(), "http://127.0.0.1:9/");
    let shim = Shim::of(folder.path());
    let mut serving = Serving::start(folder.path(), &shim.environment());
    let client = client();
    let post = async |id: &str| {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        let answer = webhook.request(&client, &serving.url).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(post("wh_1").await, 200);
    shim.hold();
    assert_eq!(post("wh_2").await, 503);
    serving.signal(Signal::TERM);
    let status = serving.died("the disk hangs");
    assert!(status.success(), "{status}");

    shim.let_go();
    let serving = Serving::start(folder.path(), &shim.environment());
    let answer = Webhook::new("wh_1", EventType::BatchCompleted).request(&client, &serving.url);
    assert_eq!(answer.send().await.unwrap().status(), 200);
}

/// A delivery that was made cannot be settled. The gateway does not wait for its settlement as
/// usual.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_cannot_be_settled_does_not_hold_up_the_end() {
    let folder = TempDir::new().unwrap();
    let let_answer = Arc::new(Notify::new());
    let mut app = Application::start([Answer::WhenTold(Arc::clone(&let_answer))]).await;
    write_config(folder.path(), &app.url);
    let shim = Shim::of(folder.path());
    let mut serving = Serving::start(folder.path(), &shim.environment());
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(serving.post(&webhook).await, 200);
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    shim.hold();
    let_answer.notify_one();
    serving.signal(Signal::TERM);
    let began_at = Instant::now();
    let status = serving.died("the disk hangs");
    assert!(status.success(), "{status}");
    assert!(began_at.elapsed() < END_MAX, "{:?}", began_at.elapsed());

    shim.let_go();
    let serving = Serving::start(folder.path(), &shim.environment());
    assert_eq!(serving.post(&webhook).await, 200);
}

/// The gateway does not receive yet when it is told to stop.
#[tokio::test]
async fn a_disk_that_hangs_while_the_gateway_starts_does_not_hold_up_the_end() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), "http://127.0.0.1:9/");
    let shim = Shim::of(folder.path());
    shim.hold();
    let mut child = crate::support::process::unwrapd()
        .args(["serve", "--config"])
        .arg(folder.path().join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", crate::support::OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", crate::support::APP_SECRET)
        .envs(shim.environment())
        .spawn()
        .unwrap();
    shim.until("it opens the store", |now| now.held > 0).await;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
