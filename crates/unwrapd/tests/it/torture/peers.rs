//! Real applications on the official SDKs: naive ones, careful ones, and the samples of the SDKs'
//! own documentation.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{FORGED, Graded, PATIENT, run};
use crate::support::OPENAI_SECRET;

struct Peer {
    child: Child,
    url: String,
    folder: TempDir,
}

impl Peer {
    /// Starts a program of `scripts/peers`.
    fn start(name: &str, which: &str) -> Self {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/peers/bin/{name}"));
        assert!(
            program.exists(),
            "{name} is not installed: run scripts/peers first"
        );
        let folder = TempDir::new().unwrap();
        let mut child = Command::new(program)
            .arg(which)
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .stdout(Stdio::piped())
            .stderr(File::create(log(&folder)).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let url = line["listening"].as_str().unwrap().to_owned();
        Self { child, url, folder }
    }

    /// Grades it, with its effects as it counts them itself.
    async fn grade(&self) -> Graded {
        let effects = self.url.replace("/webhook", "/effects");
        self.grade_with(&["--effects-url", &effects]).await
    }

    /// Grades it. Its effect is the line that it prints for an event.
    async fn grade_by_its_log(&self) -> Graded {
        let log = log(&self.folder);
        let command = format!("grep -c \"$UNWRAPD_RESOURCE\" '{}' || true", log.display());
        self.grade_with(&["--effects-command", &command]).await
    }

    async fn grade_with(&self, effects: &[&str]) -> Graded {
        let more = ["--effects-wait", "0", "--output", "json"];
        let arguments = [&[&*self.url], &PATIENT[..], effects, &more].concat();
        Graded::of(&run(&arguments).await)
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

impl Drop for Peer {
    fn drop(&mut self) {
        // With SIGTERM it can remove its files.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        drop(self.child.wait());
    }
}

const PROCESSED_AGAIN: [&str; 3] = ["concurrent-duplicate", "duplicate", "lost-answer"];

#[tokio::test(flavor = "multi_thread")]
async fn a_careful_application_on_an_official_sdk_passes_every_check() {
    for name in ["python-applications", "node-applications"] {
        let graded = Peer::start(name, "careful").grade().await;
        let all: BTreeSet<&str> = graded.checks.keys().map(String::as_str).collect();
        assert_eq!(graded.names("pass"), all, "{name}");
        assert_eq!(graded.code, Some(0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_naive_application_on_fastapi_is_told_its_faults() {
    let graded = Peer::start("python-applications", "naive").grade().await;
    let faults = ["json-spelling", "non-ascii"].into_iter();
    assert_eq!(
        graded.names("fail"),
        faults.chain(PROCESSED_AGAIN).collect()
    );
    assert_eq!(graded.names("warn"), FORGED.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_naive_application_on_express_is_told_its_faults() {
    let graded = Peer::start("node-applications", "naive").grade().await;
    let faults = ["json-spelling"].into_iter();
    assert_eq!(
        graded.names("fail"),
        faults.chain(PROCESSED_AGAIN).collect()
    );
    let warnings = ["huge-sip-headers"].into_iter();
    assert_eq!(graded.names("warn"), warnings.chain(FORGED).collect());
}

/// `docs/guide/test-your-handler.md` says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_samples_of_the_official_sdks_verify_and_process_each_copy_again() {
    for (name, which) in [
        ("python-readme-sample", "unwrap"),
        ("python-readme-sample", "verify_signature"),
        ("node-readme-sample", "unwrap"),
        ("node-readme-sample", "verifySignature"),
    ] {
        let graded = Peer::start(name, which).grade_by_its_log().await;
        assert_eq!(
            graded.names("fail"),
            PROCESSED_AGAIN.into(),
            "{name} {which}"
        );
        let passed = graded.checks.len() - PROCESSED_AGAIN.len();
        assert_eq!(graded.summary["pass"], passed, "{name} {which}");
    }
}

/// The report is XML for a parser that knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_report_for_ci_is_xml() {
    let peer = Peer::start("node-applications", "naive");
    let output = run(&[&[&*peer.url, "--output", "junit"], &PATIENT[..]].concat()).await;
    let file = peer.folder.path().join("torture.xml");
    std::fs::write(&file, &output.stdout).unwrap();
    let count = "import sys, xml.etree.ElementTree as tree; \
        print(len(tree.parse(sys.argv[1]).findall('./testsuite/testcase/failure')))";
    let python = Command::new("python3")
        .args(["-c", count])
        .arg(&file)
        .output();
    let python = python.unwrap();
    assert_eq!(String::from_utf8(python.stdout).unwrap().trim(), "1");
}
