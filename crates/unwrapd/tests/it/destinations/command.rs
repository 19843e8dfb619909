//! A command: the payload is its stdin, and its exit code decides.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use openai_webhooks::EventType;
use tempfile::TempDir;
use tokio::sync::oneshot;
use unwrapd::delivery::{Next, Outcome};
use unwrapd::destinations::command::CommandSettings;
use unwrapd::destinations::{DestinationSettings, Kind};
use unwrapd::pipeline_events::PipelineEvent;

use super::{assert_answer, assert_delivered, delivery, patient, sent};
use crate::support::{PATIENCE, TestGateway, Webhook};

/// A shell script, only in tests: the gateway itself starts no shell.
fn script(script: &str, arguments: &[&Path]) -> DestinationSettings {
    let arguments = arguments.iter().map(|path| path.to_str().unwrap());
    let words = ["-c", script].into_iter().chain(arguments);
    patient(Kind::Command(CommandSettings {
        program: "sh".into(),
        arguments: words.map(str::to_owned).collect(),
    }))
}

#[tokio::test]
async fn a_command_gets_the_payload_on_stdin_and_the_facts_in_a_clean_environment() {
    let folder = TempDir::new().unwrap();
    let (payload, environment) = (folder.path().join("payload"), folder.path().join("env"));
    let settings = script("cat > \"$0\" && env > \"$1\"", &[&payload, &environment]);
    let test = TestGateway::start(vec![settings]).await;
    let mut events = test.gateway.events().subscribe();
    let webhook = Webhook::with_payload(
        "wh_1",
        "{\"id\":\"evt_1\", \"object\":\"event\",\"type\":\"batch.completed\",\"created_at\":1,\"data\":{\"id\":\"b\"}}\r\n ",
    );
    assert_eq!(test.post(&webhook).await, 200);
    let (answer, next) = loop {
        if let PipelineEvent::AttemptEnded { answer, next, .. } = events.recv().await.unwrap() {
            break (answer, next);
        }
    };
    assert_eq!((answer.as_str(), next), ("exit 0", Next::Delivered));
    assert_eq!(std::fs::read_to_string(&payload).unwrap(), webhook.payload);

    let environment = std::fs::read_to_string(&environment).unwrap();
    for line in [
        "UNWRAPD_EVENT_TYPE=batch.completed",
        "UNWRAPD_EVENT_ID=evt_1",
        "UNWRAPD_RESOURCE=b",
        "UNWRAPD_WEBHOOK_ID=wh_1",
        "UNWRAPD_ENDPOINT=production",
        "UNWRAPD_DESTINATION=app",
        "UNWRAPD_ATTEMPT=1",
    ] {
        assert!(environment.lines().any(|is| is == line), "{environment}");
    }
    let received_at = environment
        .lines()
        .find_map(|line| line.strip_prefix("UNWRAPD_RECEIVED_AT="));
    assert!(received_at.unwrap().parse::<jiff::Timestamp>().is_ok());
    // They represent all variables that are not inherited, secrets included.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!environment.contains("CARGO_"), "{environment}");
}

#[tokio::test]
async fn the_exit_code_decides() {
    let empty = delivery("{}");
    let outcome = sent(&script("exit 0", &[]), &empty).await;
    assert_delivered(&outcome);
    for (text, answer, has_wait) in [
        ("exit 75", "exit 75: try later", true),
        ("exit 1", "exit 1", false),
        ("exit 255", "exit 255", false),
        ("kill -9 $$", "ended by signal 9", false),
    ] {
        match sent(&script(text, &[]), &empty).await {
            Outcome::Failed {
                answer: is,
                retry_after,
                ..
            } => {
                assert_eq!(is, answer);
                assert_eq!(retry_after.is_some(), has_wait, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_failure_that_says_so() {
    let settings = patient(Kind::Command(CommandSettings {
        program: "/no/such/program".into(),
        arguments: vec![],
    }));
    let outcome = sent(&settings, &delivery("{}")).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    assert_answer(
        &outcome,
        &["`/no/such/program` cannot be started", "executable"],
    );
}

#[tokio::test]
async fn the_excerpt_has_the_end_of_the_output_in_order_apart_from_the_answer() {
    let settings = script("echo one; echo two >&2; echo three; exit 1", &[]);
    let outcome = sent(&settings, &delivery("{}")).await;
    assert_eq!(outcome.answer(), "exit 1");
    assert_eq!(outcome.said().as_str(), "one\\ntwo\\nthree");

    let settings = script("yes noise | head -c 1000000; echo the reason; exit 1", &[]);
    let outcome = sent(&settings, &delivery("{}")).await;
    let said = outcome.said().as_str();
    assert!(said.starts_with("… ") && said.ends_with("the reason"));
    assert!(said.len() < 4096, "{}", said.len());
}

#[tokio::test]
async fn a_command_need_not_read_its_stdin() {
    // More than a pipe holds.
    let large = delivery(vec![b'x'; 1 << 20]);
    for script_text in ["exit 0", "exec <&-; exit 0"] {
        let outcome = sent(&script(script_text, &[]), &large).await;
        assert_delivered(&outcome);
    }
}

#[tokio::test]
async fn no_content_of_a_message_prevents_a_command_from_starting() {
    let mut hostile = delivery(format!(
        "{{\"type\":\"a\",\"id\":\"{}\"}}",
        "x".repeat(1 << 18)
    ));
    hostile.message.event_type = Some("a\0b".into());
    let settings = script("test -z \"$UNWRAPD_EVENT_TYPE$UNWRAPD_EVENT_ID\"", &[]);
    let outcome = sent(&settings, &hostile).await;
    assert_delivered(&outcome);
}

#[tokio::test]
async fn the_id_of_an_odd_event_reaches_a_command_like_any_other() {
    for body in [
        r#"{"type":"batch.completed","id":"evt_0","id":"evt_1"}"#,
        r#"{"type":"batch.completed","id":"evt_1","data":NaN}"#,
        r#"{"type":"batch.completed","id":"evt_1","data":{"#,
        "\u{feff}{\"type\":\"batch.completed\",\"id\":\"evt_1\"}",
    ] {
        let settings = script("test \"$UNWRAPD_EVENT_ID\" = evt_1", &[]);
        let outcome = sent(&settings, &delivery(body)).await;
        let is_told = matches!(outcome, Outcome::Delivered { .. });
        assert!(is_told, "{body}: {outcome:?}");
    }
}

/// A named pipe: it shows whether a process that has its other end is alive.
struct Leash {
    _folder: TempDir,
    path: std::path::PathBuf,
    taken: oneshot::Receiver<()>,
    let_go: oneshot::Receiver<()>,
}

impl Leash {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("leash");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (take, taken) = oneshot::channel();
        let (let_it_go, let_go) = oneshot::channel();
        let there = path.clone();
        // Not a thread of the runtime, which would wait for it after a failure of the test.
        std::thread::spawn(move || {
            let mut leash = std::fs::File::open(there).unwrap();
            take.send(()).unwrap_or_default();
            leash.read_to_end(&mut Vec::new()).unwrap();
            let_it_go.send(()).unwrap_or_default();
        });
        Self {
            _folder: folder,
            path,
            taken,
            let_go,
        }
    }

    async fn wait_until_let_go(self) {
        tokio::time::timeout(PATIENCE, self.let_go)
            .await
            .expect("nobody is left")
            .unwrap();
    }
}

/// Starts another process, and neither of them ends.
const FAMILY: &str = "sleep 1000 3>\"$0\" & echo started; wait";

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_its_processes() {
    let leash = Leash::new();
    let mut settings = script(FAMILY, &[&leash.path]);
    settings.limits.timeout = Duration::from_secs(1);
    let outcome = sent(&settings, &delivery("{}")).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    assert_eq!(
        outcome.answer(),
        "the command did not end in time, and was killed"
    );
    assert_eq!(outcome.said().as_str(), "started");
    leash.wait_until_let_go().await;
}

#[tokio::test]
async fn an_abandoned_command_is_killed_with_all_its_processes() {
    let mut leash = Leash::new();
    let settings = script(FAMILY, &[&leash.path]);
    let sending = tokio::spawn(async move { sent(&settings, &delivery("{}")).await });
    tokio::time::timeout(PATIENCE, &mut leash.taken)
        .await
        .unwrap()
        .unwrap();
    sending.abort();
    leash.wait_until_let_go().await;
}

#[tokio::test]
async fn a_process_left_behind_by_a_command_does_not_delay_the_outcome() {
    let leash = Leash::new();
    // It keeps stdin, stdout and stderr open, and the payload is not read.
    let settings = script(
        "exec 4<&0; sleep 1000 <&4 3>\"$0\" & echo $!; exit 0",
        &[&leash.path],
    );
    let outcome = sent(&settings, &delivery(vec![b'x'; 1 << 20])).await;
    assert_delivered(&outcome);

    let left_behind: i32 = outcome.said().as_str().parse().unwrap();
    let left_behind = rustix::process::Pid::from_raw(left_behind).unwrap();
    rustix::process::kill_process(left_behind, rustix::process::Signal::KILL).unwrap();
    leash.wait_until_let_go().await;
}

#[tokio::test]
async fn every_type_reaches_a_command_through_the_gateway() {
    let test = TestGateway::start(vec![script("cat > /dev/null", &[])]).await;
    let mut events = test.gateway.events().subscribe();
    for event_type in EventType::ALL {
        let webhook = Webhook::new(&format!("wh_{event_type}").replace('.', "-"), *event_type);
        assert_eq!(test.post(&webhook).await, 200);
    }
    let mut delivered = 0;
    while delivered < EventType::ALL.len() {
        if let PipelineEvent::AttemptEnded { answer, next, .. } = events.recv().await.unwrap() {
            assert_eq!(next, Next::Delivered, "{answer}");
            delivered += 1;
        }
    }
}
