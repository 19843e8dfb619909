//! A server in a process of its own, that says where it listens and is ended with us.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::Postgres;

/// How long a server may take to listen, or to stop.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Lines that are shown when it goes wrong.
const LOG_LINES: usize = 20;

pub struct Process {
    name: String,
    child: Child,
    url: String,
    log: Log,
    /// Ended after it.
    database: Option<Postgres>,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Process {
    /// Starts it, and waits until one of its lines has the URL at which it listens: that with this
    /// path.
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
        // It holds the writing end, and the log would never end.
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

    /// The server it has its database on, which nobody else uses.
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

    /// What the kernel counts as resident (`VmRSS`).
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))
            .with_context(|| format!("{} has ended:\n{}", self.name, self.last_lines()))?;
        Ok(kibibytes.trim().parse::<u64>()? * 1024)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?).context("a process has a number")?;
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

/// The same, and it gets that signal if we end: else nobody would end it after we are killed.
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
        // It may be gone already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps reading, so that the server never waits for us; tells the first URL with that path.
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
                // Nobody waits any more if it took too long.
                let _ = sender.send(url.to_owned());
            }
            let mut lines = lines.lock().expect("nobody panics with it");
            if lines.len() == LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
    (log, url)
}
