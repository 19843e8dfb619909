//! The clock of a database jumps while gateways run, and jumps back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openai_webhooks::EventType;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::support::application::{Answer, Application};
use crate::support::postgres::Server;
use crate::support::process::{Serving, write_config_on};
use crate::support::wall_clock::WallClock;
use crate::support::{PATIENCE, client};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Number of attempts in progress when the clock jumps.
const HELD: usize = 4;
/// How often more is received meanwhile: each time, due deliveries are claimed.
const MORE: usize = 6;

fn start(folder: &Path) -> Serving {
    Serving::start(folder, &[])
}

async fn post(gateway: &Serving, id: &str) {
    gateway.receive(id, EventType::BatchCompleted).await;
}

async fn get(gateway: &Serving, path: &str) -> String {
    let url = format!("{}{path}", gateway.admin);
    let answer = client().get(url).send().await.unwrap();
    answer.text().await.unwrap()
}

async fn doubts(gateways: &[Serving], is_in_doubt: bool) {
    let deadline = Instant::now() + PATIENCE;
    for gateway in gateways {
        while gateway
            .readyz()
            .await
            .1
            .contains("the clock of the database")
            != is_in_doubt
        {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Attempts in progress are made once, waiting deliveries continue, and nothing is given up or
/// pruned.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_the_database_that_jumps_repeats_no_delivery_and_gives_none_up() {
    let shared = TempDir::new().unwrap();
    // The server runs as another user.
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let clock = WallClock::new(shared.path());
    let server = Server::start_with_clock(&clock);
    for off in [2 * HOUR, 31 * DAY, -2 * HOUR, -31 * DAY] {
        let release = Arc::new(Notify::new());
        let held = std::iter::repeat_n(Answer::WhenTold(Arc::clone(&release)), HELD);
        let failures = std::iter::repeat_n(Answer::Status(500), 2);
        let mut app = Application::start(held.chain(failures)).await;
        let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
        let store = server.url("postgres", &schema);
        let folder = TempDir::new().unwrap();
        let lines = "retry_first_seconds = 1\nretry_max_seconds = 1\ndeadline_hours = 1\n";
        write_config_on(folder.path(), &store, &app.url, lines);
        let gateways = [start(folder.path()), start(folder.path())];
        let mut delivered = BTreeSet::new();
        for number in 0..HELD {
            post(&gateways[number % 2], &format!("wh_held_{number}")).await;
            delivered.insert(app.next().await.webhook_id().to_owned());
        }
        assert_eq!(delivered.len(), HELD);

        clock.jump_to(off);
        doubts(&gateways, true).await;
        post(&gateways[0], "wh_fails").await;
        for _ in 0..3 {
            assert_eq!(app.next().await.webhook_id(), "wh_fails", "{off}");
        }
        for number in 0..MORE {
            let id = format!("wh_more_{number}");
            post(&gateways[number % 2], &id).await;
            assert_eq!(app.next().await.webhook_id(), id, "{off}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(
            !app.has_more(),
            "{off}: what is under way is not made again"
        );
        for _ in 0..HELD {
            release.notify_one();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A copy is recognised.
        post(&gateways[1], "wh_held_0").await;

        clock.jump_to(0);
        doubts(&gateways, false).await;
        post(&gateways[1], "wh_held_1").await;
        post(&gateways[1], "wh_after").await;
        assert_eq!(app.next().await.webhook_id(), "wh_after", "{off}");
        let dead: Value = serde_json::from_str(&get(&gateways[0], "/api/v1/dead").await).unwrap();
        assert_eq!(dead["letters"], Value::Array(Vec::new()), "{off}");
        for gateway in gateways {
            let (status, log) = gateway.terminate();
            assert!(status.success());
            assert!(!log.contains("came too late"), "{log}");
        }
        assert!(!app.has_more(), "{off}");
    }
}
