//! The application behind the gateway: a process that receives deliveries and records their
//! latencies.

mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::http;
use crate::process::Process;
use crate::webhook::Kind;

pub use server::serve;

/// Time limit for outstanding deliveries after the load has ended.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Behaviour of the application.
#[derive(Clone, Copy)]
pub enum SinkBehaviour {
    /// Answers immediately.
    Prompt,
    /// Answers after this delay.
    Slow(Duration),
    /// Reads requests, and answers none.
    Hung,
}

/// A running sink, queried over a separate connection.
pub struct Sink {
    process: Process,
    control: TcpStream,
}

impl Sink {
    pub fn start(behaviour: SinkBehaviour) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sink");
        match behaviour {
            SinkBehaviour::Prompt => {}
            SinkBehaviour::Slow(delay) => {
                command.args(["--delay-ms", &delay.as_millis().to_string()]);
            }
            SinkBehaviour::Hung => {
                command.arg("--hang");
            }
        }
        let process = Process::start("the sink", &command, "/delivered")?;
        let control = TcpStream::connect(process.host())?;
        Ok(Self { process, control })
    }

    pub fn url(&self) -> &str {
        self.process.url()
    }

    /// Number of deliveries so far.
    pub fn count(&mut self) -> anyhow::Result<u64> {
        let text = self.query("count")?;
        Ok(str::from_utf8(&text)?.parse()?)
    }

    /// Latencies from OpenAI to the sink of all deliveries of this kind since the last query.
    pub fn latencies(&mut self, kind: Kind) -> anyhow::Result<Vec<Duration>> {
        let microseconds = self.query(server::name(kind))?;
        let each = microseconds.chunks_exact(4).map(|bytes| {
            let bytes = bytes.try_into().expect("a chunk has four bytes");
            Duration::from_micros(u32::from_le_bytes(bytes).into())
        });
        Ok(each.collect())
    }

    /// Waits for `count` deliveries of this kind, and returns their latencies.
    pub fn wait_for(&mut self, kind: Kind, count: usize) -> anyhow::Result<Vec<Duration>> {
        let deadline = Instant::now() + TIMEOUT;
        let mut latencies = self.latencies(kind)?;
        while latencies.len() < count {
            ensure!(
                Instant::now() < deadline,
                "{} of {count} webhooks were delivered within {TIMEOUT:?}",
                latencies.len()
            );
            thread::sleep(Duration::from_millis(20));
            latencies.extend(self.latencies(kind)?);
        }
        Ok(latencies)
    }

    fn query(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        write!(self.control, "GET /{path} HTTP/1.1\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = self.control.read(&mut buffer)?;
            ensure!(count > 0, "the sink closed the connection");
            answer.extend_from_slice(&buffer[..count]);
            if let Some(ends) =
                http::first_message(&answer).context("cannot read the answer of the sink")?
            {
                return Ok(answer[ends.head..ends.body].to_vec());
            }
        }
    }
}
