//! A disk that fails between a delivery and its settlement: the delivery is settled when possible,
//! or made again.

use std::sync::Arc;

use fastrand::Rng;
use openai_webhooks::EventType;
use rustix::io::Errno;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::power;
use crate::shim::{Fault, SYNC, Shim};
use crate::support::Webhook;
use crate::support::application::{Answer, Application, Delivered};
use crate::support::process::{Serving, write_config};

/// A gateway with one delivered webhook, whose disk has failed since.
struct Unsettled {
    folder: TempDir,
    shim: Shim,
    application: Application,
    serving: Serving,
    webhook: Webhook,
}

impl Unsettled {
    async fn reach() -> Self {
        let told = Arc::new(Notify::new());
        let mut application = Application::start([Answer::WhenTold(Arc::clone(&told))]).await;
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), &application.url);
        let shim = Shim::of(folder.path());
        let serving = start(&folder, &shim);
        let webhook = Webhook::new("wh_1", EventType::ResponseCompleted);
        assert_eq!(serving.post(&webhook).await, 200);
        is_delivery_of(&webhook, &application.next().await);

        shim.inject(&Fault::new(SYNC, Errno::IO));
        told.notify_one();
        shim.until("the settlement fails", |now| now.faults > 0)
            .await;
        Self {
            folder,
            shim,
            application,
            serving,
            webhook,
        }
    }
}

fn is_delivery_of(webhook: &Webhook, delivered: &Delivered) {
    assert_eq!(delivered.webhook_id(), "wh_1");
    assert_eq!(delivered.payload, webhook.payload.as_bytes());
    assert!(delivered.verified().is_ok());
}

fn start(folder: &TempDir, shim: &Shim) -> Serving {
    Serving::start(folder.path(), &shim.environment())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_settlement_is_stored_when_the_disk_works_again() {
    let mut unsettled = Unsettled::reach().await;
    unsettled.shim.lift();
    let syncs = unsettled.shim.counters().syncs;
    unsettled
        .shim
        .until("it is settled", |now| now.syncs > syncs)
        .await;
    let (status, _) = unsettled.serving.terminate();
    assert!(status.success());
    assert!(!unsettled.application.has_more());

    let mut serving = start(&unsettled.folder, &unsettled.shim);
    let next = Webhook::new("wh_2", EventType::ResponseCompleted);
    assert_eq!(serving.post(&next).await, 200);
    assert_eq!(unsettled.application.next().await.webhook_id(), "wh_2");
    serving.signal(Signal::KILL);
    serving.died("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_cannot_be_settled_is_delivered_again() {
    let mut unsettled = Unsettled::reach().await;
    unsettled.serving.signal(Signal::KILL);
    unsettled.serving.died("killed");
    unsettled.shim.lift();
    let (shim, folder) = (&unsettled.shim, &unsettled.folder);
    power::cut(
        &folder.path().join("unwrapd.db"),
        shim.images(),
        &mut Rng::with_seed(1),
    );

    let _serving = start(folder, shim);
    let again = unsettled.application.next().await;
    is_delivery_of(&unsettled.webhook, &again);
}
