//! Replays and drops that the gateway carries on, by the command line.

use std::io::{BufRead as _, BufReader, Read as _};

use super::*;
use crate::bulk::{all_delivered, delivered, run_of};
use crate::support::until;

/// Begins a replay of all messages to a paused destination, and waits until there is no room.
async fn waiting_for_room(app: &mut Application) -> TestGateway {
    let test = delivered(app, 5).await;
    test.switch_app("pause").await;
    let replay = ["replay", "--all", "--token", "t", "--background", "--yes"];
    let output = run(&test.admin(), &replay).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "t\n");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_contains(
        &told,
        &[
            "8 deliveries of 8 messages",
            "`unwrapd runs show t --follow`",
        ],
    );
    until("it waits", async || {
        run_of(&test, "t").await["reason"].is_string()
    })
    .await;
    test
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_in_the_background_prints_its_token_and_can_be_followed() {
    let mut app = Application::start([]).await;
    let test = waiting_for_room(&mut app).await;
    let admin = test.admin();
    let shown = said(&admin, &["runs", "show", "t"]).await;
    assert_contains(
        &shown,
        &[
            "state          running\n",
            "done           5 of 8\n",
            "selects        all messages\n",
            "carried on by  the gateways\n",
        ],
    );
    assert!(shown.contains("full"), "{shown}");
    let listed = said(&admin, &["runs", "ls"]).await;
    assert!(
        listed.contains("t      replay  running  5 of 8  all messages"),
        "{listed}"
    );

    let mut follower = unwrapd()
        .args(["runs", "show", "t", "--follow", "--admin", &admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = String::new();
    let mut stderr = BufReader::new(follower.stderr.take().unwrap());
    tokio::task::block_in_place(|| stderr.read_line(&mut progress).unwrap());
    assert!(progress.starts_with("5 of 8; waits: "), "{progress}");
    test.switch_app("resume").await;
    all_delivered(&mut app).await;
    let mut end = String::new();
    let status = tokio::task::block_in_place(|| {
        let stdout = follower.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut end).unwrap();
        follower.wait().unwrap()
    });
    assert!(status.success(), "{end}");
    assert!(end.contains("done           8 of 8\n"), "{end}");

    let again = ["replay", "--all", "--token", "t", "--background", "--yes"];
    let output = run(&admin, &again).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "t\n");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("everything was done before"), "{told}");
    assert!(!app.has_more());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_stopped_and_keeps_what_is_done() {
    let mut app = Application::start([]).await;
    let test = waiting_for_room(&mut app).await;
    let admin = test.admin();
    for _ in 0..2 {
        let stopped = said(&admin, &["runs", "stop", "t"]).await;
        assert_eq!(stopped, "t is stopped: 5 of 8 done, which stays\n");
    }
    let json = said(&admin, &["runs", "stop", "t", "--output", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["state"], "stopped");

    let followed = run(&admin, &["runs", "show", "t", "--follow"]).await;
    assert_eq!(followed.status.code(), Some(1));
    let shown = String::from_utf8(followed.stdout).unwrap();
    assert!(shown.contains("state          stopped\n"), "{shown}");
    for verb in ["show", "stop"] {
        complains(
            &admin,
            &["runs", verb, "unknown"],
            3,
            "no run has this token",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_dropped_in_the_background_after_confirmation() {
    let (_app, test) = with_dead_letters(2).await;
    let admin = test.admin();
    let unconfirmed = ["dead", "drop", "--all", "--background"];
    complains(&admin, &unconfirmed, 2, "Drop 2 dead letters?").await;
    assert_eq!(test.gateway.store().tally().await.dead, 2);

    let drop_all = ["dead", "drop", "--all", "--background", "--yes"];
    let token = said(&admin, &drop_all).await;
    let shown = said(&admin, &["runs", "show", token.trim(), "--follow"]).await;
    assert_contains(
        &shown,
        &["action         drop\n", "done           2 of 2\n"],
    );
    assert_eq!(test.gateway.store().tally().await.dead, 0);
    let json = said(&admin, &[&drop_all[..], &["--output", "json"]].concat()).await;
    let nothing: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (
            &nothing["deliveries"],
            &nothing["done"],
            nothing.get("token")
        ),
        (&json!(0), &json!(true), None)
    );
}
