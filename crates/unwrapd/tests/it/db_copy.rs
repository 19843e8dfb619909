//! `unwrapd db copy`: a store moves from SQLite into PostgreSQL and back, whatever interrupts it.

mod beside;
mod home;
#[cfg(feature = "crash-points")]
mod kill;
mod refuse;

use std::process::{Command, Output};
use std::sync::Arc;

use jiff::Timestamp;
use openai_webhooks::EventType;
use serde_json::json;
use tempfile::TempDir;
use unwrapd::message::Message;
use unwrapd::store::replay::{ReplayStep, Replayed};
use unwrapd::store::{self, Accepted, Bounds, Store, StoreUrl};

use crate::support::application::Application;
use crate::support::postgres as server;
use crate::support::process::{Serving, assert_told, told, unwrapd};
use crate::support::{Webhook, client};
use home::{Home, assert_same, fill, message, run_of_dead};

fn copy_of(from: &Home, to: &Home) -> Command {
    let mut command = unwrapd();
    command.args(["db", "copy", "--from", &from.url(), "--to", &to.url()]);
    command
}

fn copy(from: &Home, to: &Home) -> Output {
    copy_of(from, to).output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, says: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
    assert_told(output, says);
}

#[track_caller]
fn assert_copied(output: &Output) {
    assert!(output.status.success(), "{}", told(output));
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let last = stdout.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("source and target were read and are the same: "),
        "{}",
        told(output)
    );
}

/// The result of repeating a replay with this token: nothing, if it is done.
async fn replay_again(store: &Arc<dyn Store>, token: &str) -> Replayed {
    let run = run_of_dead(token, 1000);
    match store.replay(&run, Timestamp::now().into()).await {
        Ok(ReplayStep::Done(done)) => done,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_copy_to_postgresql_and_back_changes_nothing() {
    for seed in 0..3 {
        let folder = TempDir::new().unwrap();
        let (home, away) = (Home::file(&folder, "home.db"), Home::schema());
        fill(&home, seed, Timestamp::now()).await;
        let everything = home.dump();
        for (state, of) in [
            ("waiting", "delivery"),
            ("delivered", "delivery"),
            ("dead", "delivery"),
            ("NULL", "message"),
        ] {
            assert!(
                everything.contains(state),
                "seed {seed} has no {state} in {of}"
            );
        }
        assert_copied(&copy(&home, &away));
        assert_same(&home.dump(), &everything, "the source is as it was");
        assert_same(&away.dump(), &everything, &format!("seed {seed}, there"));
        let back = Home::file(&folder, "back.db");
        assert_copied(&copy(&away, &back));
        assert_same(&back.dump(), &everything, &format!("seed {seed}, back"));
        let check = unwrapd()
            .args(["db", "check"])
            .arg(folder.path().join("back.db"))
            .output()
            .unwrap();
        assert!(check.status.success(), "{}", told(&check));

        let again = copy(&away, &back);
        assert_copied(&again);
        assert_told(&again, "nothing was left to copy");
        let again = copy_of(&away, &back).args(["--output", "json"]).output();
        let report: serde_json::Value = serde_json::from_slice(&again.unwrap().stdout).unwrap();
        assert_eq!(report["was_there"], json!(true), "{report}");
        assert_eq!(report["message"], json!(everything.matches("wh_").count()));
    }
}

#[tokio::test]
async fn a_copy_from_postgresql_and_back_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (home, away) = (Home::schema(), Home::file(&folder, "away.db"));
    fill(&home, 7, Timestamp::now()).await;
    // Numbers in PostgreSQL have gaps, also wide ones.
    home.change("SELECT setval('message_seq', 300000000)");
    let store = home.open(&Bounds::default()).await;
    let about = br#"{"type":"batch.completed","id":"evt_last","data":{"id":"batch_last"}}"#;
    let last = message("wh_last".into(), Timestamp::now(), about.to_vec());
    store
        .accept(last.clone(), vec!["app".into()])
        .await
        .unwrap();
    store.close().await;
    let everything = home.dump();
    assert_copied(&copy(&home, &away));
    assert_same(&away.dump(), &everything, "there");
    let back = Home::schema();
    assert_copied(&copy(&away, &back));
    assert_same(&back.dump(), &everything, "back");

    for home in [away, back] {
        let store = home.open(&Bounds::default()).await;
        let known = store.accept(last.clone(), vec![]).await;
        assert_eq!(known, Ok(Accepted::Duplicate));
        for id in ["evt_last", "batch_last"] {
            let found = store.get_message(id, false).await.unwrap();
            assert_eq!(found[0].webhook_id, "wh_last");
        }
        // The oldest message of which only the id is stored.
        let old = store.get_message("wh_1_0", true).await.unwrap();
        assert_eq!(old.len(), 1);
        let copy = Message {
            endpoint: old[0].endpoint.clone(),
            ..message("wh_1_0".into(), Timestamp::now(), vec![])
        };
        assert_eq!(store.accept(copy, vec![]).await, Ok(Accepted::Duplicate));
        let new = message("wh_new".into(), Timestamp::now(), vec![]);
        assert_eq!(store.accept(new, vec![]).await, Ok(Accepted::New));
        // A finished replay stays finished, and an unfinished one continues.
        assert_eq!(replay_again(&store, "done").await.due, [].into());
        replay_again(&store, "begun").await;
        assert_eq!(replay_again(&store, "begun").await.due, [].into());
        let quarantined = store.read_quarantined(0, 10).await.unwrap();
        assert_eq!(quarantined.len(), 2);
        store.quarantine(quarantined[0].clone()).await.unwrap();
        assert_eq!(store.read_quarantined(0, 10).await.unwrap().len(), 3);
        store.close().await;
    }
}

/// The pooler runs each transaction in another session.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let home = Home::file(&folder, "home.db");
    fill(&home, 3, Timestamp::now()).await;
    let pooler = server::Pooler::start(server::shared());
    let path = |name: &str| StoreUrl::Sqlite(folder.path().join(name));
    let away = StoreUrl::Postgres(Box::new(pooler.schema()));
    let there = store::copy(&path("home.db"), &away, |_| {}).await.unwrap();
    let back = store::copy(&away, &path("back.db"), |_| {}).await.unwrap();
    assert_eq!((back.rows, back.sha256), (there.rows, there.sha256));
    let back = Home::file(&folder, "back.db");
    assert_same(&back.dump(), &home.dump(), "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_on_a_copy_delivers_waiting_deliveries_and_none_twice() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (Home::file(&folder, "first.db"), Home::schema());
    let third = Home::file(&folder, "third.db");
    let client = client();
    let mut nobody = "http://127.0.0.1:9/".to_owned();
    let mut webhooks = Vec::new();
    for (home, next) in [(&first, &second), (&second, &third)] {
        home.configure(folder.path(), &nobody);
        let serving = Serving::start(folder.path(), &[]);
        for number in 0..30 {
            let id = format!("wh_{}_{number}", webhooks.len());
            let webhook = Webhook::new(&id, EventType::BatchCompleted);
            let answer = webhook.request(&client, &serving.url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            webhooks.push((id, webhook));
        }
        assert!(serving.terminate().0.success());
        // The source is the store of the configuration.
        let config = folder.path().join("unwrapd.toml");
        let copied = unwrapd()
            .args(["db", "copy", "--to", &next.url(), "--config"])
            .arg(config)
            .output()
            .unwrap();
        assert_copied(&copied);
    }
    let mut app = Application::start([]).await;
    nobody.clone_from(&app.url);
    third.configure(folder.path(), &app.url);
    let serving = Serving::start(folder.path(), &[]);
    for (_, webhook) in &webhooks {
        let answer = webhook.request(&client, &serving.url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let mut waiting: std::collections::BTreeMap<_, _> = webhooks
        .iter()
        .map(|(id, webhook)| (id.clone(), webhook.payload.clone()))
        .collect();
    while !waiting.is_empty() {
        let delivered = app.next().await;
        let payload = waiting.remove(delivered.webhook_id());
        let payload = payload.expect("each is delivered once");
        assert_eq!(delivered.payload, payload);
        assert!(delivered.verified().is_ok());
    }
    assert!(serving.terminate().0.success());
    assert!(!app.has_more());
}
