//! kill −9 between any two steps: a webhook that was answered with 200 is still delivered.

use std::collections::{BTreeMap, BTreeSet};

use openai_webhooks::EventType;
use tempfile::TempDir;
use unwrapd::crash::CrashPoint;

use crate::support::application::Application;
use crate::support::process::{Serving, write_config};
use crate::support::{Webhook, client};

const WEBHOOKS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_no_acknowledged_webhook() {
    for &point in CrashPoint::SQLITE {
        // At the first webhook, and in the middle.
        for pass in [1, 5] {
            kill_at(point, pass).await;
        }
    }
}

async fn kill_at(point: CrashPoint, pass: u32) {
    let case = format!("{point}:{pass}");
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &app.url);
    let client = client();
    let sent: BTreeMap<String, Webhook> = (0..WEBHOOKS)
        .map(|number| {
            let id = format!("wh_{number}");
            (id.clone(), Webhook::new(&id, EventType::ALL[number]))
        })
        .collect();

    let mut serving = Serving::start(folder.path(), &[("UNWRAPD_CRASH_AT", &case)]);
    let mut acknowledged = BTreeSet::new();
    for (id, webhook) in &sent {
        let answer = webhook.request(&client, &serving.url).send().await;
        if answer.is_ok_and(|answer| answer.status() == 200) {
            acknowledged.insert(id.clone());
        }
    }
    let status = serving.died(&case);
    assert!(!status.success(), "{case}");

    let serving = Serving::start(folder.path(), &[]);
    let mut delivered = BTreeSet::new();
    // OpenAI sends unacknowledged webhooks again, and only those.
    for (id, webhook) in &sent {
        if !acknowledged.contains(id) {
            let answer = webhook.request(&client, &serving.url).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{case}: {id}");
        }
    }
    while delivered.len() < WEBHOOKS {
        let delivery = app.next().await;
        let id = delivery.webhook_id().to_owned();
        assert_eq!(delivery.payload, sent[&id].payload, "{case}: {id}");
        assert!(delivery.verified().is_ok(), "{case}: {id}");
        delivered.insert(id);
    }
    let (status, _) = serving.terminate();
    assert!(status.success());
    assert_eq!(delivered, sent.into_keys().collect(), "{case}");
}
