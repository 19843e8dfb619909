//! The unmodified official SDKs for Python and Node unwrap what `unwrapd serve` delivers to them.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use openai_webhooks::EventType;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Serving, write_config};
use crate::support::{APP_SECRET, Webhook, client};

/// An application that receives webhooks with an official SDK.
struct Peer {
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(name: &str) -> (Self, String) {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/peers/bin/{name}"));
        assert!(
            program.exists(),
            "{name} is not installed: run scripts/peers first"
        );
        let mut child = Command::new(program)
            .env("OPENAI_WEBHOOK_SECRET", APP_SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Self { child, told };
        let listening = peer.next()["listening"].as_str().unwrap().to_owned();
        (peer, listening)
    }

    fn next(&mut self) -> Value {
        let line = self.told.next().expect("it runs").unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn every_type_is_unwrapped_by(name: &str) {
    let (mut peer, url) = Peer::start(name);
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &url);
    let serving = Serving::start(folder.path(), &[]);
    let client = client();
    for event_type in EventType::ALL {
        let webhook = Webhook::new(&format!("wh_{event_type}").replace('.', "-"), *event_type);
        let answer = webhook.request(&client, &serving.url).send().await.unwrap();
        assert_eq!(answer.status(), 200);

        let told = peer.next();
        assert_eq!(told["ok"], true, "{event_type}: {told}");
        assert_eq!(told["type"], event_type.as_str());
        assert_eq!(told["webhook_id"], webhook.headers.id);
        let payload = told["payload_base64"].as_str().unwrap();
        assert_eq!(base64(&webhook.payload), payload);
    }
    assert!(serving.terminate().0.success());
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_for_python_unwraps_every_type_that_is_delivered() {
    every_type_is_unwrapped_by("python-receiver").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_for_node_unwraps_every_type_that_is_delivered() {
    every_type_is_unwrapped_by("node-receiver").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdks_that_know_the_old_secret_unwrap_while_it_is_exchanged() {
    for name in ["python-receiver", "node-receiver"] {
        let (mut peer, url) = Peer::start(name);
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), &url);
        let config = folder.path().join("unwrapd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace(
            "secret = { env = \"APP_WEBHOOK_SECRET\" }",
            "secrets = [{ env = \"NEW_SECRET\" }, { env = \"APP_WEBHOOK_SECRET\" }]",
        );
        std::fs::write(&config, text).unwrap();
        let new = "whsec_bmV3IHNlY3JldCBvZiB0aGUgYXBwbGljYXRpb24=";
        let serving = Serving::start(folder.path(), &[("NEW_SECRET", new)]);
        let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
        let answer = webhook
            .request(&client(), &serving.url)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let told = peer.next();
        assert_eq!(told["ok"], true, "{name}: {told}");
        assert!(serving.terminate().0.success());
    }
}
