//! Gateways with different configurations report it.

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::store_url;
use crate::support::process::{Serving, unwrapd, write_config_on};
use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE, ask, postgres};

const URL: &str = "http://127.0.0.1:9/webhook";
const OTHER_SECRET: &str = "whsec_////////////////////////////////";

async fn readiness(serving: &Serving) -> String {
    let (status, text) = serving.readyz().await;
    assert_eq!(status, 200);
    text
}

/// A folder with the configuration of a gateway on this store.
fn configured(store: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    write_config_on(folder.path(), store, URL, "");
    folder
}

fn reload(serving: &mut Serving) {
    serving.signal(Signal::HUP);
    serving.announced("was reloaded");
}

fn listed(folder: &TempDir, serving: &Serving) -> String {
    let admin = serving.admin.as_str();
    let output = unwrapd()
        .args(["gateways", "--admin", admin, "--config"])
        .arg(folder.path().join("none.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_differ_report_the_difference_until_they_agree() {
    let store = store_url();
    let folders = [configured(&store), configured(&store)];
    let mut one = Serving::start(folders[0].path(), &[]);
    let other_secret = [("OPENAI_WEBHOOK_SECRET", OTHER_SECRET)];
    let mut other = Serving::start(folders[1].path(), &other_secret);

    one.announced("is configured differently: endpoints. ");
    other.said("is configured differently: endpoints. ");
    assert!(
        readiness(&one)
            .await
            .ends_with(" is configured differently: endpoints\n")
    );
    let table = listed(&folders[0], &one);
    assert!(table.contains("differs: endpoints"), "{table}");
    assert!(table.contains("(this one)"), "{table}");

    // The announced digests reveal nothing.
    let schema = store.rsplit_once('=').unwrap().1;
    let said = postgres::shared().sql(&format!("SELECT name, configuration FROM {schema}.gateway"));
    for secret in [OPENAI_SECRET, OTHER_SECRET, APP_SECRET] {
        assert!(
            !said.contains(secret.trim_start_matches("whsec_")),
            "{said}"
        );
    }
    let digests = said
        .split(['=', ' ', '\n', '|'])
        .filter(|piece| piece.len() >= 8 && piece.bytes().all(|letter| letter.is_ascii_hexdigit()));
    assert!(digests.clone().count() >= 10, "{said}");
    assert!(digests.clone().all(|digest| digest.len() == 8), "{said}");

    // After a reload more parts differ, and both gateways know it.
    write_config_on(folders[1].path(), &store, URL, "concurrency = 3");
    reload(&mut other);
    one.announced("is configured differently: endpoints, limits. ");
    other.announced("is configured differently: endpoints, limits. ");

    // Then no part differs any more.
    let secret = folders[1].path().join("secret");
    std::fs::write(&secret, OPENAI_SECRET).unwrap();
    write_config_on(folders[1].path(), &store, URL, "");
    let file = folders[1].path().join("unwrapd.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace(
        "{ env = \"OPENAI_WEBHOOK_SECRET\" }",
        &format!("{{ file = \"{}\" }}", secret.display()),
    );
    std::fs::write(&file, text).unwrap();
    reload(&mut other);
    one.announced(" has the same configuration as this one again");
    other.announced(" has the same configuration as this one again");
    assert_eq!(readiness(&one).await, "ok\n");
    let table = listed(&folders[0], &one);
    assert!(table.contains("the same"), "{table}");

    // A gateway that left is reported neither as equal nor as different.
    other.terminate();
    let gone = async {
        while listed(&folders[0], &one).contains("the same") {
            tokio::time::sleep(super::POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    one.terminate();
}

/// A gateway whose configuration has lost a destination cannot know whether the others still have
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_another_gateway_may_still_make_are_not_given_up() {
    let store = store_url();
    let folders = [configured(&store), configured(&store)];
    let config = folders[1].path().join("unwrapd.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        written.replace("name = \"app\"", "name = \"other\""),
    )
    .unwrap();
    let with_app = Serving::start(folders[0].path(), &[]);
    let without = Serving::start(folders[1].path(), &[]);
    let give_up = async || {
        let path = "destinations/app/give-up";
        ask(&without.admin, path, &json!({})).await.0
    };
    let becomes = async |status: u16| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while give_up().await != status {
            assert!(std::time::Instant::now() < deadline, "{status}");
        }
    };
    // Once each gateway knows the other.
    becomes(409).await;
    with_app.terminate();
    // No delivery waits.
    becomes(404).await;
}
