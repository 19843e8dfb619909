//! The official SDKs for Python and Node use the mock by its base URL alone. Their programs receive
//! webhooks, and fail at the first surprise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::path::{Path, PathBuf};

use tokio::process::Command;
use unwrapd_mock::{Mock, Settings};

/// A file of the installation by `scripts/peers`.
fn installed(name: &str) -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers");
    let file = peers.join(name);
    assert!(file.exists(), "{name} is missing: run scripts/peers first");
    file
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdks")
        .join(name)
}

/// Runs a program against a mock on which a minute takes a second.
async fn run(mut command: Command) {
    let mut settings = Settings::default();
    settings.speed = 60;
    let mock = Mock::start(settings).await.unwrap();
    command
        .env("OPENAI_BASE_URL", mock.base_url())
        .env("OPENAI_API_KEY", "any")
        .env("MOCK", format!("http://{}/_mock", mock.address()))
        .env_remove("OPENAI_WEBHOOK_SECRET")
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_for_python_works_by_its_base_url_alone() {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(program("application.py"));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_for_node_works_by_its_base_url_alone() {
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", installed("node/node_modules"))
        .arg(program("application.js"));
    run(command).await;
}
