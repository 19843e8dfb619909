//! The output of `verify`: for people on a terminal and elsewhere, and for programs.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use openai_webhooks::EventType;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use super::{SENT_AT, saved, signed, stdout, verify, written};
use crate::support::OPENAI_SECRET;
use crate::support::process::unwrapd;

const PAYLOAD: &str = EventType::ResponseCompleted.sample();

/// A folder with an authentic request, one that was parsed and written again, and a forged one.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let headers = signed(PAYLOAD);
    let again = PAYLOAD.replace(": ", ":").replace(", ", ",");
    let forged = PAYLOAD.replace("resp_", "resq_");
    for (name, body) in [
        ("authentic", PAYLOAD),
        ("again", &again),
        ("forged", &forged),
    ] {
        written(folder.path(), &format!("{name}.txt"), saved(&headers, body));
    }
    folder
}

fn in_folder(folder: &TempDir, arguments: &[&str]) -> Command {
    let at = (SENT_AT + 2).to_string();
    let mut command = verify(arguments);
    command.args(["--at", &at]).current_dir(folder.path());
    command
}

#[test]
fn the_output_for_people_and_for_programs_is_that_of_the_golden_files() {
    let folder = folder();
    let told = |arguments: &[&str]| stdout(&in_folder(&folder, arguments).output().unwrap());
    assert_eq!(
        told(&["authentic.txt"]),
        include_str!("golden/authentic.txt")
    );
    assert_eq!(
        told(&["again.txt"]),
        include_str!("golden/reserialised.txt")
    );
    assert_eq!(
        told(&["authentic.txt", "forged.txt"]),
        include_str!("golden/several.txt")
    );
    assert_eq!(
        told(&[
            "authentic.txt",
            "again.txt",
            "forged.txt",
            "--output",
            "json"
        ]),
        include_str!("golden/reports.jsonl")
    );
}

#[test]
fn a_terminal_gets_aligned_lines_and_colours_unless_it_wants_none() {
    let folder = folder();
    let mut colored = in_folder(&folder, &["again.txt"]);
    colored.env_remove("NO_COLOR").env("TERM", "xterm");
    assert_eq!(on_a_terminal(colored), include_str!("golden/terminal.txt"));
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut plain = in_folder(&folder, &["again.txt"]);
        plain
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env(variable, value);
        let told = on_a_terminal(plain);
        assert!(
            !told.contains('\x1b') && told.contains("  ✓ headers      complete"),
            "{told}"
        );
    }
}

/// Runs it on a terminal, and returns what it prints there.
fn on_a_terminal(mut command: Command) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = std::fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut child = command.stdout(OwnedFd::from(theirs)).spawn().unwrap();
    // The command holds the terminal open too.
    drop(command);
    let mut told = Vec::new();
    // On Linux, reading a terminal after its last user has gone is an error, not an end.
    drop(std::fs::File::from(ours).read_to_end(&mut told));
    child.wait().unwrap();
    String::from_utf8(told).unwrap().replace("\r\n", "\n")
}

/// Text of a request is hostile.
#[test]
fn characters_that_act_on_a_terminal_are_escaped() {
    let folder = TempDir::new().unwrap();
    let payload = "{\"id\":\"evt_\u{202E}\",\"type\":\"a\\u001b[2J\",\"created_at\":1,\"data\":{}}";
    let file = written(
        folder.path(),
        "request.txt",
        saved(&signed(payload), payload),
    );
    for form in ["human", "json"] {
        let output = in_folder(&folder, &[&file, "--output", form])
            .output()
            .unwrap();
        let told = stdout(&output);
        assert!(!told.contains(['\x1b', '\u{202E}']), "{told}");
        assert!(told.contains("202e"), "{told}");
    }
}

/// Each line of the help that begins with `unwrapd`, but the one that asks a gateway.
#[test]
fn the_examples_of_the_help_work_when_pasted() {
    let help = stdout(&unwrapd().args(["verify", "--help"]).output().unwrap());
    let examples: Vec<&str> = help
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("unwrapd ") && !line.contains("--quarantined"))
        .collect();
    assert!(examples.len() >= 5, "{help}");
    let folder = TempDir::new().unwrap();
    let program = crate::support::process::program();
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    crate::support::process::write_destinations(folder.path(), "");
    let arrived_at: jiff::Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
    let shell = |line: &str| {
        Command::new("sh")
            .args(["-c", line])
            .stdin(Stdio::null())
            .current_dir(folder.path())
            .env("PATH", &path)
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .output()
            .unwrap()
    };
    for line in examples {
        let sent_at = if line.contains("--at") {
            arrived_at.as_second()
        } else {
            crate::support::unix_now()
        };
        let headers = crate::support::openai()
            .sign(PAYLOAD, "wh_1", sent_at)
            .unwrap();
        let lines = headers
            .pairs()
            .map(|(name, value)| format!("{name}: {value}\n"));
        written(folder.path(), "event.json", PAYLOAD);
        written(folder.path(), "old.secret", crate::support::APP_SECRET);
        written(folder.path(), "request.txt", saved(&headers, PAYLOAD));
        let with_headers = line.contains("headers.txt");
        let names = folder.path().join("headers.txt");
        if with_headers {
            std::fs::write(names, lines.concat()).unwrap();
        } else {
            drop(std::fs::remove_file(names));
        }
        let output = shell(line);
        let told = crate::support::process::told(&output);
        assert_eq!(output.status.code(), Some(0), "{line}: {told}");
    }
}

#[test]
fn a_reader_that_closes_the_output_ends_it_quietly() {
    let folder = folder();
    let mut child = in_folder(&folder, &["again.txt"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(
        matches!(output.status.code(), Some(0 | 4)),
        "{:?}",
        output.status
    );
}
