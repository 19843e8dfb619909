//! The log for an operator without other information: what runs, on which store, what changed, and
//! how it ended.

use std::path::Path;

use openai_webhooks::EventType;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::application::{Answer, Application};
use crate::support::process::{
    self, Serving, checked, destination_table as destination, unwrapd, write_config_on,
};
use crate::support::tls_server::authority;
use crate::support::{APP_SECRET, postgres};

fn write(folder: &Path, rest: &str) {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [[endpoint]]\nname = \"production\"\nsecrets = [{{ env = \"OPENAI_WEBHOOK_SECRET\" }}]\n{rest}"
    );
    std::fs::write(folder.join("unwrapd.toml"), config).unwrap();
}

#[tokio::test]
async fn the_first_line_names_the_setup_and_the_last_a_clean_stop() {
    let folder = TempDir::new().unwrap();
    // No server listens there.
    write(folder.path(), &destination("app", "http://127.0.0.1:9", ""));
    let mut serving = Serving::start(folder.path(), &[]);
    let at = folder.path().display().to_string();
    serving.said(&format!(
        "unwrapd {}: configuration {at}/unwrapd.toml, store sqlite:{at}/unwrapd.db (new), schema ",
        unwrapd::VERSION
    ));
    serving.said(", 0 messages, 0 deliveries wait");
    serving.receive("wh_1", EventType::BatchCompleted).await;
    serving.receive("wh_2", EventType::BatchCompleted).await;
    let (status, log) = serving.terminate();
    assert!(status.success());
    let last = log.lines().last().unwrap();
    assert!(last.contains("stopped cleanly after "), "{log}");
    assert!(
        last.ends_with("nothing is under way, 2 messages kept, 2 deliveries wait"),
        "{log}"
    );

    let mut serving = Serving::start(folder.path(), &[]);
    serving.said("unwrapd.db (found), schema ");
    serving.said(", 2 messages, 2 deliveries wait");
    serving.said("2 deliveries wait for `app`");
}

#[tokio::test]
#[cfg_attr(
    not(feature = "server-tests"),
    ignore = "needs PostgreSQL: run scripts/test"
)]
async fn a_new_store_in_postgresql_is_reported_once() {
    let folder = TempDir::new().unwrap();
    let server = postgres::shared();
    let url = server.url("postgres", server.schema().schema());
    write_config_on(folder.path(), &url, "http://127.0.0.1:9", "");
    for (found, rest) in [
        ("(new), schema version ", ", 0 messages, 0 deliveries wait"),
        ("(found), schema version ", ", 1 message, 1 delivery waits"),
    ] {
        let mut serving = Serving::start(folder.path(), &[]);
        serving.said(found);
        serving.said(rest);
        serving.receive("wh_1", EventType::BatchCompleted).await;
        assert!(serving.terminate().0.success());
    }
}

#[test]
fn the_version_names_the_commit_where_it_is_known() {
    let output = unwrapd().arg("--version").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, format!("unwrapd {}\n", unwrapd::VERSION));
    let version = env!("CARGO_PKG_VERSION");
    let rest = unwrapd::VERSION.strip_prefix(version).unwrap();
    let is_commit = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit()) && text.len() >= 7;
    let commit = rest
        .strip_prefix(" (")
        .and_then(|rest| rest.strip_suffix(')'));
    assert!(rest.is_empty() || commit.is_some_and(is_commit), "{told}");
}

#[tokio::test]
async fn a_reload_logs_changes_and_deliveries_of_removed_destinations() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, APP_SECRET).unwrap();
    let third = |url: &str| {
        format!(
            "[[destination]]\nname = \"third\"\nurl = \"{url}\"\nsecret = {{ file = \"secret\" }}\n"
        )
    };
    let nobody = "http://127.0.0.1:9/a";
    write(
        folder.path(),
        &(destination("app", nobody, "")
            + &destination("audit", "http://127.0.0.1:9/b", "")
            + &third(nobody)),
    );
    let mut serving = Serving::start(folder.path(), &[]);
    serving.receive("wh_1", EventType::BatchCompleted).await;

    serving.signal(Signal::HUP);
    serving.announced("was reloaded: nothing changed");

    std::fs::write(&secret, "whsec_////////////////////////////////").unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority("ours").pem()).unwrap();
    write(
        folder.path(),
        &(destination("renamed", nobody, "")
            + &third("http://127.0.0.1:9/c")
            + "ca = \"ca.pem\"\nproxy = \"http://127.0.0.1:9\"\nrate = 5\nattempts_max = 3\n"),
    );
    serving.signal(Signal::HUP);
    let told = serving.announced("was reloaded; these changes are in effect: ");
    assert_eq!(
        told,
        "destination `renamed` added; destination `third`: url, ca, proxy, secrets (1 added, 1 removed), rate, attempts_max changed; \
         destination `app` removed; destination `audit` removed"
    );
    let told = serving.announced("destination `app` is removed, and 1 delivery waits for it; ");
    assert!(told.contains("`renamed` has the same target"), "{told}");
    let told = serving.announced("destination `audit` is removed, and 1 delivery waits for it: ");
    assert!(
        told.contains("unwrapd replay --destination audit --status waiting --to NAME"),
        "{told}"
    );

    // The advised command works.
    let admin = serving.admin.as_str();
    let replayed = unwrapd()
        .args(["replay", "--destination", "app", "--status", "waiting"])
        .args(["--to", "renamed", "--yes"])
        .args(["--admin", admin])
        .output()
        .unwrap();
    let told = String::from_utf8(replayed.stdout).unwrap();
    assert!(
        told.starts_with("replaying 1 delivery of 1 message"),
        "{told}"
    );
}

/// No other step ends these deliveries.
#[tokio::test]
async fn deliveries_of_a_removed_destination_are_visible_until_they_are_given_up() {
    let folder = TempDir::new().unwrap();
    let mut app = Application::start([]).await;
    write(folder.path(), &destination("old", "http://127.0.0.1:9", ""));
    let mut serving = Serving::start(folder.path(), &[]);
    serving.receive("wh_1", EventType::BatchCompleted).await;
    serving.receive("wh_2", EventType::BatchCompleted).await;
    write(folder.path(), &destination("new", &app.url, ""));
    serving.signal(Signal::HUP);
    let told = serving.announced("destination `old` is removed, and 2 deliveries wait for it: ");
    assert!(told.contains("unwrapd destinations give-up old"), "{told}");
    let warning = "deliveries wait for `old` (2), not configured here";
    while !serving.readyz().await.1.contains(warning) {}
    assert!(serving.terminate().0.success());
    let mut serving = Serving::start(folder.path(), &[]);
    serving.said("2 deliveries wait for `old`, which is not configured: ");
    let (_, text) = serving.readyz().await;
    assert!(text.contains(warning), "{text}");

    let admin = serving.admin.clone();
    let run = |arguments: &[&str]| {
        let output = unwrapd()
            .args(arguments)
            .args(["--admin", &admin])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), process::told(&output))
    };
    let (code, told) = run(&["destinations", "give-up", "new", "--yes"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("`new` is configured"), "{told}");
    let (code, told) = run(&["destinations", "give-up", "old"]);
    assert_eq!(code, Some(2), "{told}");
    let plan = "Give up 2 waiting deliveries for `old`, as dead letters?";
    assert!(told.contains(plan), "{told}");
    let (code, told) = run(&["destinations", "give-up", "old", "--dry-run"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("would give up 2 waiting"), "{told}");
    let (code, told) = run(&["destinations", "give-up", "old", "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("given up: 2."), "{told}");
    serving.announced("2 waiting deliveries given up by an operator");
    serving.announced("no delivery waits for an unconfigured destination any more");
    assert_eq!(serving.readyz().await, (200, "ok\n".into()));

    // A delivery that was given up can still go to another destination.
    let (code, told) = run(&[
        "dead",
        "replay",
        "--destination",
        "old",
        "--to",
        "new",
        "--yes",
    ]);
    assert_eq!(code, Some(0), "{told}");
    let mut ids = [app.next().await, app.next().await].map(|got| got.webhook_id().to_owned());
    ids.sort();
    assert_eq!(ids, ["wh_1", "wh_2"]);
}

#[tokio::test]
async fn changes_that_need_a_restart_are_logged_at_each_reload() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "");
    let mut serving = Serving::start(folder.path(), &[]);
    write(folder.path(), "[store]\ndedupe_days = 9\n");
    for _ in 0..2 {
        serving.signal(Signal::HUP);
        serving.announced(
            "[store] dedupe_days has changed; restart the gateway to put it into effect",
        );
        serving.announced("its changes take effect after a restart");
    }
    write(folder.path(), "");
    serving.signal(Signal::HUP);
    serving.announced("was reloaded: nothing changed");
}

#[tokio::test]
async fn an_invalid_file_is_reported_with_all_its_mistakes_until_it_is_valid() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "");
    let mut serving = Serving::start(folder.path(), &[]);
    write(
        folder.path(),
        "[store]\ndedupe_days = 1\nretention_days = 0\n",
    );
    serving.signal(Signal::HUP);
    serving.announced("runs on an earlier configuration");
    serving.announced("nothing was changed: ");
    serving.announced("unwrapd.toml:9: `retention_days` must be 1 to 3650");
    let (_, text) = serving.readyz().await;
    assert!(text.contains("runs on an earlier configuration"), "{text}");

    write(folder.path(), "");
    serving.signal(Signal::HUP);
    serving.announced("the configuration is valid again");
    assert_eq!(serving.readyz().await.1, "ok\n");
}

#[tokio::test]
async fn attempts_under_way_at_the_end_are_finished_and_counted() {
    let folder = TempDir::new().unwrap();
    let mut app = Application::start([Answer::Status(200)]).await;
    write(folder.path(), &destination("app", &app.url, ""));
    let serving = Serving::start(folder.path(), &[]);
    serving.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    let (status, log) = serving.terminate();
    assert!(status.success());
    assert!(log.contains("1 message kept, 0 deliveries wait"), "{log}");
}

#[test]
fn endpoints_that_share_a_secret_in_any_form_are_warned_of() {
    let folder = TempDir::new().unwrap();
    // The same key: once as base64 and once raw.
    let (encoded, raw) = (
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
        "0123456789abcdef01234567",
    );
    std::fs::write(folder.path().join("encoded"), encoded).unwrap();
    std::fs::write(folder.path().join("raw"), raw).unwrap();
    let endpoint = |name: &str, secrets: &str| {
        format!("[[endpoint]]\nname = \"{name}\"\nsecrets = [{secrets}]\n")
    };
    let own = "{ env = \"OPENAI_WEBHOOK_SECRET\" }";
    let config = endpoint("a", "{ file = \"encoded\" }")
        + &endpoint("b", &format!("{own}, {{ file = \"raw\" }}"))
        + &endpoint("c", "{ env = \"APP_WEBHOOK_SECRET\" }");
    std::fs::write(folder.path().join("unwrapd.toml"), config).unwrap();
    let (code, told) = checked(folder.path());
    assert_eq!(code, Some(0), "{told}");
    let warning = "the endpoint `a` shares a secret with `b`:";
    assert!(told.contains(warning), "{told}");
    assert_eq!(told.matches("shares a secret").count(), 1, "{told}");
    assert!(!told.contains(raw) && !told.contains(encoded), "{told}");
}

#[test]
fn a_check_reports_like_a_start_and_starts_nothing() {
    let folder = TempDir::new().unwrap();
    let check = |rest: &str| {
        write(folder.path(), rest);
        checked(folder.path())
    };
    let (code, told) = check(&destination("app", "http://127.0.0.1:9", ""));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("destinations  app"), "{told}");
    let made = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(made.count(), 1, "the configuration alone");

    let (code, told) = check("[store]\nurl = \"sqlite:no/such/folder/u.db\"\n");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("the folder"), "{told}");

    std::fs::write(folder.path().join("text.db"), "no database at all, by far").unwrap();
    let (code, told) = check("[store]\nurl = \"sqlite:text.db\"\n");
    assert_eq!(code, Some(2), "{told}");

    let (code, told) = check("[store]\nurl = \"postgres://u@db/d?sslrootcert=no.pem\"\n");
    assert_eq!(code, Some(2), "{told}");
    let certificate = folder.path().join("no.pem").display().to_string();
    assert!(told.contains(&certificate), "{told}");
}

#[tokio::test]
async fn failures_that_were_only_counted_are_logged_at_the_end() {
    // A failure after a success begins a new series, and the second series is only counted.
    let answers = [500, 200, 500, 200].map(Answer::Status);
    let mut app = Application::start(answers).await;
    let folder = TempDir::new().unwrap();
    write(folder.path(), &destination("app", &app.url, ""));
    let serving = Serving::start(folder.path(), &[]);
    for id in ["wh_1", "wh_2", "wh_3"] {
        serving.receive(id, EventType::BatchCompleted).await;
        app.next().await;
    }
    let (_, log) = serving.terminate();
    assert!(
        log.contains("more attempt failed, and will be retried: HTTP 500"),
        "{log}"
    );
}
