//! The form of the log: `[log] format`, and the names in `docs/reference/logs.md`.

use std::collections::BTreeSet;
use std::path::Path;

use openai_webhooks::EventType;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::Webhook;
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, checked, destination_table, write_destinations};

const JSON: &str = "[log]\nformat = \"json\"\n";

fn configure(folder: &Path, url: &str, log: &str) {
    write_destinations(
        folder,
        &format!("{}{log}", destination_table("app", url, "")),
    );
}

/// A gateway with a log of this level as JSON, and its application, whose first answer is an error.
async fn serve_with_json(level: &str) -> (Application, Serving, TempDir) {
    let app = Application::start([Answer::Status(500)]).await;
    let folder = TempDir::new().unwrap();
    configure(folder.path(), &app.url, JSON);
    let serving = Serving::start(folder.path(), &[("UNWRAPD_LOG", level)]);
    (app, serving, folder)
}

/// The line as a JSON object.
fn object(line: &str) -> Map<String, Value> {
    let Ok(Value::Object(object)) = serde_json::from_str(line) else {
        panic!("no JSON object: {line}");
    };
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn every_json_line_is_flat_and_has_only_documented_names() {
    let fields = names(&rows("Fields"), 0);
    let events_table = rows("Events");
    let levels = ["error", "warn", "info", "debug", "trace"];
    let (mut app, serving, _folder) = serve_with_json("trace").await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let forged = webhook.forged();
    let odd = Webhook::with_payload("wh_2", "{}");
    assert_eq!(serving.post(&forged).await, 401);
    assert_eq!(serving.post(&webhook).await, 200);
    assert_eq!(serving.post(&webhook).await, 200);
    assert_eq!(serving.post(&odd).await, 200);
    // Two attempts for the first, one for the other.
    app.skip(3).await;
    let (status, log) = tokio::task::block_in_place(|| serving.terminate());
    assert!(status.success());

    let mut events = BTreeSet::new();
    for line in log.lines() {
        let line_object = object(line);
        let timestamp = line_object["timestamp"].as_str().unwrap();
        assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(timestamp.ends_with('Z'), "{line}");
        assert!(
            !line_object["message"].as_str().unwrap().is_empty(),
            "{line}"
        );
        for (name, value) in &line_object {
            assert!(fields.contains(&**name), "`{name}` of {line}");
            assert!(!value.is_object() && !value.is_array(), "{line}");
        }
        assert!(
            levels.contains(&line_object["level"].as_str().unwrap()),
            "{line}"
        );
        if let Some(event) = line_object.get("event") {
            let event = event.as_str().unwrap();
            let row = events_table
                .iter()
                .find(|row| row[0] == format!("`{event}`"))
                .unwrap_or_else(|| panic!("no row of {line}"));
            let allowed = code_in(&row[3]);
            for name in line_object.keys() {
                let is_common = ["timestamp", "level", "message", "target", "event"];
                assert!(
                    is_common.contains(&&**name) || allowed.contains(&**name),
                    "`{name}` of {line}"
                );
            }
            events.insert(event.to_owned());
        }
    }
    let expected = [
        "accepted",
        "attempt_ended",
        "claimed",
        "committed",
        "quarantined",
        "received",
        "refused",
        "settled",
        "verified",
    ];
    assert_eq!(events, expected.map(str::to_owned).into(), "{log}");
}

#[test]
fn the_reference_has_a_row_for_each_event_and_each_code_of_a_refusal() {
    let events = include_str!("../../src/pipeline_events.rs");
    let named: BTreeSet<&str> = events
        .lines()
        .filter_map(|line| line.split_once(" { .. } => \"")?.1.strip_suffix("\","))
        .collect();
    assert!(named.contains("received"), "{named:?}");
    assert_eq!(names(&rows("Events"), 0), strings(named));
    let refusals = include_str!("../../src/receive/refusal.rs");
    let is_code = |text: &&str| {
        text.bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    };
    let codes: BTreeSet<&str> = refusals
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(is_code)
        .collect();
    assert!(codes.contains("signature_mismatch"), "{codes:?}");
    assert_eq!(names(&rows("Codes of refusals"), 0), strings(codes));
    let fields = names(&rows("Fields"), 0);
    for row in rows("Events") {
        for name in code_in(&row[3]) {
            assert!(fields.contains(&name), "`{name}` of {row:?}");
        }
    }
}

/// The rows of the first table of a section of the reference, each with its cells.
fn rows(section: &str) -> Vec<Vec<String>> {
    let reference = include_str!("../../../../docs/reference/logs.md");
    let start = reference.find(&format!("\n## {section}\n")).unwrap();
    let lines = reference[start..].lines();
    lines
        .skip_while(|line| !line.starts_with("|--"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// The names in a column.
fn names(rows: &[Vec<String>], column: usize) -> BTreeSet<String> {
    rows.iter().flat_map(|row| code_in(&row[column])).collect()
}

/// The words between backticks.
fn code_in(cell: &str) -> BTreeSet<String> {
    strings(cell.split('`').skip(1).step_by(2))
}

fn strings<'s>(words: impl IntoIterator<Item = &'s str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// At `debug` one line has all that is known of a request, and one all that is known of an attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_an_attempt_are_a_line_each() {
    let (mut app, serving, _folder) = serve_with_json("debug").await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let forged = webhook.forged();
    for _ in 0..2 {
        assert_eq!(serving.post(&forged).await, 401);
    }
    assert_eq!(serving.post(&webhook).await, 200);
    assert_eq!(serving.post(&webhook).await, 200);
    app.skip(2).await;
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let lines: Vec<_> = log.lines().map(object).collect();
    let shown = |event: &str| -> Vec<Value> {
        let lines = lines.iter().filter(|line| {
            let has = |key: &str| line.get(key).is_some_and(|value| value == event);
            has("event")
        });
        lines
            .map(|line| {
                let line = |key: &str| line.get(key).cloned().unwrap_or_default();
                let keys = [
                    "level",
                    "endpoint",
                    "destination",
                    "attempt",
                    "status",
                    "code",
                    "outcome",
                    "answer_status",
                ];
                Value::Array(keys.map(line).into())
            })
            .collect()
    };
    let code = "signature_mismatch";
    assert_eq!(
        shown("refused"),
        [
            json!(["warn", "production", null, null, 401, code, null, null]),
            json!(["debug", "production", null, null, 401, code, null, null]),
        ],
        "{log}"
    );
    assert_eq!(
        shown("accepted"),
        [
            json!(["debug", "production", null, null, 200, null, "new", null]),
            json!([
                "debug",
                "production",
                null,
                null,
                200,
                null,
                "duplicate",
                null
            ]),
        ],
        "{log}"
    );
    assert_eq!(
        shown("attempt_ended"),
        [
            json!(["warn", null, "app", 1, null, null, "retry", 500]),
            json!(["debug", null, "app", 2, null, null, "delivered", 200]),
        ],
        "{log}"
    );
    for line in &lines {
        let event = line
            .get("event")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if ["refused", "accepted", "attempt_ended"].contains(&event) {
            assert!(line["duration_ms"].is_u64(), "{line:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_changes_at_sighup() {
    let folder = TempDir::new().unwrap();
    let nowhere = "http://127.0.0.1:9/webhook";
    configure(folder.path(), nowhere, "");
    let mut serving = Serving::start(folder.path(), &[]);
    tokio::task::block_in_place(|| {
        configure(folder.path(), nowhere, JSON);
        serving.signal(Signal::HUP);
        serving.announced("these changes are in effect: [log]: format changed\",\"target\"");
        configure(folder.path(), nowhere, "[log]\nformat = \"human\"\n");
        serving.signal(Signal::HUP);
        assert_eq!(
            serving.announced("these changes are in effect: [log]"),
            ": format changed"
        );
    });
}

#[test]
fn an_unknown_format_is_refused_with_the_known_ones() {
    let folder = TempDir::new().unwrap();
    configure(
        folder.path(),
        "http://127.0.0.1:9/webhook",
        "[log]\nformat = \"xml\"\n",
    );
    let (code, said) = checked(folder.path());
    assert_eq!(code, Some(2));
    assert!(
        said.contains("`format` must be \"human\" or \"json\""),
        "{said}"
    );
}
