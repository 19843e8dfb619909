//! The gateway as users run it: a process with a configuration file.

use std::fs::DirEntry;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use openai_webhooks::EventType;
use tempfile::TempDir;

use super::{APP_SECRET, OPENAI_SECRET, PATIENCE, Webhook, address_of, client};

/// The program. Cargo builds it before the tests of its package, into the folder above theirs.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("unwrapd");
    assert!(program.exists(), "{} is missing", program.display());
    program
}

pub fn unwrapd() -> Command {
    let mut command = Command::new(program());
    command
        .env_remove("UNWRAPD_LOG")
        .env_remove("OPENAI_WEBHOOK_SECRET")
        .env_remove("UNWRAPD_CRASH_AT")
        .env_remove("UNWRAPD_CLOCK_SHIFT")
        .env("NO_COLOR", "1");
    command
}

/// Runs a command with this input, and returns its output.
pub fn output_with(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

/// Everything that a command printed: stdout, then stderr.
pub fn told(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(all).unwrap()
}

#[track_caller]
pub fn assert_told(output: &Output, part: &str) {
    assert_contains(&told(output), &[part]);
}

/// The text must have each of these parts.
#[track_caller]
pub fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Writes a configuration with one endpoint `production` and one destination `app`, on a store in
/// the folder.
pub fn write_config(folder: &Path, destination: &str) {
    write_config_on(folder, &sqlite_in(folder), destination, "");
}

/// Writes the configuration of [`write_config`], with this store and these lines for the
/// destination.
pub fn write_config_on(folder: &Path, store: &str, destination: &str, lines: &str) {
    let destination = format!(
        r#"
        [[destination]]
        name = "app"
        url = "{destination}"
        secret = {{ env = "APP_WEBHOOK_SECRET" }}
        {lines}
        "#
    );
    write(folder, "", store, &destination);
}

/// Writes a configuration with one endpoint `production` and these destinations.
pub fn write_destinations(folder: &Path, destinations: &str) {
    write(folder, "", &sqlite_in(folder), destinations);
}

/// A destination that is an application at this URL, with these lines.
pub fn destination_table(name: &str, url: &str, lines: &str) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret = {{ env = \"APP_WEBHOOK_SECRET\" }}\n{lines}\n"
    )
}

/// Runs `serve --check` on the configuration in `folder`. Returns its exit code and its output.
pub fn checked(folder: &Path) -> (Option<i32>, String) {
    let output = unwrapd()
        .args(["serve", "--check", "--config"])
        .arg(folder.join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .output()
        .unwrap();
    (output.status.code(), told(&output))
}

/// Writes a configuration with one endpoint `production` and these lines in `[server]`.
pub fn write_server_config(folder: &Path, server: &str) {
    write(folder, server, &sqlite_in(folder), "");
}

fn sqlite_in(folder: &Path) -> String {
    format!("sqlite:{}/unwrapd.db", folder.display())
}

fn write(folder: &Path, server: &str, store: &str, destinations: &str) {
    let config = format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        admin = "127.0.0.1:0"
        {server}
        [store]
        url = "{store}"
        [[endpoint]]
        name = "production"
        secrets = [{{ env = "OPENAI_WEBHOOK_SECRET" }}]
        {destinations}
        "#
    );
    std::fs::write(folder.join("unwrapd.toml"), config).unwrap();
}

/// Adds these lines to the end of the configuration in the folder.
pub fn add_to_config(folder: &Path, lines: &str) {
    let file = folder.join("unwrapd.toml");
    let mut config = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    config.write_all(lines.as_bytes()).unwrap();
}

/// A running `unwrapd serve`.
pub struct Serving {
    child: Child,
    /// The URL for webhooks.
    pub url: String,
    /// The URL of the admin port.
    pub admin: String,
    log: mpsc::Receiver<String>,
    /// Lines of the log from before the gateway received.
    begin: Vec<String>,
}

impl Serving {
    /// Starts it in a new folder, without destinations, and waits until it receives.
    pub fn start_alone() -> (TempDir, Self) {
        Self::start_with_tables("")
    }

    /// Starts it in a new folder, with these tables after that of its endpoint, and waits until it
    /// receives.
    pub fn start_with_tables(tables: &str) -> (TempDir, Self) {
        let folder = TempDir::new().unwrap();
        write_destinations(folder.path(), tables);
        let serving = Self::start(folder.path(), &[]);
        (folder, serving)
    }

    /// Starts the gateway on the configuration in `folder`, and waits until it receives.
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_with(folder, &[], environment)
    }

    /// Starts the gateway as [`start`](Self::start) does, with these additional arguments.
    pub fn start_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_by(unwrapd(), folder, arguments, environment)
    }

    /// Starts the gateway on the configuration in `folder`, with `current` as its working
    /// directory.
    pub fn start_in(current: &Path, folder: &Path) -> Self {
        let mut command = unwrapd();
        command.current_dir(current);
        Self::start_by(command, folder, &[], &[])
    }

    /// Starts it by this command, which gets the arguments of `unwrapd`.
    pub fn start_by(
        command: Command,
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        Self::begin(command, folder, arguments, environment).started()
    }

    /// Starts the gateway as [`start`](Self::start) does, without waiting.
    pub fn begin_to_start(folder: &Path) -> Self {
        Self::begin(unwrapd(), folder, &[], &[])
    }

    fn begin(
        mut command: Command,
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            .args(["serve", "--config"])
            .arg(folder.join("unwrapd.toml"))
            .args(arguments)
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .env("APP_WEBHOOK_SECRET", APP_SECRET)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (told, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // The pipe must be read even if the receiver is gone.
                drop(told.send(line));
            }
        });
        Self {
            child,
            url: String::new(),
            admin: String::new(),
            log,
            begin: Vec::new(),
        }
    }

    /// Waits until the gateway receives.
    pub fn started(mut self) -> Self {
        let mut url = |what| {
            let rest = self.announced(what);
            // A line as JSON continues after the URL.
            rest.split('"').next().unwrap().to_owned()
        };
        let (receiving, admin) = (url("receiving on "), url("admin API on "));
        self.url = receiving;
        self.admin = admin;
        self
    }

    /// Waits until the gateway logs a line with `what`, and returns the text after it.
    pub fn announced(&mut self, what: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).expect("the gateway starts");
            if let Some((_, url)) = line.split_once(what) {
                return url.to_owned();
            }
            self.begin.push(line);
        }
    }

    /// Waits until the gateway logs a line with `what`. Lines from before it received count too.
    pub fn said(&mut self, what: &str) {
        if !self.begin.iter().any(|line| line.contains(what)) {
            self.announced(what);
        }
    }

    /// Posts it as OpenAI does, by a connection of its own, and returns the status of the response.
    pub async fn post(&self, webhook: &Webhook) -> u16 {
        let answer = webhook.request(&client(), &self.url).send().await;
        answer.unwrap().status().as_u16()
    }

    /// The answer of `/readyz`.
    pub async fn readyz(&self) -> (u16, String) {
        let url = format!("{}/readyz", self.admin);
        let answer = client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Posts a sample of this type, which must be accepted.
    pub async fn receive(&self, id: &str, event_type: EventType) {
        assert_eq!(self.post(&Webhook::new(id, event_type)).await, 200, "{id}");
    }

    /// The address at which it receives.
    pub fn address(&self) -> SocketAddr {
        address_of(&self.url)
    }

    /// Waits for the gateway to end by itself: its stderr ends with it.
    pub fn died(&mut self, case: &str) -> ExitStatus {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("{case}: it lives"),
            }
        }
    }

    /// Peak memory of the gateway so far in KiB. 0 if the system does not report it.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        peak.map_or(0, |peak| peak.parse().unwrap())
    }

    /// Number of threads of the gateway.
    pub fn threads(&self) -> usize {
        let threads = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(threads).unwrap().count()
    }

    /// Sends a signal to the gateway.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends SIGSTOP, and waits until all of its threads are stopped.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let deadline = Instant::now() + PATIENCE;
        let threads = format!("/proc/{}/task", self.child.id());
        let is_stopped = |thread: std::io::Result<DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            let stat = stat.unwrap_or_default();
            // The name is in brackets and may contain anything.
            stat.rsplit_once(')')
                .is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
        };
        while !std::fs::read_dir(&threads).unwrap().all(is_stopped) {
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends SIGTERM, and returns its exit status and its log.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        let mut log = std::mem::take(&mut self.begin);
        log.extend(self.log.iter());
        (status, log.join("\n"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The gateway may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
