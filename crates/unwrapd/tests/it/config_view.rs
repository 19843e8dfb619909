//! The configuration as it was loaded, as operators see it.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Serving, write_destinations};
use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE, client, described_answer};

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_shows_the_source_of_each_value_and_no_secret() {
    let folder = TempDir::new().unwrap();
    let destinations = r#"
[[destination]]
name = "app"
url = "http://127.0.0.1:9/webhook?key=hidden"
secret = { env = "APP_WEBHOOK_SECRET" }
rate = 50
[[destination]]
name = "script"
command = ["true", "hidden"]
"#;
    write_destinations(folder.path(), destinations);
    let serving = Serving::start(folder.path(), &[]);
    let url = format!("{}/api/v1/config", serving.admin);
    let config = async || {
        let (status, body) = described_answer(client().get(&url)).await;
        assert_eq!(status, 200);
        String::from_utf8(body).unwrap()
    };
    let text = config().await;
    for secret in [OPENAI_SECRET, APP_SECRET, "hidden"] {
        assert!(!text.contains(secret), "{text}");
    }
    let shown: Value = serde_json::from_str(&text).unwrap();
    let file = folder.path().join("unwrapd.toml");
    assert_eq!(shown["file"], file.to_str().unwrap());
    let setting = |shown: &Value, table: &str, name: Option<&str>, key: &str| {
        let mut tables = shown["tables"].as_array().unwrap().iter();
        let found = tables.find(|one| one["table"] == table && one["name"].as_str() == name);
        let mut settings = found.unwrap()["settings"].as_array().unwrap().iter();
        settings.find(|one| one["key"] == key).unwrap().clone()
    };
    // The line of a key, as people count.
    let written = std::fs::read_to_string(&file).unwrap();
    let line = |start: &str| {
        let mut lines = written.lines();
        lines
            .position(|line| line.trim_start().starts_with(start))
            .unwrap()
            + 1
    };
    let rate = setting(&shown, "destination", Some("app"), "rate");
    assert_eq!(
        (&rate["value"], &rate["line"]),
        (&50.into(), &line("rate").into())
    );
    let timeout = setting(&shown, "destination", Some("app"), "timeout_seconds");
    assert_eq!(
        (&timeout["value"], &timeout["line"]),
        (&15.into(), &Value::Null)
    );
    let secrets = setting(&shown, "endpoint", Some("production"), "secrets");
    assert_eq!(secrets["value"], serde_json::json!(["[redacted]"]));
    assert_eq!(secrets["line"], line("secrets"));
    let from = "the environment variable OPENAI_WEBHOOK_SECRET";
    assert_eq!(secrets["secrets_from"], serde_json::json!([from]));
    let format = setting(&shown, "log", None, "format");
    assert_eq!(
        (&format["value"], &format["line"]),
        (&"human".into(), &Value::Null)
    );

    // A reload shows the new values, and those that must wait for a restart.
    let changed = written
        .replace("rate = 50", "rate = 60")
        .replace("[store]", "connections_max = 100\n[store]");
    std::fs::write(&file, changed).unwrap();
    serving.signal(rustix::process::Signal::HUP);
    let until = tokio::time::Instant::now() + PATIENCE;
    let shown = loop {
        let shown: Value = serde_json::from_str(&config().await).unwrap();
        if setting(&shown, "destination", Some("app"), "rate")["value"] == 60 {
            break shown;
        }
        assert!(tokio::time::Instant::now() < until, "{shown}");
    };
    let after_restart = shown["after_restart"].to_string();
    assert!(after_restart.contains("connections_max"), "{after_restart}");
}
