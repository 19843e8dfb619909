//! Alerts: the gateway tells what is wrong with itself, to destinations that name its events.

#[cfg(feature = "server-tests")]
mod recipes;

use std::sync::Arc;

use openai_webhooks::{EventType, UnwrapWebhookEvent, Webhooks};
use serde_json::Value;
use tokio::sync::Notify;
use unwrapd::config::DestinationSettings;
use unwrapd::delivery::breaker::FAILURES_MAX;
use unwrapd::route::Patterns;

use crate::pipeline_events::Seen;
use crate::support::application::{Answer, Application, Delivered};
use crate::support::{APP_SECRET, TestGateway, Webhook, destination, until};

/// A destination for alerts only.
fn pager(name: &str, url: &str) -> DestinationSettings {
    DestinationSettings {
        events: Patterns::parse(["unwrapd.*"]).unwrap(),
        ..destination(name, url)
    }
}

/// The alert in a delivery, which must be signed like any other.
fn alert(delivered: &Delivered) -> Value {
    let webhooks = Webhooks::new(APP_SECRET).unwrap();
    let event = webhooks
        .unwrap(&delivered.payload, &delivered.headers)
        .unwrap();
    assert!(matches!(event, UnwrapWebhookEvent::Unknown(_)), "{event:?}");
    assert_eq!(delivered.headers["unwrapd-origin"], "gateway");
    serde_json::from_slice(&delivered.payload).unwrap()
}

async fn post(test: &TestGateway, number: u32) {
    let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);
}

/// A webhook that cannot be verified.
fn forged(number: u32) -> Webhook {
    Webhook::new(&format!("wh_forged_{number}"), EventType::BatchCompleted).forged()
}

/// A destination that fails until it is found to be down, and is up again for the first probe.
pub(crate) async fn failing() -> (Application, DestinationSettings) {
    let answers = vec![Answer::Status(500); FAILURES_MAX as usize];
    let application = Application::start(answers).await;
    let mut settings = DestinationSettings {
        events: Patterns::parse(["batch.*"]).unwrap(),
        ..destination("app", &application.url)
    };
    settings.limits.concurrency = 1;
    (application, settings)
}

/// As many webhooks as [`failing`] needs to be found down.
pub(crate) async fn post_until_down(test: &TestGateway) {
    for number in 0..FAILURES_MAX {
        post(test, number).await;
    }
}

/// A destination whose dead letters make alerts when the test wants one.
async fn probe() -> (Application, DestinationSettings) {
    let application = Application::start(vec![Answer::Status(410); 9]).await;
    let settings = DestinationSettings {
        events: Patterns::parse(["response.*"]).unwrap(),
        ..destination("probe", &application.url)
    };
    (application, settings)
}

/// Makes one alert about the probe, and checks that no other one was made before it.
async fn assert_no_alert_came(test: &TestGateway, pages: &mut Application) {
    let webhook = Webhook::new("wh_probe", EventType::ResponseCompleted);
    assert_eq!(test.post(&webhook).await, 200);
    let next = alert(&pages.next().await);
    assert_eq!(next["data"]["id"], "probe", "{next}");
}

#[tokio::test]
async fn a_destination_that_goes_down_and_comes_back_is_told_to_the_others_once() {
    let (_app, mut app) = failing().await;
    // It would get alerts about itself too.
    app.events = Patterns::parse(["batch.*", "unwrapd.destination.down"]).unwrap();
    let mut pages = Application::start([]).await;
    let (_application, probe) = probe().await;
    let test = TestGateway::start(vec![app, pager("pager", &pages.url), probe]).await;
    post_until_down(&test).await;
    let down = alert(&pages.next().await);
    assert_eq!(down["type"], "unwrapd.destination.down");
    assert_eq!(down["data"]["id"], "app");
    let reason = down["data"]["reason"].as_str().unwrap();
    assert!(reason.contains("500"), "{down}");
    // A loopback address leads readers elsewhere to another machine.
    assert_eq!(down["data"]["url"], Value::Null);
    let up = alert(&pages.next().await);
    assert_eq!(up["type"], "unwrapd.destination.up");
    assert_no_alert_came(&test, &mut pages).await;
    let stored = test.gateway.store().get_message("app", true).await.unwrap();
    let told: Vec<&str> = stored
        .iter()
        .flat_map(|message| &message.deliveries)
        .map(|delivery| &*delivery.destination)
        .collect();
    assert_eq!(told, ["pager", "pager"], "{stored:#?}");
    test.stop().await;
}

#[tokio::test]
async fn an_alert_links_the_page_about_its_subject() {
    let (_app, app) = failing().await;
    let mut pages = Application::start([]).await;
    let test = TestGateway::configured(vec![app, pager("pager", &pages.url)], |config| {
        config.admin_base_path = "/unwrapd".into();
        config.admin_url = Some("https://ops.example/unwrapd".into());
    })
    .await;
    for number in 0..10 {
        assert_eq!(test.post(&forged(number)).await, 401);
    }
    let failing = alert(&pages.next().await);
    post_until_down(&test).await;
    let down = alert(&pages.next().await);
    for (alert, path, title) in [
        (failing, "/unwrapd/refused", "<title>Refused "),
        (down, "/unwrapd/destinations/app", "<title>app "),
    ] {
        let url = format!("https://ops.example{path}");
        assert_eq!(alert["data"]["url"], url, "{alert}");
        let request = test.client().get(format!("{}{path}", test.admin()));
        let page = request.header("accept", "text/html").send().await.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        let page = page.text().await.unwrap();
        assert!(page.contains(title), "{path}: {page}");
    }
    test.stop().await;
}

#[tokio::test]
async fn dead_letters_are_told_with_their_number_and_those_of_alerts_are_not() {
    let app = Application::start(vec![Answer::Status(410); 3]).await;
    // Its own dead letter must not make another alert.
    let mut pages = Application::start([Answer::Status(410)]).await;
    let (_application, probe) = probe().await;
    let app = DestinationSettings {
        events: Patterns::parse(["batch.*"]).unwrap(),
        ..destination("app", &app.url)
    };
    let test = TestGateway::start(vec![app, pager("pager", &pages.url), probe]).await;
    post(&test, 1).await;
    let dead = alert(&pages.next().await);
    assert_eq!(dead["type"], "unwrapd.delivery.dead");
    let (subject, count) = (&dead["data"]["id"], &dead["data"]["count"]);
    assert_eq!((subject, count), (&"app".into(), &1.into()));
    let mut seen = Seen::by(&test);
    post(&test, 2).await;
    seen.next("settled").await;
    assert_no_alert_came(&test, &mut pages).await;
    test.stop().await;
}

/// The deliveries under way at a stop may become dead letters when no task waits for alerts any more.
#[tokio::test]
async fn an_alert_of_the_last_moments_of_a_stop_is_delivered_after_the_next_start() {
    let allowed = Arc::new(Notify::new());
    let refused = Answer::StatusWhenTold(410, Arc::clone(&allowed));
    let mut app = Application::start([refused]).await;
    let mut pages = Application::start([]).await;
    let of_app = DestinationSettings {
        events: Patterns::parse(["batch.*"]).unwrap(),
        ..destination("app", &app.url)
    };
    let settings = vec![of_app, pager("pager", &pages.url)];
    let test = TestGateway::start(settings.clone()).await;
    post(&test, 1).await;
    app.next().await;
    let (client, url) = (test.client().clone(), test.url("production"));
    let answer = async {
        until("the ports are closed", async || {
            client.get(&url).send().await.is_err()
        })
        .await;
        allowed.notify_one();
    };
    let (folder, ()) = tokio::join!(test.stop(), answer);
    assert!(!pages.has_more());
    let test = TestGateway::start_in(folder, settings).await;
    let dead = alert(&pages.next().await);
    assert_eq!(dead["type"], "unwrapd.delivery.dead");
    assert_eq!(dead["data"]["id"], "app");
    test.stop().await;
}

#[tokio::test]
async fn a_run_of_requests_that_cannot_be_verified_is_told_once() {
    let mut pages = Application::start([]).await;
    let (_application, probe) = probe().await;
    let test = TestGateway::start(vec![pager("pager", &pages.url), probe]).await;
    for number in 0..30 {
        assert_eq!(test.post(&forged(number)).await, 401);
    }
    let failing = alert(&pages.next().await);
    assert_eq!(failing["type"], "unwrapd.endpoint.failing");
    assert_eq!(failing["data"]["id"], "production");
    assert_no_alert_came(&test, &mut pages).await;
    test.stop().await;
}

#[tokio::test]
async fn a_star_means_the_events_of_openai_and_no_alerts() {
    let mut app = Application::start([]).await;
    let mut pages = Application::start([]).await;
    let (_application, probe) = probe().await;
    let app_settings = destination("app", &app.url);
    let test = TestGateway::start(vec![app_settings, pager("pager", &pages.url), probe]).await;
    assert_no_alert_came(&test, &mut pages).await;
    assert!(!app.next().await.headers.contains_key("unwrapd-origin"));
    test.stop().await;
    assert!(!app.has_more());
}
