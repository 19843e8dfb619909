//! The application behind the gateway: takes what is delivered, in a process of its own, and
//! remembers how long each took to come.

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

/// How long deliveries may take to come when no more are sent.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How the application behaves.
#[derive(Clone, Copy)]
pub enum SinkBehaviour {
    /// Answers at once.
    Prompt,
    /// Answers after so long.
    Slow(Duration),
    /// Takes everything and answers nothing.
    Hung,
}

/// A running one, asked over a connection of its own.
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

    /// Deliveries that arrived.
    pub fn count(&mut self) -> anyhow::Result<u64> {
        let text = self.query("count")?;
        Ok(str::from_utf8(&text)?.parse()?)
    }

    /// How long each delivery of that kind took from OpenAI to here, since this was asked last.
    pub fn latencies(&mut self, kind: Kind) -> anyhow::Result<Vec<Duration>> {
        let microseconds = self.query(server::name(kind))?;
        let each = microseconds.chunks_exact(4).map(|bytes| {
            let bytes = bytes.try_into().expect("four of them");
            Duration::from_micros(u32::from_le_bytes(bytes).into())
        });
        Ok(each.collect())
    }

    /// The same, once there are so many.
    pub fn wait_for(&mut self, kind: Kind, count: usize) -> anyhow::Result<Vec<Duration>> {
        let deadline = Instant::now() + TIMEOUT;
        let mut latencies = self.latencies(kind)?;
        while latencies.len() < count {
            ensure!(
                Instant::now() < deadline,
                "of {count} webhooks {} were delivered",
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
            ensure!(count > 0, "the sink is gone");
            answer.extend_from_slice(&buffer[..count]);
            if let Some(ends) = http::first_message(&answer).context("the sink answers oddly")? {
                return Ok(answer[ends.head..ends.body].to_vec());
            }
        }
    }
}
