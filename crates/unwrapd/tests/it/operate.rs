//! The view of an operator of the destinations, and the commands that change them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Output, Stdio};

use openai_webhooks::EventType;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use unwrapd::config::DestinationSettings;
use unwrapd::delivery::breaker::FAILURES_MAX;

use crate::support::application::{Answer, Application};
use crate::support::process::{
    Serving, assert_contains, destination_table, unwrapd, write_config, write_destinations,
};
use crate::support::tally::Counted as _;
use crate::support::{TestGateway, client, described_answer, destination, until};

async fn ask(test: &TestGateway, method: Method, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", test.admin());
    let (status, body) = described_answer(test.client().request(method, url)).await;
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The only destination, as the admin port shows it.
async fn shown(test: &TestGateway) -> Value {
    let (status, mut answer) = ask(test, Method::GET, "/api/v1/destinations").await;
    assert_eq!(status, 200);
    answer["destinations"][0].take()
}

/// A gateway whose destination `app` is paused.
async fn start_paused(destinations: Vec<DestinationSettings>) -> TestGateway {
    let test = TestGateway::start(destinations).await;
    test.switch_app("pause").await;
    test
}

async fn post(test: &TestGateway, id: &str) {
    test.receive(id, EventType::BatchCompleted).await;
}

#[tokio::test]
async fn a_paused_destination_gets_nothing_until_it_is_resumed_despite_restarts() {
    let mut app = Application::start([]).await;
    let settings = || vec![destination("app", &app.url)];
    let test = start_paused(settings()).await;
    post(&test, "wh_1").await;
    let view = shown(&test).await;
    assert!(view["paused_since"].is_string(), "{view}");
    assert_eq!(view["waiting"], 1);
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, settings()).await;
    post(&test, "wh_2").await;
    assert!(shown(&test).await["paused_since"].is_string());
    assert_eq!(shown(&test).await["claimed"], 0);
    assert!(!app.has_more());
    test.switch_app("resume").await;
    let mut got = [app.next().await, app.next().await].map(|it| it.webhook_id().to_owned());
    got.sort();
    assert_eq!(got, ["wh_1", "wh_2"]);
    assert!(shown(&test).await["paused_since"].is_null());
}

#[tokio::test]
async fn a_destination_that_is_down_is_shown_so_and_up_again_on_the_first_success() {
    let failures = usize::try_from(FAILURES_MAX).unwrap();
    let mut app = Application::start(vec![Answer::Status(500); failures]).await;
    let mut settings = destination("app", &app.url);
    settings.limits.retry.max = settings.limits.retry.first;
    let test = TestGateway::start(vec![settings]).await;
    assert_eq!(shown(&test).await["state"], "closed");
    post(&test, "wh_1").await;
    app.skip(failures).await;
    // A count may be that of a moment ago.
    until("it is down, with what waits", async || {
        let view = shown(&test).await;
        view["state"] != "closed" && view["last_answer"] == "HTTP 500" && view["waiting"] == 1
    })
    .await;
    // The probe.
    app.next().await;
    until("it is up, and nothing waits", async || {
        let view = shown(&test).await;
        view["state"] == "closed" && view["last_answer"] == "HTTP 200" && view["waiting"] == 0
    })
    .await;
    assert_eq!(shown(&test).await["delivered"], 1);
}

#[tokio::test]
async fn a_test_sends_one_sample_that_verifies_and_stores_nothing() {
    let (mut app, test) = TestGateway::with_app([Answer::Status(200), Answer::Status(500)]).await;
    let path = "/api/v1/destinations/app/test";
    let (status, answer) = ask(&test, Method::POST, path).await;
    assert_eq!((status, &answer["outcome"]), (200, &"delivered".into()));
    let delivered = app.next().await;
    assert_eq!(answer["webhook_id"], delivered.webhook_id());
    let verified = delivered.verified().unwrap();
    assert_eq!(verified.event().unwrap().kind(), "response.completed");
    let (_, answer) = ask(&test, Method::POST, path).await;
    assert_eq!(answer["outcome"], "failed");
    assert_eq!(answer["answer"], "HTTP 500");
    assert_eq!(test.gateway.store().tally().await.messages, 0);
}

#[tokio::test]
async fn a_missing_destination_cannot_be_paused_resumed_or_tested() {
    let test = TestGateway::start(vec![]).await;
    for verb in ["pause", "resume", "test"] {
        let path = format!("/api/v1/destinations/app/{verb}");
        let (status, answer) = ask(&test, Method::POST, &path).await;
        assert_eq!(status, 404);
        assert!(
            answer["detail"]
                .as_str()
                .unwrap()
                .contains("no destination")
        );
    }
    assert_eq!(test.gateway.store().paused().await.unwrap(), []);
}

/// The destination was renamed, or is configured at another gateway.
#[tokio::test]
async fn a_pause_outlives_its_destination_and_can_be_ended_without_it() {
    let mut app = Application::start([]).await;
    let settings = || vec![destination("app", &app.url)];
    let test = start_paused(settings()).await;
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, vec![]).await;
    let view = shown(&test).await;
    assert_eq!(view["name"], "app");
    assert_eq!(view["is_configured"], false);
    assert!(view["paused_since"].is_string(), "{view}");
    let resume = "/api/v1/destinations/app/resume";
    test.switch_app("resume").await;
    assert_eq!(ask(&test, Method::POST, resume).await.0, 404);
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, settings()).await;
    post(&test, "wh_1").await;
    assert_eq!(app.next().await.webhook_id(), "wh_1");
}

#[tokio::test]
async fn a_web_page_cannot_steer_the_gateway_on_its_readers_machine() {
    let test = TestGateway::start(vec![]).await;
    let url = format!(
        "http://{}/api/v1/destinations",
        test.gateway.admin().unwrap()
    );
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let asked = test.client().get(&url).header(name, value).send();
        assert_eq!(asked.await.unwrap().status(), 403, "{name}");
    }
    let asked = test.client().get(&url).header("host", "localhost:8081");
    assert_eq!(asked.send().await.unwrap().status(), 200);
}

fn serve_with_token(folder: &TempDir) -> Serving {
    write_config(folder.path(), "http://127.0.0.1:9/webhook");
    let file = folder.path().join("unwrapd.toml");
    let config = std::fs::read_to_string(&file).unwrap().replace(
        "admin = \"127.0.0.1:0\"",
        "admin = \"0.0.0.0:0\"\nadmin_token = { env = \"ADMIN_TOKEN\" }",
    );
    std::fs::write(&file, config).unwrap();
    Serving::start(folder.path(), &[("ADMIN_TOKEN", TOKEN)])
}

const TOKEN: &str = "a token that nobody guesses so soon";

#[tokio::test]
async fn a_remote_operator_needs_the_token() {
    let folder = TempDir::new().unwrap();
    let serving = serve_with_token(&folder);
    let admin = serving.admin.clone();
    let status = async |path: &str, token: Option<&str>| {
        let mut request = client().get(format!("{admin}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/livez", None).await, 200);
    assert_eq!(status("/readyz", None).await, 200);
    assert_eq!(status("/api/v1/destinations", None).await, 401);
    assert_eq!(status("/api/v1/destinations", Some("x")).await, 401);
    assert_eq!(status("/api/v1/destinations", Some(&TOKEN[1..])).await, 401);
    assert_eq!(status("/api/v1/destinations", Some(TOKEN)).await, 200);
    let (_, log) = serving.terminate();
    assert!(!log.contains(TOKEN));
}

fn run(arguments: &[&str]) -> Output {
    unwrapd()
        .args(arguments)
        .env("ADMIN_TOKEN", TOKEN)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_pauses_resumes_and_tests() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let admin = format!("http://{}", test.gateway.admin().unwrap());
    let destinations = |arguments: &[&str]| {
        let arguments = [&["destinations"], arguments, &["--admin", &admin]].concat();
        tokio::task::block_in_place(|| run(&arguments))
    };
    let list = stdout(&destinations(&["ls"]));
    assert!(list.contains("app   http  up"), "{list}");
    stdout(&destinations(&["pause", "app"]));
    post(&test, "wh_1").await;
    let list = stdout(&destinations(&["ls"]));
    assert!(
        list.contains("app   http  paused  1        0     "),
        "{list}"
    );
    let told = stdout(&destinations(&["test", "app", "--type", "batch.failed"]));
    assert!(told.contains("HTTP 200"), "{told}");
    assert!(app.next().await.webhook_id().starts_with("wh_test_"));
    stdout(&destinations(&["resume", "app"]));
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    let json = stdout(&destinations(&["ls", "--output", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["destinations"][0]["name"], "app");

    assert_eq!(destinations(&["pause", "ap"]).status.code(), Some(3));
    assert_eq!(
        destinations(&["test", "app", "--type", "nothing"])
            .status
            .code(),
        Some(2)
    );
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_finds_the_port_and_the_token_in_the_configuration() {
    let folder = TempDir::new().unwrap();
    let serving = serve_with_token(&folder);
    let config = folder.path().join("unwrapd.toml");
    let config = config.to_str().unwrap();
    // The port is known only now.
    let text = std::fs::read_to_string(config).unwrap();
    let address = serving.admin.trim_start_matches("http://");
    std::fs::write(config, text.replacen("0.0.0.0:0", address, 1)).unwrap();
    let list = stdout(&run(&["destinations", "ls", "--config", config]));
    assert!(list.contains("app"), "{list}");

    let url = serving.admin.replace("0.0.0.0", "127.0.0.1");
    let refused = run(&["destinations", "ls", "--admin", &url]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("admin_token"));
    drop(serving);
    let nobody = run(&["destinations", "ls", "--admin", &url]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("start it with `unwrapd serve`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_down_takes_a_line_of_the_log_and_not_one_for_each_attempt() {
    let failures = usize::try_from(FAILURES_MAX).unwrap() + 6;
    let mut app = Application::start(vec![Answer::Status(500); failures]).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &app.url);
    let serving = Serving::start(folder.path(), &[]);
    for number in 0..failures {
        serving
            .receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    // The failures of the script, and each delivered message.
    for _ in 0..2 * failures {
        app.next().await;
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("not delivered yet"), 1, "{log}");
    assert_eq!(lines("down: "), 1, "{log}");
    assert_eq!(lines("up again"), 1, "{log}");
}

/// With many attempts in progress, the circuit closes as soon as one of them succeeds, and opens
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_goes_down_and_up_all_the_time_takes_few_lines_of_the_log() {
    const ROUNDS: usize = 30;
    let failures = usize::try_from(FAILURES_MAX).unwrap() + 2;
    let round = [
        vec![Answer::Status(500); failures],
        vec![Answer::Status(200)],
    ]
    .concat();
    let script: Vec<Answer> = round
        .iter()
        .cycle()
        .take(ROUNDS * round.len())
        .cloned()
        .collect();
    let requests = script.len();
    let mut app = Application::start(script).await;
    let folder = TempDir::new().unwrap();
    write_destinations(
        folder.path(),
        &destination_table("app", &app.url, "concurrency = 64"),
    );
    let serving = Serving::start(folder.path(), &[]);
    for number in 0..requests / 2 {
        serving
            .receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    app.skip(requests).await;
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("destination is down: "), 1, "{log}");
    assert_eq!(lines("destination is up again"), 1, "{log}");
    assert_eq!(
        lines("more since the last such line, and is up now"),
        1,
        "{log}"
    );
}

#[test]
fn a_command_says_that_it_waits_for_a_frozen_gateway() {
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", frozen.local_addr().unwrap());
    let mut asking = unwrapd()
        .args(["gateways", "--admin", &url])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut stderr = BufReader::new(asking.stderr.take().unwrap());
    stderr.read_line(&mut told).unwrap();
    asking.kill().unwrap();
    asking.wait().unwrap();
    assert!(told.contains("has not answered for 5 s; waiting"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_has_the_configured_threads_and_works_with_one() {
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &app.url);
    let serve = |threads| Serving::start_with(folder.path(), &["--threads", threads], &[]);
    let many = serve("40");
    assert!(many.threads() >= 40, "{}", many.threads());
    drop(many);

    let serving = serve("1");
    serving.receive("wh_1", EventType::BatchCompleted).await;
    assert_eq!(app.next().await.webhook_id(), "wh_1");

    let none = run(&["serve", "--threads", "0"]);
    assert_eq!(none.status.code(), Some(2));
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("0 is not in 1..=1024"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_or_command_of_a_destination_is_reported_at_the_start() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().display();
    let destinations = format!(
        r#"
        [[destination]]
        name = "lines"
        jsonl = "{path}/gone/lines.jsonl"
        [[destination]]
        name = "script"
        command = ["{path}/gone.sh"]
        [[destination]]
        name = "plain"
        command = ["{path}/plain.sh"]
        [[destination]]
        name = "fine"
        command = ["true"]
        "#
    );
    write_destinations(folder.path(), &destinations);
    // A file without execute permission, as editors create it.
    std::fs::write(folder.path().join("plain.sh"), "#!/bin/sh\n").unwrap();
    let (status, log) = Serving::start(folder.path(), &[]).terminate();
    assert!(status.success());
    assert_contains(
        &log,
        &[
            "`jsonl` of `lines` does not exist",
            "gone.sh` of `script` is missing or not executable",
            "plain.sh` of `plain` is missing or not executable",
        ],
    );
    assert!(!log.contains("`fine`"), "{log}");
}
