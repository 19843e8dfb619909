//! A real Prometheus, which scrapes one gateway every fifth of a second.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::keeper::Keeper;
use super::{PATIENCE, client, loopback};

pub struct Prometheus {
    url: String,
    folder: TempDir,
    _keeper: Keeper,
}

impl Prometheus {
    /// Starts it for the gateway with this admin port.
    pub fn start(admin: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let config = format!(
            "scrape_configs:\n  - job_name: unwrapd\n    scrape_interval: 200ms\n    \
             static_configs:\n      - targets: [\"{admin}\"]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let address = format!("{}:9090", loopback());
        // Prometheus ends with the test process, however that ends.
        let script = r#"
            prometheus --config.file="$1/prometheus.yml" --storage.tsdb.path="$1/data" \
                --web.listen-address="$2" >"$1/log" 2>&1 </dev/null &
            prometheus=$!
            read -r _
            kill $prometheus
            wait $prometheus
        "#;
        let arguments = [folder.path().as_os_str(), address.as_ref()];
        let keeper = Keeper::start(Command::new("/bin/sh"), script, arguments);
        Self {
            url: format!("http://{address}"),
            folder,
            _keeper: keeper,
        }
    }

    /// The result of a query at this moment: one value for each series. Waits until Prometheus has
    /// started. Panics if the query is an error.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = client()
                .post(format!("{}/api/v1/query", self.url))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!("query={}", percent_encoded(query)))
                .send()
                .await;
            let answer = match asked {
                Ok(answer) if answer.status() != 503 => answer,
                not_yet => {
                    let log = || std::fs::read_to_string(self.folder.path().join("log"));
                    assert!(
                        Instant::now() < deadline,
                        "{not_yet:?}: {:?}; is prometheus installed?",
                        log()
                    );
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            };
            let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            return answer["data"]["result"].as_array().unwrap().clone();
        }
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    encoded
}
