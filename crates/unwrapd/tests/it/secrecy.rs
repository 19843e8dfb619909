//! No output of the gateway contains a secret or a payload.

use openai_webhooks::EventType;
use tempfile::TempDir;
use unwrapd::message::Message;

use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, assert_contains, destination_table, write_destinations};
use crate::support::{APP_SECRET, OPENAI_SECRET, Webhook, client};

#[tokio::test(flavor = "multi_thread")]
async fn the_most_verbose_log_holds_no_secret_no_signature_and_no_payload() {
    for format in ["human", "json"] {
        the_log_is_discreet(format).await;
    }
}

async fn the_log_is_discreet(format: &str) {
    let mut app = Application::start([Answer::Status(500)]).await;
    let folder = TempDir::new().unwrap();
    let tables = format!(
        "{}[log]\nformat = \"{format}\"\n",
        destination_table("app", &app.url, "")
    );
    write_destinations(folder.path(), &tables);
    let serving = Serving::start(folder.path(), &[("UNWRAPD_LOG", "trace,unwrapd=trace")]);
    let url = format!("{}?token=private", serving.url);

    let genuine = Webhook::with_payload(
        "wh_1",
        EventType::ResponseFailed
            .sample()
            .replace("resp_abc123", "private-payload"),
    );
    let mut forged = genuine.clone();
    forged.payload = forged.payload.replace("private", "changed");
    let not_an_event = Webhook::with_payload("wh_2", r#"{"type": "private-payload"}"#);
    let client = client();
    for (webhook, status) in [(&genuine, 200), (&forged, 401), (&not_an_event, 200)] {
        let answer = webhook.request(&client, &url).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(!answer.text().await.unwrap().contains("private"));
    }
    let mut signatures = vec![genuine.headers.signature.clone()];
    for _ in 0..3 {
        let delivered = app.next().await;
        signatures.push(
            delivered.headers["webhook-signature"]
                .to_str()
                .unwrap()
                .to_owned(),
        );
    }
    let (status, log) = tokio::task::block_in_place(|| serving.terminate());
    assert!(status.success());
    assert_contains(
        &log,
        &[
            "no signature matches",
            "accepted a webhook",
            "not delivered yet",
            "delivered: HTTP 200",
        ],
    );
    let secrets = [OPENAI_SECRET, APP_SECRET].map(|secret| secret.trim_start_matches("whsec_"));
    let signatures = signatures
        .iter()
        .map(|signature| signature.trim_start_matches("v1,"));
    let hidden = ["private", "changed-payload"]
        .into_iter()
        .chain(secrets)
        .chain(signatures);
    for hidden in hidden {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

#[test]
fn debug_output_of_a_message_holds_no_payload() {
    let webhook = Webhook::with_payload("wh_1", "private-payload");
    let openai = crate::support::openai();
    let payload = bytes::Bytes::from(webhook.payload);
    let verified = openai.verify_signature(&payload, &webhook.headers).unwrap();
    let message = Message::new("production", &verified, &payload, jiff::Timestamp::now());
    assert!(!format!("{message:?} {verified:?}").contains("private"));
}
