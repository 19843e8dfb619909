//! All mistakes of a configuration are reported in one run, each with its line.

mod paths;
mod secrets;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::process::{checked, destination_table, unwrapd, write_destinations};
use crate::support::{APP_SECRET, OPENAI_SECRET};

const ENDPOINT: &str =
    "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n";

/// Writes the configuration into the folder, and returns its path.
fn write(folder: &Path, config: impl AsRef<[u8]>) -> PathBuf {
    let file = folder.join("unwrapd.toml");
    std::fs::write(&file, config).unwrap();
    file
}

fn with_secrets(command: &mut Command) -> &mut Command {
    command
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
}

fn serve_in(folder: &Path, config: &[u8], arguments: &[&str]) -> Output {
    let file = write(folder, config);
    with_secrets(&mut unwrapd())
        .args(["serve", "--config"])
        .arg(file)
        .args(arguments)
        .output()
        .unwrap()
}

/// The report of the gateway on a configuration that it refuses.
fn refused_in(folder: &Path, config: &str) -> String {
    let output = serve_in(folder, config.as_bytes(), &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    told
}

/// Checks that the gateway refuses the file, and reports only the mistakes that are marked in it as
/// in [`table`]. The word `hunter2` is part of secrets, so it must not be in the report. Returns
/// the report.
fn check(marked: &str) -> String {
    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    for (number, line) in marked.lines().enumerate() {
        let mut parts = line.split("#!");
        lines.push(parts.next().unwrap().trim_end());
        expected.extend(parts.map(|problem| (number + 1, problem.trim())));
    }
    if !marked.contains("endpoint]") {
        lines.push(ENDPOINT);
    }
    let config = lines.join("\n");
    let folder = TempDir::new().unwrap();
    let told = refused_in(folder.path(), &config);
    assert!(!told.contains("hunter2"), "{marked}: {told}");
    let place = format!("{}:", folder.path().join("unwrapd.toml").display());
    let mistakes: Vec<(usize, &str)> = told
        .lines()
        .filter_map(|line| {
            let (number, problem) = line.split_once(&place)?.1.split_once(": ")?;
            Some((number.parse().ok()?, problem))
        })
        .collect();
    let numbers = |all: &[(usize, &str)]| all.iter().map(|(line, _)| *line).collect::<Vec<_>>();
    assert_eq!(numbers(&mistakes), numbers(&expected), "{marked}: {told}");
    // Each mistake is one line of the report, also one about the whole file, without a number.
    assert_eq!(told.lines().count(), expected.len(), "{marked}: {told}");
    for ((_, problem), (line, expected)) in mistakes.iter().zip(&expected) {
        assert!(problem.contains(expected), "{marked}: line {line}: {told}");
    }
    told
}

#[test]
fn each_mistake_is_reported_with_its_line_and_no_other() {
    for case in table::CASES {
        check(case.trim_start());
    }
}

#[test]
fn lists_that_each_webhook_is_compared_with_have_a_limit() {
    let told = check(&format!(
        "[[endpoint]]\nname = \"a\"\nsecrets = [{}] #! more than 16 secrets\n\
         [[destination]]\nname = \"b\"\njsonl = \"-\"\nevents = [{}] #! more than 256 event patterns\n",
        "{ env = \"OPENAI_WEBHOOK_SECRET\" },".repeat(17),
        "\"x.y\",".repeat(257),
    ));
    assert!(told.len() < 1000, "{told}");
}

#[test]
fn mistakes_of_the_store_are_reported_with_those_of_the_file() {
    let folder = TempDir::new().unwrap();
    let told = refused_in(
        folder.path(),
        "[store]\nurl = \"sqlite:no/such/folder/u.db\"\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"NO_SUCH\" }]\n",
    );
    assert!(told.contains("unwrapd.toml:5: "), "{told}");
    assert!(told.contains("no/such/folder does not exist"), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn equal_ports_at_different_addresses_are_accepted() {
    let folder = TempDir::new().unwrap();
    let config =
        format!("[server]\nlisten = \"127.0.0.1:8080\"\nadmin = \"127.0.0.2:8080\"\n{ENDPOINT}");
    let output = serve_in(folder.path(), config.as_bytes(), &["--check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_file_that_is_no_configuration_is_reported_with_its_kind() {
    let folder = TempDir::new().unwrap();
    let utf16: Vec<u8> = "\u{FEFF}[server]\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (config, problem) in [
        (&utf16[..], "it is UTF-16"),
        (&utf16[2..], "it is UTF-16"),
        (
            b"[server]\nlisten = \"\xE9\"\n",
            "it is not UTF-8 text (line 2)",
        ),
    ] {
        let output = serve_in(folder.path(), config, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(problem), "{told}");
    }
    for (path, problem) in [
        ("/dev/zero", "it is a device"),
        (folder.path().to_str().unwrap(), "it is a folder"),
    ] {
        let output = unwrapd()
            .args(["serve", "--config", path])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(problem), "{told}");
    }
}

#[test]
fn a_byte_order_mark_does_no_harm_in_a_configuration_or_a_secret() {
    let folder = TempDir::new().unwrap();
    let marked = format!("\u{FEFF}{OPENAI_SECRET}\r\n");
    std::fs::write(folder.path().join("secret"), marked).unwrap();
    let config = "\u{FEFF}[[endpoint]]\nname = \"a\"\nsecrets = [{ file = \"secret\" }]\n";
    let output = serve_in(folder.path(), config.as_bytes(), &["--check"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
}

/// OpenAI may have added a type, so a pattern that matches none is only doubted.
#[test]
fn a_pattern_that_matches_no_type_is_a_warning_with_the_nearest_one() {
    let folder = TempDir::new().unwrap();
    for (pattern, nearest) in [
        ("batch.complted", Some("batch.completed")),
        ("unwrapd.destination.dwon", Some("unwrapd.destination.down")),
        ("!unwrapd.stores.*", Some("!unwrapd.store.*")),
        ("unwrapd.*", None),
        ("!unwrapd.delivery.dead", None),
    ] {
        let events = format!("events = [\"*\", \"{pattern}\"]");
        let url = "http://127.0.0.1:9/webhook";
        write_destinations(folder.path(), &destination_table("app", url, &events));
        let (code, told) = checked(folder.path());
        assert_eq!(code, Some(0), "{pattern}: {told}");
        let doubt = nearest.map(|nearest| {
            format!(
                "`{pattern}` matches no event type that is known today; did you mean `{nearest}`?"
            )
        });
        match doubt {
            Some(doubt) => assert!(told.contains(&doubt), "{told}"),
            None => assert!(!told.contains("matches no event type"), "{told}"),
        }
    }
}
