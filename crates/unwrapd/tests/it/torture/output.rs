//! The options of the command, and the forms of its report.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

use super::handler::{Fault, Handler};
use super::{Graded, PATIENT, command, run, stderr, stdout};
use crate::support::application::{Answer, Application};
use crate::support::{APP_SECRET, OPENAI_SECRET};

const GUIDE: &str = include_str!("../../../../../docs/guide/test-your-handler.md");

#[tokio::test]
async fn checks_are_chosen_by_name() {
    let handler = Handler::start(Fault::None).await;
    let only = [
        "--only",
        "stale-timestamp,status-200",
        "--only",
        "duplicate",
    ];
    let arguments = [
        &[&*handler.url, "--output", "json"],
        &only[..],
        &["--skip", "duplicate"],
    ];
    let graded = Graded::of(&run(&arguments.concat()).await);
    let names: Vec<&str> = graded.checks.keys().map(String::as_str).collect();
    assert_eq!(names, ["genuine-event", "stale-timestamp", "status-200"]);

    let wrong = run(&[&*handler.url, "--only", "stale"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("stale-timestamp"),
        "{}",
        stderr(&wrong)
    );
}

#[tokio::test]
async fn junit_has_a_case_for_each_check_with_its_failure() {
    let handler = Handler::start(Fault::KnowsNoPast).await;
    let arguments = [&[&*handler.url, "--output", "junit"], &PATIENT[..]].concat();
    let output = run(&arguments).await;
    let xml = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    let listed = stdout(&run(&["--list"]).await).lines().count();
    assert_eq!(xml.matches("<testcase ").count(), listed, "{xml}");
    let suite = format!("tests=\"{listed}\" failures=\"1\" errors=\"0\" skipped=\"4\"");
    assert!(xml.contains(&suite), "{xml}");
    let failure =
        "<failure message=\"an event with an old timestamp is accepted\" type=\"stale-timestamp\">";
    assert!(xml.contains(failure), "{xml}");
    assert!(
        xml.contains("<skipped message=\"not judged: 200 for both; "),
        "{xml}"
    );
}

/// Runs it on a terminal of this width.
async fn run_on_a_terminal(columns: u16, url: &str, color: bool) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let mut options = std::fs::File::options();
    let theirs = options.read(true).write(true).open(name.to_str().unwrap());
    let theirs = theirs.unwrap();
    let size = Winsize {
        ws_row: 40,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&theirs, size).unwrap();
    let mut command = command(&[url]);
    if color {
        command.env_remove("NO_COLOR");
    }
    let mut child = command
        .stdout(OwnedFd::from(theirs.try_clone().unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // No other process has the terminal open then, so the output ends with the child.
    drop((theirs, command));
    let read = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        // On Linux, reading a terminal after its last user has gone is an error, not an end.
        drop(std::fs::File::from(ours).read_to_end(&mut said));
        child.wait().unwrap();
        String::from_utf8(said).unwrap()
    });
    read.await.unwrap()
}

#[tokio::test]
async fn a_terminal_gets_lines_that_fit_and_colours_unless_it_wants_none() {
    let handler = Handler::start(Fault::VerifiesNothing).await;
    for columns in [60, 80, 120] {
        let told = run_on_a_terminal(columns, &handler.url, false).await;
        assert!(!told.contains('\x1b'), "{told}");
        let widest = told.lines().map(|line| line.trim_end().chars().count());
        let widest = widest.max().unwrap();
        assert!(widest <= usize::from(columns), "{told}");
        assert!(widest > usize::from(columns.min(100)) - 20, "{told}");
    }
    let told = run_on_a_terminal(80, &handler.url, true).await;
    assert!(told.contains("\x1b[31m✕\x1b[0m"), "{told}");
    assert!(told.contains("\x1b[32m✓\x1b[0m"), "{told}");
}

#[tokio::test]
async fn no_output_holds_the_secret_or_the_query_of_the_url() {
    let app = Application::start([]).await;
    let url = format!("{}?key=hunter2", app.url);
    for form in ["human", "json", "junit"] {
        let output = run(&[&url, "--output", form]).await;
        let told = stdout(&output) + &stderr(&output);
        for secret in ["hunter2", OPENAI_SECRET, APP_SECRET] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_command_without_a_report() {
    let mut app = Application::start([Answer::Hang]).await;
    let child = command(&[&app.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    app.next().await;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert_eq!(stderr(&output), "error: interrupted; nothing was judged\n");
}

#[tokio::test]
async fn the_guide_has_a_section_for_each_check_and_no_other() {
    let listed = stdout(&run(&["--list", "--output", "json"]).await);
    let checks: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = checks
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    let sections: Vec<&str> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    assert_eq!(sections, names);
    for check in &checks {
        let docs = check["docs"].as_str().unwrap();
        let name = check["name"].as_str().unwrap();
        assert_eq!(docs, format!("docs/guide/test-your-handler.md#{name}"));
    }
}
