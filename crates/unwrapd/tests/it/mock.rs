//! `unwrapd mock` as a process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use openai_webhooks::Secret;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use unwrapd_mock::{Mock, Report, Settings};

use crate::support::application::{Answer, Application};
use crate::support::process::{assert_told, program, told, unwrapd};
use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE, TestGateway, client, destination};

const COMMANDS: &str = include_str!("../../../../docs/reference/commands.md");

/// A running mock, whose output is JSON.
struct Mocking {
    child: Child,
    /// Its output, until the test closes it.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    /// Its first line.
    listening: Value,
    base_url: String,
}

impl Mocking {
    fn start(arguments: &[&str]) -> Self {
        let mut command = unwrapd();
        command
            .args(["mock", "--listen", "127.0.0.1:0", "--output", "json"])
            .args(arguments)
            .env("OPENAI_WEBHOOK_SECRET", APP_SECRET);
        Self::by(command)
    }

    /// Starts it by this command, in a process group of its own: a shell may stay between.
    fn by(mut command: Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut mocking = Self {
            child,
            lines: Some(lines),
            listening: Value::Null,
            base_url: String::new(),
        };
        mocking.listening = mocking.next();
        assert_eq!(mocking.listening["kind"], "listening");
        let base_url = mocking.listening["base_url"].as_str().unwrap();
        mocking.base_url = base_url.to_owned();
        mocking
    }

    fn next(&mut self) -> Value {
        let lines = self.lines.as_mut().unwrap();
        let line = lines.next().expect("it runs").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits for a line of this kind.
    fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let line = self.next();
            if line["kind"] == kind {
                return line;
            }
        }
    }

    async fn post(&self, path: &str, body: Value) -> (u16, String) {
        let url = format!("{}{path}", self.base_url.trim_end_matches("/v1"));
        let request = client().post(url).bearer_auth("any").body(body.to_string());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends Ctrl-C. Returns the exit code and everything else that it printed.
    fn interrupt(mut self) -> (Option<i32>, String) {
        self.signal(Signal::INT);
        let code = self.child.wait().unwrap().code();
        let mut text = String::new();
        for line in self.lines.take().into_iter().flatten() {
            text += &line.unwrap();
        }
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        (code, text)
    }
}

impl Drop for Mocking {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::KILL);
            drop(self.child.wait());
        }
    }
}

fn refused(arguments: &[&str]) -> Output {
    let mut command = unwrapd();
    command.arg("mock").args(arguments);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_prints_what_happens_and_stops_at_ctrl_c() {
    let mut application = Application::start([Answer::IfVerified]).await;
    let mut mock = Mocking::start(&["--speed", "60", "--endpoint", &application.url]);
    let request = json!({"model": "gpt-6-astra", "input": "Hi", "background": true});
    let (status, response) = mock.post("/v1/responses", request).await;
    assert_eq!(status, 200, "{response}");
    let request = mock.next_of("request");
    assert_eq!(
        (&request["method"], &request["status"]),
        (&json!("POST"), &json!(200))
    );
    let event = mock.next_of("event");
    assert_eq!(
        (&event["type"], &event["endpoints"]),
        (&json!("response.completed"), &json!(1))
    );
    let attempt = mock.next_of("attempt");
    assert_eq!(
        (&attempt["status"], &attempt["state"]),
        (&json!(200), &json!("delivered"))
    );
    let delivered = application.next().await;
    assert_eq!(attempt["webhook_id"], delivered.webhook_id());
    assert!(delivered.verified().is_ok());

    let (code, rest) = mock.interrupt();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("OPENAI_BASE_URL="), "{rest}");
    assert!(!rest.contains("whsec_"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_delivers_what_the_mock_sends_and_duplicates_only_once() {
    let mut application = Application::start([]).await;
    let gateway = TestGateway::start(vec![destination("app", &application.url)]).await;
    let mut settings = Settings::default();
    settings.speed = 3600;
    settings.duplicate_every = 1;
    let url = gateway.url("production").parse().unwrap();
    settings.endpoints = vec![(url, Secret::parse(OPENAI_SECRET).unwrap())];
    let mock = Mock::start(settings).await.unwrap();
    let mut reports = mock.subscribe();
    let body = json!({"model": "gpt-6-astra", "input": "Hi", "background": true});
    let mut delivered = Vec::new();
    for _ in 0..2 {
        let request = client().post(format!("{}/responses", mock.base_url()));
        let request = request.bearer_auth("any").body(body.to_string());
        assert_eq!(request.send().await.unwrap().status(), 200);
        let first = application.next().await;
        assert!(first.verified().is_ok());
        delivered.push(first.webhook_id().to_owned());
        loop {
            let report = reports.recv().await.unwrap();
            if let Report::Attempt {
                is_duplicate: true,
                status,
                ..
            } = report
            {
                assert_eq!(status, Some(200));
                break;
            }
        }
    }
    assert_ne!(delivered[0], delivered[1]);
    gateway.settled().await;
    assert!(!application.has_more());
    mock.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_from_options_and_from_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules");
    std::fs::write(&file, "# Faults\n\nGET /v1/files 503 # busy\n").unwrap();
    let rules = file.to_str().unwrap();
    let mock = Mocking::start(&["--rule", "POST /v1/responses 429", "--rules", rules]);
    assert_eq!(
        mock.post("/v1/responses", json!({"model": "m"})).await.0,
        429
    );
    let url = format!("{}/files", mock.base_url);
    let answer = client().get(url).bearer_auth("any").send().await.unwrap();
    assert_eq!(answer.status(), 503);

    std::fs::write(&file, "response failed\nresponse finished\n").unwrap();
    let output = refused(&["--rules", rules]);
    assert_eq!(output.status.code(), Some(2));
    assert_told(&output, "line 2: after `response` comes its result");
}

#[test]
fn a_mistake_in_the_command_line_is_exit_code_2_with_the_remedy() {
    for (arguments, remedy) in [
        (&["--listen", "0.0.0.0:0"][..], "--allow-remote"),
        (&["--listen", "8090"], "127.0.0.1:8090"),
        (&["--rule", "POST /v1/files 200"], "from 400 to 599"),
        (&["--endpoint", "3000/webhook"], "OPENAI_WEBHOOK_SECRET"),
        (&["--retention", "none"], "zero"),
        (&["--speed", "1000001"], "1000000"),
        (&["--rules", "/no/such/file"], "cannot read"),
    ] {
        let output = refused(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert_told(&output, remedy);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_json_line_has_the_fields_of_the_reference() {
    let (_, section) = COMMANDS.split_once("### JSON lines of `mock`").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut documented: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let in_backticks = |cell: &'static str| cell.split('`').skip(1).step_by(2);
        let kind = in_backticks(cells[1]).next().unwrap();
        let fields = documented.entry(kind).or_default();
        fields.insert("kind");
        fields.extend(in_backticks(cells[2]));
    }

    let application = Application::start([Answer::IfVerified]).await;
    let mut mock = Mocking::start(&["--speed", "60", "--endpoint", &application.url]);
    let request = json!({"model": "gpt-6-astra", "input": "Hi", "background": true});
    mock.post("/v1/responses", request).await;
    let mut lines = vec![mock.listening.clone()];
    lines.extend(["request", "event", "attempt"].map(|kind| mock.next_of(kind)));
    for line in &lines {
        let fields = line.as_object().unwrap().keys().map(String::as_str);
        let documented = documented.remove(line["kind"].as_str().unwrap());
        assert_eq!(documented, Some(fields.collect()), "{line}");
    }
    assert!(documented.is_empty(), "{documented:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closes_the_output_ends_the_mock_quietly() {
    let mut mock = Mocking::start(&[]);
    mock.lines = None;
    let url = format!("{}/files", mock.base_url);
    // A process that another test starts has the reader too for a moment, so the first lines may
    // still be written. The mock may end before an answer arrives.
    let ended = async {
        loop {
            drop(client().get(&url).bearer_auth("any").send().await);
            if let Some(status) = mock.child.try_wait().unwrap() {
                return status.code();
            }
        }
    };
    let code = timeout(PATIENCE, ended).await;
    let code = code.expect("it ends");
    let mut stderr = String::new();
    let mut pipe = mock.child.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).unwrap();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.ends_with("Press Ctrl-C to stop.\n"), "{stderr}");
}

#[test]
fn a_port_in_use_is_exit_code_5() {
    let mock = Mocking::start(&[]);
    let address = mock.base_url.strip_prefix("http://").unwrap();
    let output = refused(&["--listen", address.strip_suffix("/v1").unwrap()]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_example_of_the_help_works() {
    let help = refused(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, examples) = help.split_once("Examples: ").unwrap();
    let examples = examples.replace("\\\n", " ");
    let folder = program();
    let folder = folder.parent().unwrap().to_str().unwrap();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", &path);
        command
    };
    let (curl, run): (Vec<_>, Vec<_>) = examples
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .partition(|line| line.starts_with("curl "));
    assert!(run.len() > 2 && curl.len() > 1, "{help}");
    for line in run {
        let mock = Mocking::by(shell(&format!("{line} --listen 127.0.0.1:0 --output json")));
        for line in &curl {
            let line = line.replace("http://127.0.0.1:8090/v1", &mock.base_url);
            let root = mock.base_url.trim_end_matches("/v1");
            let line = line.replace("http://127.0.0.1:8090", root);
            let output = shell(&line).output().unwrap();
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(answer["error"].is_null(), "{line}: {answer}");
        }
    }
}
