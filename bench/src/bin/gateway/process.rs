//! A server process that prints its URL and ends with the benchmark.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::Postgres;

/// Time limit for the start and for the stop of a server.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Number of output lines that an error shows.
const LOG_LINES: usize = 20;

pub struct Process {
    name: String,
    child: Child,
    url: String,
    log: Log,
    /// The server of its database, dropped after the process.
    database: Option<Postgres>,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Process {
    /// Starts the process, and waits until a line of its output has a URL that ends in `path`.
    pub fn start(name: &str, command: &Command, path: &str) -> anyhow::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let mut command = with_death_signal(command, "KILL");
        command
            .env("NO_COLOR", "1")
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started with setpriv"))?;
        // The command holds the pipe's write end, so the log would never end.
        drop(command);
        let (log, url) = read_log(reader, path.to_owned());
        let mut process = Self {
            name: name.to_owned(),
            child,
            url: String::new(),
            log,
            database: None,
        };
        let Ok(url) = url.recv_timeout(TIMEOUT) else {
            bail!("{name} does not start:\n{}", process.last_lines());
        };
        process.url = url;
        Ok(process)
    }

    /// Attaches the database server of this process, which no other process uses.
    #[must_use]
    pub fn with_database(mut self, database: Postgres) -> Self {
        self.database = Some(database);
        self
    }

    pub fn database(&self) -> Option<&Postgres> {
        self.database.as_ref()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn host(&self) -> &str {
        let rest = self.url.trim_start_matches("http://");
        rest.split_once('/').map_or(rest, |(host, _)| host)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of the process (`VmRSS` in `/proc/PID/status`).
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))
            .with_context(|| format!("{} has ended:\n{}", self.name, self.last_lines()))?;
        Ok(kibibytes.trim().parse::<u64>()? * 1024)
    }

    /// Sends SIGTERM, and waits until the process has ended.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?).context("a process id is 0")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not stop:\n{}", self.name, self.last_lines());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn last_lines(&self) -> String {
        let lines = self.log.lock().expect("the reader does not panic");
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// The command under `setpriv`, so that its process receives `signal` when the benchmark ends, even
/// by SIGKILL.
pub fn with_death_signal(command: &Command, signal: &str) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv
        .args(["--pdeathsig", signal, "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
    setpriv
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all output, so that the server never blocks on the pipe. Sends the first URL that ends in
/// `path`.
fn read_log(pipe: std::io::PipeReader, path: String) -> (Log, Receiver<String>) {
    let log = Log::default();
    let (sender, url) = channel();
    let lines = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut words = line.split_whitespace();
            let url = words.find(|word| word.starts_with("http://") && word.ends_with(&path));
            if let Some(url) = url
                && let Some(sender) = sender.take()
            {
                // After a time-out the receiver is gone.
                let _ = sender.send(url.to_owned());
            }
            let mut lines = lines.lock().expect("the lock is never held during a panic");
            if lines.len() == LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
    (log, url)
}
