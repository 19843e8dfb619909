//! The command line with a token for reading, and the keys of the configuration.

use openai_webhooks::EventType;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{OPERATE, READ, guarded_with};
use crate::support::client;
use crate::support::process::{Serving, assert_told, unwrapd, write_server_config};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_the_right_says_so() {
    let test = guarded_with(vec![], false).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let admin = test.admin();
    let run = |arguments: &[&str], token: &str| {
        let mut command = unwrapd();
        let command = command.args(arguments).args(["--admin", &admin]);
        let command = command.env("UNWRAPD_ADMIN_TOKEN", token);
        tokio::task::block_in_place(|| command.output().unwrap())
    };
    for (arguments, is_denied) in [
        (&["destinations", "ls"][..], false),
        (&["events", "ls"], false),
        (&["events", "show", "wh_1"], false),
        (&["events", "show", "wh_1", "--payload"], true),
        (&["destinations", "pause", "app"], true),
        (&["quarantine", "retry", "--all"], true),
    ] {
        let output = run(arguments, READ);
        let code = Some(i32::from(is_denied));
        assert_eq!(output.status.code(), code, "{arguments:?}: {output:?}");
        if is_denied {
            assert_told(&output, "the token may not do this");
            assert_told(&output, "`admin_token`");
        }
    }
    let shown = run(&["events", "show", "wh_1", "--payload"], OPERATE);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_keys_takes_effect_at_the_next_start() {
    let folder = TempDir::new().unwrap();
    let environment = [("OPERATE", OPERATE), ("READ", READ)];
    let lines = "admin_token = { env = \"OPERATE\" }";
    write_server_config(folder.path(), lines);
    let mut serving = Serving::start(folder.path(), &environment);
    let lines = format!(
        "{lines}\nadmin_read_token = {{ env = \"READ\" }}\nadmin_read_payloads = false\n\
         admin_base_path = \"/unwrapd\"\nadmin_url = \"https://ops.example\""
    );
    write_server_config(folder.path(), &lines);
    serving.signal(Signal::HUP);
    for key in [
        "admin_read_token",
        "admin_read_payloads",
        "admin_base_path",
        "admin_url",
    ] {
        serving.announced(&format!("{key} has changed; restart the gateway"));
    }
    let status = async |serving: &Serving, path: &str| {
        let request = client().get(format!("{}{path}", serving.admin));
        request
            .bearer_auth(READ)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status(&serving, "/unwrapd/livez").await, 404);
    assert_eq!(status(&serving, "/api/v1/gateways").await, 401);
    drop(serving);
    let serving = Serving::start(folder.path(), &environment);
    assert_eq!(status(&serving, "/unwrapd/livez").await, 200);
    assert_eq!(status(&serving, "/api/v1/gateways").await, 200);
    let payload = "/api/v1/messages/wh_1?payload=true";
    assert_eq!(status(&serving, payload).await, 403);
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    assert!(!log.contains(OPERATE) && !log.contains(READ), "{log}");
}
