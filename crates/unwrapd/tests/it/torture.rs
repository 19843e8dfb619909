//! `unwrapd torture` finds each planted fault by its name, and passes a handler without faults.

mod handler;
mod output;
#[cfg(feature = "peer-tests")]
mod peers;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use unwrapd::tls::Tls;

use crate::support::process::{program, unwrapd};
use crate::support::{OPENAI_SECRET, TestGateway};
use handler::{Fault, Handler};

/// No answer of a handler of these tests takes that long, on however busy a machine.
const PATIENT: [&str; 2] = ["--answer-within", "10"];

fn command(arguments: &[&str]) -> Command {
    let mut command = unwrapd();
    command
        .arg("torture")
        .args(arguments)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .stdin(Stdio::null());
    command
}

async fn run(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The report for programs.
struct Graded {
    code: Option<i32>,
    checks: BTreeMap<String, Value>,
    summary: Value,
}

impl Graded {
    fn of(output: &Output) -> Self {
        let mut checks = BTreeMap::new();
        let mut summary = Value::Null;
        for line in stdout(output).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            match line["kind"].as_str().unwrap() {
                "check" => drop(checks.insert(line["name"].as_str().unwrap().to_owned(), line)),
                "summary" => summary = line,
                other => panic!("{other}"),
            }
        }
        assert!(summary.is_object(), "{}", stderr(output));
        Self {
            code: output.status.code(),
            checks,
            summary,
        }
    }

    fn names(&self, grade: &str) -> BTreeSet<&str> {
        let checks = self.checks.iter();
        checks
            .filter(|(_, check)| check["grade"] == grade)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn text(&self, check: &str, field: &str) -> &str {
        self.checks[check][field].as_str().unwrap_or_default()
    }
}

/// Grades a handler whose effects are counted.
async fn grade(fault: Fault) -> Graded {
    grade_by(fault, &[]).await
}

/// Grades a handler only by how it treats repeated events. For handlers whose work takes a while.
async fn grade_repeated(fault: Fault) -> Graded {
    grade_by(fault, &["--only", &REPEATED.join(",")]).await
}

async fn grade_by(fault: Fault, more: &[&str]) -> Graded {
    let handler = Handler::start(fault).await;
    let effects = ["--effects-url", &handler.effects, "--effects-wait", "0"];
    let json = ["--output", "json"];
    let arguments = [&[&*handler.url], &json[..], &PATIENT, &effects, more].concat();
    Graded::of(&run(&arguments).await)
}

#[track_caller]
fn only_these_fail(graded: &Graded, expected: &[&str]) {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    assert_eq!(graded.names("fail"), expected);
    assert_eq!(graded.code, Some(1));
    for name in expected {
        for field in ["sent", "expected", "saw", "fault", "why", "remedy", "docs"] {
            assert!(!graded.text(name, field).is_empty(), "{name}: {field}");
        }
    }
}

#[track_caller]
fn only_these_warn(graded: &Graded, expected: &[&str]) {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    assert_eq!(graded.names("fail"), BTreeSet::new());
    assert_eq!(graded.names("warn"), expected);
    assert_eq!(graded.code, Some(0));
}

const FORGED: [&str; 7] = [
    "bad-signature",
    "future-timestamp",
    "missing-header",
    "stale-timestamp",
    "tampered-body",
    "tampered-headers",
    "wrong-secret",
];
const REPEATED: [&str; 4] = [
    "concurrent-duplicate",
    "duplicate",
    "forged-first",
    "lost-answer",
];

#[tokio::test]
async fn a_handler_without_faults_passes_every_check() {
    let graded = grade(Fault::None).await;
    let all: BTreeSet<&str> = graded.checks.keys().map(String::as_str).collect();
    assert_eq!(graded.names("pass"), all);
    assert_eq!(graded.code, Some(0));
    assert_eq!(graded.summary["ok"], true);
    assert_eq!(graded.summary["pass"], all.len());
    for name in REPEATED {
        assert!(
            graded.text(name, "saw").ends_with("processed once"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn forgeries_that_are_accepted_are_found() {
    only_these_fail(&grade(Fault::VerifiesNothing).await, &FORGED);
    let form = [
        "bad-signature",
        "tampered-body",
        "tampered-headers",
        "wrong-secret",
    ];
    only_these_fail(&grade(Fault::TakesAnySignatureOfTheRightForm).await, &form);
    only_these_fail(
        &grade(Fault::TakesAnEmptySignature).await,
        &["bad-signature"],
    );
    only_these_fail(&grade(Fault::RepairsTheBody).await, &["tampered-body"]);
    only_these_fail(
        &grade(Fault::RoundsTheTimestamp).await,
        &["tampered-headers"],
    );
    only_these_fail(
        &grade(Fault::SkipsTheCheckWithoutSignature).await,
        &["missing-header"],
    );
}

#[tokio::test]
async fn a_handler_that_verifies_nothing_is_told_so_once() {
    let handler = Handler::start(Fault::VerifiesNothing).await;
    let told = stdout(&run(&[&[&*handler.url][..], &PATIENT].concat()).await);
    let verdict = "✕ 7 checks: the handler verifies nothing: every forged request is accepted\n";
    assert!(told.contains(verdict), "{told}");
    assert_eq!(told.matches("  remedy: ").count(), 1, "{told}");
}

#[tokio::test]
async fn a_timestamp_that_is_not_checked_is_found() {
    only_these_fail(&grade(Fault::KnowsNoPast).await, &["stale-timestamp"]);
    only_these_fail(&grade(Fault::KnowsNoFuture).await, &["future-timestamp"]);
}

#[tokio::test]
async fn a_forgery_that_is_refused_and_yet_processed_is_found() {
    let graded = grade(Fault::CountsBeforeItVerifies).await;
    assert_eq!(graded.names("fail"), FORGED.into());
    for name in FORGED {
        assert_eq!(graded.text(name, "fault"), "a refused request is processed");
    }
}

#[tokio::test]
async fn a_forgery_that_is_refused_in_an_unfit_way_is_a_warning() {
    only_these_warn(&grade(Fault::FailsOnForgeries).await, &FORGED);
    only_these_warn(&grade(Fault::AnswersForgeriesWithGone).await, &FORGED);
}

#[tokio::test]
async fn genuine_events_that_are_refused_are_found() {
    for (fault, name) in [
        (Fault::RefusesBatches, "every-event-type"),
        (Fault::FailsOnUnknownTypes, "unknown-type"),
        (Fault::HasAStrictSchema, "unknown-field"),
        (Fault::DecodesAsLatin1, "non-ascii"),
        (Fault::TakesSmallBodies, "huge-sip-headers"),
        (Fault::TakesTheFirstSignature, "two-signatures"),
        (Fault::ChecksTheAgeOfTheEvent, "late-event"),
        (Fault::WantsEventsInOrder, "out-of-order"),
    ] {
        only_these_fail(&grade(fault).await, &[name]);
    }
}

#[tokio::test]
async fn an_application_that_writes_the_json_again_gets_the_line_for_its_framework() {
    let graded = grade(Fault::WritesTheJsonAgain).await;
    assert_eq!(graded.names("fail"), ["json-spelling"].into());
    let fault = graded.text("json-spelling", "fault");
    assert!(
        fault.starts_with("plain samples pass, these fail"),
        "{fault}"
    );
    assert!(fault.ends_with("your application re-serialises the JSON"));
    let remedy = graded.text("json-spelling", "remedy");
    assert!(remedy.contains("Verify the raw body"), "{remedy}");
    assert!(
        remedy.contains("Express  app.use(express.text({ type: \"application/json\" }))"),
        "{remedy}"
    );
    assert!(
        remedy.contains("FastAPI  payload = await request.body()"),
        "{remedy}"
    );
}

#[tokio::test]
async fn repeated_events_that_are_refused_or_processed_again_are_found() {
    let repeated = ["concurrent-duplicate", "duplicate", "lost-answer"];
    only_these_fail(&grade(Fault::RefusesDuplicates).await, &repeated);
    only_these_fail(
        &grade_repeated(Fault::LooksBeforeItInserts).await,
        &["concurrent-duplicate"],
    );
    let graded = grade(Fault::KnowsNoDuplicates).await;
    assert_eq!(graded.names("fail"), repeated.into());
    for name in repeated {
        assert_eq!(
            graded.text(name, "fault"),
            "one event is processed more than once"
        );
    }
}

#[tokio::test]
async fn an_event_that_is_accepted_and_never_processed_is_found() {
    for (graded, name) in [
        (
            grade_repeated(Fault::RecordsBeforeTheWork).await,
            "lost-answer",
        ),
        (grade(Fault::RecordsBeforeItVerifies).await, "forged-first"),
        (grade(Fault::DropsWhatItAccepts).await, "unknown-field"),
    ] {
        only_these_fail(&graded, &[name]);
        let lost = "an event is accepted, and never processed";
        assert_eq!(graded.text(name, "fault"), lost);
    }
}

#[tokio::test]
async fn a_handler_that_tells_copies_to_come_again_is_safe_with_a_warning() {
    only_these_warn(
        &grade_repeated(Fault::TellsCopiesToComeAgain).await,
        &["concurrent-duplicate"],
    );
}

#[tokio::test]
async fn slow_answers_are_found() {
    let handler = Handler::start(Fault::IsSlow).await;
    let arguments = [&*handler.url, "--output", "json", "--answer-within", "1"];
    let graded = Graded::of(&run(&arguments).await);
    assert!(graded.names("fail").contains("slow-answer"));
    let saw = graded.text("slow-answer", "saw");
    assert!(
        saw.ends_with("in every-event-type (batch.failed); the limit is 1.0 s"),
        "{saw}"
    );
}

#[tokio::test]
async fn another_status_than_200_is_a_warning_which_strict_makes_a_failure() {
    only_these_warn(&grade(Fault::AnswersNoContent).await, &["status-200"]);
    let handler = Handler::start(Fault::AnswersNoContent).await;
    let arguments = [&*handler.url, "--only", "status-200", "--strict"];
    assert_eq!(run(&arguments).await.status.code(), Some(1));
}

#[tokio::test]
async fn without_a_count_the_repeated_events_are_not_judged() {
    for fault in [Fault::None, Fault::KnowsNoDuplicates] {
        let handler = Handler::start(fault).await;
        let arguments = [&[&*handler.url, "--output", "json"], &PATIENT[..]].concat();
        let graded = Graded::of(&run(&arguments).await);
        assert_eq!(graded.names("unknown"), REPEATED.into(), "{fault:?}");
        assert_eq!(graded.names("fail"), BTreeSet::new());
        let saw = graded.text("duplicate", "saw");
        assert_eq!(saw, "200 for both; effects not counted");
        assert_eq!(graded.code, Some(0));
        let strict = [&[&*handler.url, "--strict"], &PATIENT[..]].concat();
        assert_eq!(run(&strict).await.status.code(), Some(1));
    }
}

#[tokio::test]
async fn a_count_that_does_not_know_the_genuine_event_judges_nothing() {
    let handler = Handler::start(Fault::None).await;
    let effects = ["--effects-command", "echo 0", "--effects-wait", "0"];
    let arguments = [&[&*handler.url, "--output", "json"], &PATIENT[..], &effects].concat();
    let graded = Graded::of(&run(&arguments).await);
    let unknown: BTreeSet<&str> = REPEATED.into_iter().chain(["genuine-event"]).collect();
    assert_eq!(graded.names("unknown"), unknown);
    assert!(graded.text("genuine-event", "saw").contains("--type"));
}

#[tokio::test]
async fn the_effects_are_counted_by_a_command_too() {
    let handler = Handler::start(Fault::None).await;
    let command = format!(
        "exec 3<>/dev/tcp/{}; printf 'GET /effects?webhook-id=%s HTTP/1.0\\r\\n\\r\\n' \
         \"$UNWRAPD_WEBHOOK_ID\" >&3; tail -n 1 <&3",
        handler.url.split('/').nth(2).unwrap().replace(':', "/")
    );
    let command = format!("bash -c {}", quoted(&command));
    let effects = ["--effects-command", &command, "--effects-wait", "0"];
    let arguments = [&[&*handler.url, "--output", "json"], &PATIENT[..], &effects].concat();
    let graded = Graded::of(&run(&arguments).await);
    assert_eq!(
        graded.summary["unknown"],
        0,
        "{}",
        graded.text("duplicate", "saw")
    );
    assert_eq!(graded.code, Some(0));
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[tokio::test]
async fn a_count_that_does_not_work_ends_the_command_before_the_checks() {
    let handler = Handler::start(Fault::None).await;
    let effects = ["--effects-command", "echo many"];
    let wrong = run(&[&[&*handler.url][..], &effects].concat()).await;
    assert_eq!(wrong.status.code(), Some(2));
    let told = stderr(&wrong);
    assert!(
        told.contains("--effects-command: it must print one number"),
        "{told}"
    );
    assert_eq!(handler.requests(), 1);
}

/// Over TLS, which the connection that is closed before its answer needs too.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_passes_every_check() {
    let folder = TempDir::new().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["tls.pem", "tls.key"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let tls = Tls::read(&certificate, &key).unwrap();
    let test = TestGateway::served(|server| server.tls = Some(tls)).await;
    let url = format!(
        "https://localhost:{}/webhooks/production",
        test.gateway.public().port()
    );
    let count = format!(
        "'{}' events show \"$UNWRAPD_WEBHOOK_ID\" --admin {} | grep -c ^webhook-id || true",
        program().display(),
        test.admin()
    );
    let effects = ["--effects-command", &count, "--effects-wait", "0"];
    let arguments = [&[&*url, "--output", "json"], &PATIENT[..], &effects].concat();
    let mut command = command(&arguments);
    command.env("SSL_CERT_FILE", &certificate);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let graded = Graded::of(&output.await.unwrap());
    let all: BTreeSet<&str> = graded.checks.keys().map(String::as_str).collect();
    assert_eq!(graded.names("pass"), all);
}
