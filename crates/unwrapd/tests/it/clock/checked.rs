//! Applications that check the time of a signature, as the official SDKs do.

use std::collections::BTreeSet;

use openai_webhooks::EventType;
use tempfile::TempDir;

use super::asked::found;
use super::{DAY, HOUR, Place, dead, doubts, post};
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, write_config_on};
use crate::support::tls_server::{self, self_signed};
use crate::support::wall_clock::WallClock;
use crate::support::{Webhook, client, openai, postgres, unix_now, until};

fn place(app: &Application, attempts_max: u32) -> Place {
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}/unwrapd.db", folder.path().display());
    let lines = format!("attempts_max = {attempts_max}\n");
    Place::with(folder, &store, &app.url, &lines)
}

/// A gateway that has sent this webhook once before its clock jumped.
async fn jump_after(place: &Place, app: &mut Application, id: &str, off: i64) -> Serving {
    let serving = place.start();
    post(&serving, id, 0).await;
    assert_eq!(app.next().await.webhook_id(), id);
    place.jump_to(off);
    doubts(&serving, true).await;
    serving
}

/// A caller waits for seconds, and some applications get only one attempt.
#[tokio::test(flavor = "multi_thread")]
async fn messages_received_while_the_clock_is_wrong_are_signed_at_the_right_time() {
    for off in [2 * HOUR, -2 * HOUR, 31 * DAY, -31 * DAY] {
        let mut app = Application::start(std::iter::repeat_n(Answer::IfVerified, 100)).await;
        let place = place(&app, 1);
        let serving = jump_after(&place, &mut app, "wh_before", off).await;
        let mut call = Webhook::new("wh_call", EventType::RealtimeCallIncoming);
        call.headers = openai().sign(&call.payload, "wh_call", unix_now()).unwrap();
        assert_eq!(serving.post(&call).await, 200);
        post(&serving, "wh_during", 0).await;
        for id in ["wh_call", "wh_during"] {
            let delivery = app.next().await;
            assert_eq!(delivery.webhook_id(), id, "{off}");
            assert!(delivery.verified().is_ok(), "{off}");
        }
        place.jump_to(0);
        doubts(&serving, false).await;
        post(&serving, "wh_after", 0).await;
        let delivery = app.next().await;
        assert_eq!(delivery.webhook_id(), "wh_after", "{off}");
        assert!(delivery.verified().is_ok(), "{off}");
        assert_eq!(dead(&serving).await, BTreeSet::new(), "{off}");
    }
}

/// Anyone who has seen a webhook can send it again, at the time that the wrong clock shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_known_webhook_does_not_show_the_time() {
    let off = 31 * DAY;
    let mut app = Application::start(std::iter::repeat_n(Answer::IfVerified, 100)).await;
    let place = place(&app, 3);
    let serving = place.start();
    let held_back = Webhook::new("wh_held_back", EventType::BatchCompleted);
    let at = async |time: i64| {
        let mut copy = held_back.clone();
        copy.headers = openai().sign(&copy.payload, "wh_held_back", time).unwrap();
        assert_eq!(serving.post(&copy).await, 200);
    };
    at(unix_now()).await;
    app.next().await;
    place.jump_to(off);
    doubts(&serving, true).await;
    post(&serving, "wh_during", 0).await;
    assert!(app.next().await.verified().is_ok());
    at(unix_now() + off).await;
    let test = format!("{}/api/v1/destinations/app/test", serving.admin);
    let tested = client()
        .post(test)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(tested.contains(r#""outcome":"delivered""#), "{tested}");
    place.jump_to(0);
}

/// At that time it is unknown which of the two clocks is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_waiting_at_a_jump_of_the_clock_is_not_given_up_for_its_signature() {
    for off in [2 * HOUR, -31 * DAY] {
        let later = Answer::RetryAfter(503, "1");
        let answers = [later.clone(), later]
            .into_iter()
            .chain(std::iter::repeat_n(Answer::IfVerified, 100));
        let mut app = Application::start(answers).await;
        let place = place(&app, 3);
        let serving = jump_after(&place, &mut app, "wh_waits", off).await;
        loop {
            let delivery = app.next().await;
            assert_eq!(delivery.webhook_id(), "wh_waits", "{off}");
            if delivery.verified().is_ok() {
                break;
            }
        }
        assert_eq!(dead(&serving).await, BTreeSet::new(), "{off}");
        let (status, _) = serving.terminate();
        assert!(status.success());
    }
}

/// On a clock that is wrong by years, every certificate has expired or is not valid yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_by_the_right_time() {
    for off in [1500 * DAY, -1500 * DAY] {
        let place = TlsPlace::new();
        let folder = place.folder.path();
        place.configure(&format!("sqlite:{}/unwrapd.db", folder.display()));
        // For the whole process, unlike the clock of the other tests.
        let clock = WallClock::new(folder);
        let serving = place.start(&clock);
        clock.jump_to(off);
        doubts(&serving, true).await;
        delivers(&serving).await;
    }
}

#[cfg_attr(
    not(feature = "server-tests"),
    ignore = "needs PostgreSQL: run scripts/test"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_by_the_clock_of_the_database() {
    let place = TlsPlace::new();
    let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
    place.configure(&postgres::shared().url("postgres", &schema));
    let clock = WallClock::new(place.folder.path());
    clock.jump_to(1500 * DAY);
    delivers(&place.start(&clock)).await;
}

/// A folder for a gateway whose destination has a certificate that is valid for a few years.
struct TlsPlace {
    folder: TempDir,
    url: String,
}

impl TlsPlace {
    fn new() -> Self {
        let year = i32::try_from(1970 + unix_now() / (365 * DAY)).unwrap();
        let server = self_signed(Some((year - 1, year + 2)));
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), server.0.pem()).unwrap();
        let url = format!("https://localhost:{}/", tls_server::serve(&server).port());
        Self { folder, url }
    }

    fn configure(&self, store: &str) {
        write_config_on(self.folder.path(), store, &self.url, "ca = \"ca.pem\"");
    }

    fn start(&self, clock: &WallClock) -> Serving {
        let environment = clock.environment();
        let environment = environment
            .each_ref()
            .map(|(name, value)| (*name, &**value));
        Serving::start(self.folder.path(), &environment)
    }
}

/// Sends a webhook, and waits until the application has it.
async fn delivers(serving: &Serving) {
    let webhook = Webhook::with_payload("wh_tls", "{}");
    assert_eq!(serving.post(&webhook).await, 200);
    until("it is delivered", async || {
        found(serving, "status=delivered").await > 0
    })
    .await;
}
