//! OpenAI's SDKs, each in a process that reads rounds from stdin.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Map, json};

use crate::contestants::ContestantId;
use crate::request::{Request, SECRET};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

pub struct Sdk {
    pub id: ContestantId,
    process: Child,
    rounds: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Sdk {
    pub fn start_all(installed: &Path) -> Vec<Self> {
        let mut python = Command::new(installed.join("python/bin/python"));
        python.arg(format!("{SCRIPTS}/unwrap.py"));
        let mut node = Command::new("node");
        node.arg(format!("{SCRIPTS}/unwrap.cjs"))
            .env("NODE_PATH", installed.join("node/node_modules"));
        vec![
            Self::start(ContestantId::Python, python),
            Self::start(ContestantId::Node, node),
        ]
    }

    fn start(id: ContestantId, mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{id:?} does not start: {error}"));
        Self {
            id,
            rounds: process.stdin.take().expect("piped"),
            results: BufReader::new(process.stdout.take().expect("piped")),
            process,
        }
    }

    pub fn nanoseconds_a_call(&mut self, request: &Request, calls: u32) -> f64 {
        let headers: Map<_, _> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().expect("ASCII"))))
            .collect();
        let round = json!({
            "calls": calls,
            "secret": SECRET,
            "headers": headers,
            "body": request.body,
        });
        writeln!(self.rounds, "{round}").expect("the SDK reads rounds");
        let mut result = String::new();
        self.results
            .read_line(&mut result)
            .expect("the SDK writes results");
        result
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{:?} failed, see above", self.id))
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
