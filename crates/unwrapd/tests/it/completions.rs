//! The completions of a shell, and the manual pages.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use openai_webhooks::EventType;
use tempfile::TempDir;

use crate::access::guarded;
use crate::documentation::{commands, options};
use crate::support::application::{Answer, Application};
use crate::support::process::{program, unwrapd};
use crate::support::{TestGateway, Webhook, destination, until};

/// The candidates for the last word, as the script of fish asks for them: each with its description.
fn candidates_in(folder: &Path, words: &[&str]) -> Vec<(String, String)> {
    let output = unwrapd()
        .env("UNWRAPD_COMPLETE", "fish")
        .arg("--")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let candidates = text
        .lines()
        .map(|line| line.split_once('\t').unwrap_or((line, "")));
    candidates
        .map(|(value, about)| (value.to_owned(), about.to_owned()))
        .collect()
}

/// The candidates that are no options.
async fn values(words: &[&str]) -> BTreeSet<String> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let asked = tokio::task::spawn_blocking(move || {
        let folder = TempDir::new().unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        candidates_in(folder.path(), &words)
    });
    let values = asked.await.unwrap().into_iter().map(|(value, _)| value);
    values.filter(|value| !value.starts_with('-')).collect()
}

fn set<const N: usize>(values: [&str; N]) -> BTreeSet<String> {
    values.map(str::to_owned).into()
}

fn script(shell: &str) -> String {
    let output = unwrapd().args(["completions", shell]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The completions of the last word that bash offers.
fn in_bash(words: &[&str]) -> Vec<String> {
    let ask = r#"
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$(complete -p unwrapd | sed 's/.*-F \([^ ]*\).*/\1/')" unwrapd "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("unwrapd");
    std::fs::write(&file, script("bash")).unwrap();
    let path = format!(
        "{}:{}",
        program().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["-c", ask, "bash"])
        .arg(file)
        .args(words)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_event_types() {
    assert_eq!(in_bash(&["unwrapd", "ev"]), ["events"]);
    assert_eq!(in_bash(&["unwrapd", "events", ""])[..2], ["ls", "show"]);
    assert_eq!(in_bash(&["unwrapd", "serve", "--thr"]), ["--threads"]);
    assert_eq!(
        in_bash(&["unwrapd", "trigger", "batch.co"]),
        ["batch.completed"]
    );
}

#[test]
fn every_shell_has_a_script_and_an_unknown_one_is_a_mistake() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(script(shell).contains("UNWRAPD_COMPLETE"), "{shell}");
    }
    assert!(script("zsh").starts_with("#compdef unwrapd\n"));
    let unknown = unwrapd().args(["completions", "ksh"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn event_types_and_statuses_are_offered_with_their_meaning() {
    let folder = TempDir::new().unwrap();
    let types = candidates_in(folder.path(), &["unwrapd", "events", "ls", "--type", ""]);
    assert_eq!(types.len(), EventType::ALL.len());
    let (_, about) = types
        .iter()
        .find(|(value, _)| value == EventType::BatchFailed.as_str())
        .unwrap();
    assert_eq!(about, EventType::BatchFailed.sent_when());
    let statuses = candidates_in(folder.path(), &["unwrapd", "dead", "ls", "--status", "d"]);
    let statuses: Vec<&str> = statuses.iter().map(|(value, _)| &**value).collect();
    assert_eq!(statuses, ["delivered", "dead", "dropped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_ids_come_from_the_running_gateway() {
    let test = TestGateway::start(vec![destination("app", "http://127.0.0.1:9/webhook")]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    // A shell would run a part of this id.
    test.receive("wh_2;$(reboot)", EventType::BatchCompleted)
        .await;
    let mut forged = Webhook::new("wh_forged", EventType::BatchCompleted);
    forged.payload.push(' ');
    assert_eq!(test.post(&forged).await, 401);
    let store = test.gateway.store();
    until("the request is in the quarantine", async || {
        !store.list_quarantined(None, 1).await.unwrap().is_empty()
    })
    .await;

    let admin = &*test.admin();
    for (words, expected) in [
        (&["destinations", "pause", "--admin", admin, ""][..], "app"),
        (&["replay", "--admin", admin, "--to", "a"], "app"),
        (
            &["events", "ls", "--admin", admin, "--endpoint", "p"],
            "production",
        ),
        (&["events", "show", "--admin", admin, "wh"], "wh_1"),
        (&["quarantine", "show", "--admin", admin, ""], "1"),
        // A wrong option earlier in the line changes nothing.
        (&["events", "show", "--payloda", "--admin", admin, "wh"], ""),
    ] {
        let words = [&["unwrapd"], words].concat();
        let expected = if expected.is_empty() {
            set([])
        } else {
            set([expected])
        };
        assert_eq!(values(&words).await, expected, "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_offered_once_for_each_message() {
    let app = Application::start([Answer::Status(410), Answer::Status(410)]).await;
    let destinations = ["app", "audit"].map(|name| destination(name, &app.url));
    let test = TestGateway::start(destinations.into()).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    test.settled().await;
    let words = ["unwrapd", "dead", "drop", "--admin", &test.admin(), ""];
    assert_eq!(values(&words).await, set(["wh_1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_slow_refuses_or_is_not_there_gives_no_values_and_no_error() {
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let test = guarded().await;
    let admin = test.admin();
    for url in [&*silent, &admin, "http://127.0.0.1:9"] {
        let started = Instant::now();
        let words = ["unwrapd", "events", "show", "--admin", url, ""];
        assert_eq!(values(&words).await, set([]), "{url}");
        // 300 ms, and the time that a busy machine needs to start the program.
        assert!(started.elapsed() < Duration::from_secs(5), "{url}");
    }
}

/// A folder may come with a configuration that nobody has read.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_in_the_folder_sends_nothing_to_another_machine() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let write = |host: &str| {
        let text =
            format!("[server]\nadmin = \"{host}:{port}\"\nadmin_token = {{ env = \"HOME\" }}\n");
        std::fs::write(folder.path().join("unwrapd.toml"), text).unwrap();
    };
    listener.set_nonblocking(true).unwrap();
    let words = ["unwrapd", "events", "show", ""];
    // The gateway would be asked at an address of this machine.
    write("0.0.0.0");
    candidates_in(folder.path(), &words);
    assert!(listener.accept().is_err());
    write("127.0.0.1");
    candidates_in(folder.path(), &words);
    assert!(listener.accept().is_ok());
    write("0.0.0.0");
    candidates_in(
        folder.path(),
        &["unwrapd", "events", "show", "--config", "unwrapd.toml", ""],
    );
    assert!(listener.accept().is_ok());
}

#[test]
fn every_command_has_a_manual_page_with_its_options() {
    let folder = TempDir::new().unwrap();
    let pages = folder.path().join("man1");
    let written = unwrapd().arg("man").arg(&pages).output().unwrap();
    assert!(
        written.status.success() && written.stdout.is_empty(),
        "{written:?}"
    );
    for (command, help) in commands("") {
        let name = format!("unwrapd-{}.1", command.replace(' ', "-"));
        let page = std::fs::read_to_string(pages.join(&name)).unwrap();
        let shown = page.replace("\\-", "-");
        assert!(
            shown.contains(&format!("unwrapd {command}")),
            "{name}: {page}"
        );
        for option in options(&help) {
            assert!(shown.contains(&format!("--{option}")), "{name}: {option}");
        }
    }
    let root = std::fs::read_to_string(pages.join("unwrapd.1")).unwrap();
    assert!(root.contains(r"unwrapd\-events(1)"), "{root}");
    assert!(!pages.join("unwrapd-man.1").exists());
}
