//! Gateways, as processes, whose wall clock jumps while they run, between two starts, or all the
//! time.

mod asked;
mod checked;

use std::collections::BTreeSet;
use std::path::PathBuf;

use openai_webhooks::EventType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, unwrapd, write_config_on};
use crate::support::{Webhook, ask, client, openai, postgres, unix_now, until};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Retries within a second; deliveries are given up after an hour.
const QUICK: &str = "
    retry_first_seconds = 1
    retry_max_seconds = 1
    deadline_hours = 1
";

/// A folder with a configuration, and a clock for its gateway.
struct Place {
    folder: TempDir,
    clock: PathBuf,
}

impl Place {
    fn new(app: &Application) -> Self {
        let folder = TempDir::new().unwrap();
        let store = format!("sqlite:{}/unwrapd.db", folder.path().display());
        Self::on(folder, &store, app)
    }

    fn on(folder: TempDir, store: &str, app: &Application) -> Self {
        Self::with(folder, store, &app.url, "")
    }

    /// With these additional lines for the destination.
    fn with(folder: TempDir, store: &str, url: &str, lines: &str) -> Self {
        write_config_on(folder.path(), store, url, &format!("{QUICK}{lines}"));
        let clock = folder.path().join("clock");
        let place = Self { folder, clock };
        place.jump_to(0);
        place
    }

    /// Shifts the wall clock of the gateway by this number of seconds.
    fn jump_to(&self, seconds: i64) {
        let new = self.folder.path().join("clock.new");
        std::fs::write(&new, (seconds * 1000).to_string()).unwrap();
        std::fs::rename(new, &self.clock).unwrap();
    }

    fn start(&self) -> Serving {
        let clock = self.clock.to_str().unwrap();
        Serving::start(self.folder.path(), &[("UNWRAPD_CLOCK_SHIFT", clock)])
    }
}

/// A webhook from a sender whose clock is shifted by `off` seconds.
fn webhook(id: &str, off: i64) -> Webhook {
    let mut webhook = Webhook::new(id, EventType::BatchCompleted);
    let time = unix_now() + off;
    webhook.headers = openai().sign(&webhook.payload, id, time).unwrap();
    webhook
}

async fn post(serving: &Serving, id: &str, off: i64) {
    assert_eq!(serving.post(&webhook(id, off)).await, 200, "{id}");
}

async fn readyz(serving: &Serving) -> String {
    serving.readyz().await.1
}

/// Waits until `/readyz` reports that the clock is in doubt, or that it is not.
async fn doubts(serving: &Serving, is_in_doubt: bool) {
    until("/readyz says whether the clock is in doubt", async || {
        readyz(serving).await.contains("the clock of") == is_in_doubt
    })
    .await;
}

/// The ids of the dead letters.
async fn dead(serving: &Serving) -> BTreeSet<String> {
    let url = format!("{}/api/v1/dead", serving.admin);
    let answer = client().get(url).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let letters = answer["letters"].as_array().unwrap().iter();
    letters
        .map(|letter| letter["webhook_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn dies(serving: &Serving, id: &str) {
    until(&format!("{id} dies"), async || {
        dead(serving).await.contains(id)
    })
    .await;
}

/// One delivery is given up at once, and then attempts fail for some seconds: pruning runs every
/// five.
fn answers() -> impl Iterator<Item = Answer> {
    std::iter::once(Answer::Status(410)).chain(std::iter::repeat_n(Answer::Status(500), 9))
}

/// A clock that is wrong for some seconds destroys nothing: earlier messages, failing deliveries,
/// and known ids.
async fn assert_nothing_is_destroyed(off: i64, restarts: bool) {
    let mut app = Application::start(answers()).await;
    let place = Place::new(&app);
    let mut serving = place.start();
    post(&serving, "wh_dead", 0).await;
    assert_eq!(app.next().await.webhook_id(), "wh_dead");
    dies(&serving, "wh_dead").await;
    assert!(!readyz(&serving).await.contains("the clock of"));

    place.jump_to(off);
    if restarts {
        let (status, _) = serving.terminate();
        assert!(status.success());
        serving = place.start();
    }
    doubts(&serving, true).await;
    post(&serving, "wh_fails", off).await;
    for _ in 0..9 {
        assert_eq!(app.next().await.webhook_id(), "wh_fails", "{off}");
    }
    assert_eq!(
        app.next().await.webhook_id(),
        "wh_fails",
        "and then it is delivered"
    );
    // A copy is recognised, during the jump and afterwards.
    post(&serving, "wh_dead", off).await;
    place.jump_to(0);
    doubts(&serving, false).await;
    for id in ["wh_dead", "wh_fails", "wh_after"] {
        post(&serving, id, 0).await;
    }
    assert_eq!(app.next().await.webhook_id(), "wh_after", "{off}: no copy");
    assert_eq!(dead(&serving).await, BTreeSet::from(["wh_dead".to_owned()]));
    let (status, log) = serving.terminate();
    assert!(status.success());
    assert!(log.contains("the clock of this machine is "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_for_some_seconds_destroys_nothing() {
    tokio::join!(
        assert_nothing_is_destroyed(31 * DAY, false),
        assert_nothing_is_destroyed(400 * DAY, false),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_at_a_start_destroys_nothing() {
    tokio::join!(
        assert_nothing_is_destroyed(31 * DAY, true),
        assert_nothing_is_destroyed(400 * DAY, true),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_destroys_nothing() {
    tokio::join!(
        assert_nothing_is_destroyed(-2 * HOUR, false),
        assert_nothing_is_destroyed(-2 * HOUR, true),
        assert_nothing_is_destroyed(-400 * DAY, true),
    );
}

/// Neither a sender with a right clock is refused by a gateway whose clock has just jumped, nor a
/// sender with the same wrong clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_sent_now_is_accepted_while_the_clock_is_wrong() {
    for off in [31 * DAY, -31 * DAY, 2 * HOUR, -2 * HOUR] {
        let mut app = Application::start([]).await;
        let place = Place::new(&app);
        let serving = place.start();
        post(&serving, "wh_before", 0).await;
        place.jump_to(off);
        doubts(&serving, true).await;
        post(&serving, "wh_right", 0).await;
        post(&serving, "wh_same", off).await;
        for id in ["wh_before", "wh_right", "wh_same"] {
            assert_eq!(app.next().await.webhook_id(), id);
        }
        let (status, _) = serving.terminate();
        assert!(status.success());
        // Within a boot, the next process has the same information.
        let serving = place.start();
        doubts(&serving, true).await;
        post(&serving, "wh_restarted", 0).await;
        post(&serving, "wh_restarted_same", off).await;
        for id in ["wh_restarted", "wh_restarted_same"] {
            assert_eq!(app.next().await.webhook_id(), id);
        }
        for old in [off / 2, off - 600, off + 600, 600, -600] {
            assert_eq!(serving.post(&webhook("wh_old", old)).await, 401, "{old}");
        }
    }
}

/// After a start within a boot, the passed time is known: a clock that has jumped neither gives up
/// a call nor delivers it hours late.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_call_survives_a_restart() {
    let mut app = Application::start([Answer::Hang]).await;
    let place = Place::new(&app);
    let serving = place.start();
    let mut call = Webhook::new("wh_call", EventType::RealtimeCallIncoming);
    call.headers = openai().sign(&call.payload, "wh_call", unix_now()).unwrap();
    assert_eq!(serving.post(&call).await, 200);
    assert_eq!(app.next().await.webhook_id(), "wh_call");
    drop(serving);
    place.jump_to(31 * DAY);
    let serving = place.start();
    doubts(&serving, true).await;
    assert_eq!(app.next().await.webhook_id(), "wh_call");
    assert_eq!(dead(&serving).await, BTreeSet::new());
}

/// Dead letters selected by age are not dropped because of a clock that has just jumped.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_makes_no_dead_letter_old_enough_to_be_dropped() {
    let app = Application::start([Answer::Status(410)]).await;
    let place = Place::new(&app);
    let serving = place.start();
    post(&serving, "wh_dead", 0).await;
    dies(&serving, "wh_dead").await;
    place.jump_to(31 * DAY);
    doubts(&serving, true).await;
    let drop = async |until: &str| {
        let body = json!({"filter": {"until": until}});
        let (_, answer) = ask(&serving.admin, "dead/drop", &body).await;
        answer["deliveries"].as_u64().unwrap()
    };
    assert_eq!(drop("1d").await, 0);
    assert_eq!(drop("2100-01-01").await, 1);
}

/// The clock was fast when deliveries were put off, and is right when the gateway restarts.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_postponed_by_a_fast_clock_are_attempted_after_a_restart() {
    let mut app = Application::start([Answer::Status(500)]).await;
    let place = Place::new(&app);
    place.jump_to(2 * HOUR);
    let serving = place.start();
    post(&serving, "wh_1", 2 * HOUR).await;
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    let (status, _) = serving.terminate();
    assert!(status.success());

    place.jump_to(0);
    let serving = place.start();
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    let (_, log) = serving.terminate();
    assert!(log.contains("put off for longer"), "{log}");
}

/// A store that no gateway has opened for long: old content is deleted only once the clock is known
/// to be right, and waiting deliveries are attempted at once.
#[tokio::test(flavor = "multi_thread")]
async fn pruning_by_hand_does_not_trust_a_clock_that_no_gateway_has_seen() {
    let app = Application::start([]).await;
    let place = Place::new(&app);
    let serving = place.start();
    let (status, _) = serving.terminate();
    assert!(status.success());
    let file = place.folder.path().join("unwrapd.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    let long_ago = unix_now() - 31 * DAY;
    database
        .execute("UPDATE trusted_time SET at = ?", [long_ago * 1000])
        .unwrap();
    drop(database);
    let prune = |more: &[&str]| {
        let output = unwrapd()
            .args(["db", "prune", "--dry-run", "--config"])
            .arg(place.folder.path().join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", crate::support::OPENAI_SECRET)
            .env("APP_WEBHOOK_SECRET", crate::support::APP_SECRET)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(prune(&[]).contains("--trust-clock"));
    assert_eq!(prune(&["--trust-clock"]), "");
}

/// Two gateways on one database, whose own clocks are ahead by minutes and by days: both have their
/// share, and nothing is delivered twice or given up.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_with_wrong_clocks_use_the_clock_of_the_database() {
    const WEBHOOKS: usize = 20;
    const FAILURES: usize = 30;
    let failures = std::iter::repeat_n(Answer::Status(500), FAILURES);
    let mut app = Application::start(failures).await;
    let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
    let store = postgres::shared().url("postgres", &schema);
    let places = [120, 5 * DAY].map(|ahead| {
        let place = Place::on(TempDir::new().unwrap(), &store, &app);
        place.jump_to(ahead);
        place
    });
    let gateways = places.each_ref().map(Place::start);
    for number in 0..WEBHOOKS {
        // The senders' clocks are right.
        post(&gateways[number % 2], &format!("wh_{number}"), 0).await;
    }
    let mut delivered = BTreeSet::new();
    for number in 0..WEBHOOKS + FAILURES {
        let delivery = app.next().await;
        assert!(delivery.verified().is_ok(), "signed at the right time");
        if number >= FAILURES {
            let is_new = delivered.insert(delivery.webhook_id().to_owned());
            assert!(is_new, "{} comes twice", delivery.webhook_id());
        }
    }
    assert_eq!(delivered.len(), WEBHOOKS);
    for gateway in &gateways {
        let said = readyz(gateway).await;
        assert!(said.contains("ahead of the database's"), "{said}");
        assert_eq!(dead(gateway).await, BTreeSet::new());
    }
    for gateway in gateways {
        let (status, _) = gateway.terminate();
        assert!(status.success());
    }
    assert!(!app.has_more());
}
