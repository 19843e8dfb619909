//! The scripts of the guide, run by a gateway against servers that stand in for Slack and `PagerDuty`.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::destinations::command::CommandSettings;
use unwrapd::destinations::{DestinationSettings, Kind};
use unwrapd::route::Patterns;

use super::{failing, post_until_down};
use crate::support::TestGateway;
use crate::support::application::Application;

/// A pager that runs one of the scripts with these arguments.
fn recipe(script: &str, arguments: &[&str]) -> DestinationSettings {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/alerts");
    let settings = CommandSettings {
        program: PathBuf::from(scripts).join(script).display().to_string(),
        arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
    };
    let mut pager = DestinationSettings {
        events: Patterns::parse(["unwrapd.*"]).unwrap(),
        ..DestinationSettings::of("pager", Kind::Command(settings))
    };
    pager.limits.concurrency = 1;
    pager
}

/// The bodies of what a script sends while a destination goes down and comes back.
async fn sent_by(pager: DestinationSettings, service: &mut Application) -> [Value; 2] {
    let (_app, app) = failing().await;
    let test = TestGateway::configured(vec![app, pager], |config| {
        config.admin_url = Some("https://ops.example".into());
    })
    .await;
    post_until_down(&test).await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let request = service.next().await;
        bodies.push(serde_json::from_slice(&request.payload).unwrap());
    }
    test.stop().await;
    bodies.try_into().unwrap()
}

#[tokio::test]
async fn slack_gets_a_line_for_each_alert() {
    let mut slack = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("slack.url");
    std::fs::write(&file, format!("{}\n", slack.url)).unwrap();
    let pager = recipe("slack.sh", &[file.to_str().unwrap()]);
    let [down, up] = sent_by(pager, &mut slack).await;
    let text = |body: &Value| body["text"].as_str().unwrap().to_owned();
    let down = text(&down);
    assert!(
        down.starts_with(":red_circle: Destination *app* is down: "),
        "{down}"
    );
    assert!(down.contains("500"), "{down}");
    assert!(
        down.ends_with(" <https://ops.example/destinations/app|Open>"),
        "{down}"
    );
    let up = text(&up);
    assert!(
        up.starts_with(":large_green_circle: Destination *app* is up again"),
        "{up}"
    );
}

#[tokio::test]
async fn pagerduty_opens_an_incident_and_resolves_the_same() {
    let mut pagerduty = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let pager = recipe("pagerduty.sh", &[file.to_str().unwrap(), &pagerduty.url]);
    let [down, up] = sent_by(pager, &mut pagerduty).await;
    for (body, action) in [(&down, "trigger"), (&up, "resolve")] {
        assert_eq!(body["event_action"], action, "{body}");
        assert_eq!(body["routing_key"], "0123456789abcdef", "{body}");
        assert_eq!(body["dedup_key"], "unwrapd/destination/app", "{body}");
        assert_eq!(body["payload"]["source"], json!("app"), "{body}");
        let link = &body["links"][0]["href"];
        assert_eq!(link, "https://ops.example/destinations/app", "{body}");
    }
    assert_eq!(down["payload"]["severity"], "critical");
}
