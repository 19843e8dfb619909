//! The official SDKs, called through the judges that `scripts/peers` installs.

use std::cell::RefCell;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::requests::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Python,
    Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Verify,
    Unwrap,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Refused { error: String },
}

impl Verdict {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("accepts it"),
            Self::Refused { error } => write!(f, "refuses it ({error})"),
        }
    }
}

/// A process with one of the SDKs, which answers one request after the other.
pub(crate) struct Judge {
    pub(crate) peer: Peer,
    process: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Judge {
    pub(crate) fn both() -> [Self; 2] {
        [Peer::Python, Peer::Node].map(Self::start)
    }

    fn start(peer: Peer) -> Self {
        let name = match peer {
            Peer::Python => "python-judge",
            Peer::Node => "node-judge",
        };
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/peers/bin")
            .join(name);
        assert!(
            program.exists(),
            "{} is not there: run scripts/peers first",
            program.display()
        );
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a judge that can be started: run scripts/peers first");
        let questions = process.stdin.take().expect("it is piped");
        let answers = process.stdout.take().expect("it is piped");
        Self {
            peer,
            process,
            pipes: RefCell::new((questions, BufReader::new(answers))),
        }
    }

    pub(crate) fn ask(&self, op: Op, request: &Request) -> Verdict {
        // HTTP servers in Python and Node decode the bytes of a header as Latin-1.
        let headers: Vec<(&str, String)> = request
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str(),
                    value.iter().map(|&byte| char::from(byte)).collect(),
                )
            })
            .collect();
        let question = serde_json::json!({
            "op": match op {
                Op::Verify => "verify",
                Op::Unwrap => "unwrap",
            },
            "secret": request.secret,
            "headers": headers,
            "payload_base64": STANDARD.encode(&request.body),
            "tolerance": request.tolerance,
            "now": request.now,
        });
        let (questions, answers) = &mut *self.pipes.borrow_mut();
        writeln!(questions, "{question}").expect("a judge that listens");
        let mut answer = String::new();
        answers
            .read_line(&mut answer)
            .expect("a judge that answers");
        serde_json::from_str(&answer)
            .unwrap_or_else(|_| panic!("{:?} answered {answer:?} to {question}", self.peer))
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
