//! The gateway as a process that can be killed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::crash::application::Application;
use crate::process::program;
use crate::{OPENAI_SECRET, PATIENCE};

/// Concurrency of each destination, which limits the deliveries that a kill may duplicate.
pub const CONCURRENCY: usize = 16;
/// Time-out of an attempt: much longer than a destination ever hangs, much shorter than
/// [`PATIENCE`].
const TIMEOUT_SECONDS: u64 = 5;
const BINARY: &str = "unwrapd";
/// File in the folder of a gateway with the shift of its clock.
pub const CLOCK: &str = "clock";
/// Number of log lines that are shown if the process ends by itself.
const LOG_LINES: usize = 20;

/// Copies the binary: a build during a long run must not change what runs.
pub fn copy_binary(folder: &Path) {
    std::fs::copy(program(), folder.join(BINARY)).unwrap();
}

/// Writes the configuration of one process, which receives on this port. 0: any free port.
pub fn write_config(
    folder: &Path,
    port: u16,
    store: &str,
    applications: &[Application],
    life: u32,
) {
    let mut config = format!(
        r#"
        [server]
        listen = "127.0.0.1:{port}"
        admin = "127.0.0.1:0"
        [store]
        url = "{store}"
        [[endpoint]]
        name = "production"
        secrets = [{{ env = "OPENAI_WEBHOOK_SECRET" }}]
        "#
    );
    for Application { destination, url } in applications {
        let (name, events) = (destination.name(), destination.events());
        let secret = folder.join(name);
        std::fs::write(&secret, destination.secret()).unwrap();
        write!(
            config,
            r#"
            [[destination]]
            name = "{name}"
            url = "{url}/{life}"
            secret = {{ file = "{secret}" }}
            events = {events}
            concurrency = {CONCURRENCY}
            timeout_seconds = {TIMEOUT_SECONDS}
            "#,
            secret = secret.display(),
        )
        .unwrap();
    }
    std::fs::write(folder.join("unwrapd.toml"), config).unwrap();
}

pub struct Gateway {
    child: Child,
    addresses: oneshot::Receiver<Addresses>,
    log: JoinHandle<VecDeque<String>>,
}

/// Addresses of a running gateway.
pub struct Addresses {
    /// URL to which webhooks are posted.
    pub webhooks: String,
    /// URL of the readiness check.
    #[allow(dead_code, reason = "the tests of faults ask there")]
    pub readyz: String,
}

impl Gateway {
    /// Starts the gateway on the configuration in `folder`.
    pub fn start(folder: &Path, life: u32, crash_at: Option<&str>) -> Self {
        let mut command = Command::new(folder.join(BINARY));
        // Without the file, the clock is right.
        command.env("UNWRAPD_CLOCK_SHIFT", folder.join(CLOCK));
        if let Some(crash_at) = crash_at {
            command.env("UNWRAPD_CRASH_AT", crash_at);
        }
        Self::start_by(command, folder, life)
    }

    /// Starts the gateway by a command that accepts its arguments. Every second process has only
    /// one thread.
    pub fn start_by(mut command: Command, folder: &Path, life: u32) -> Self {
        if life.is_multiple_of(2) {
            command.args(["serve", "--threads", "1"]);
        } else {
            command.arg("serve");
        }
        let mut child = command
            .env_remove("UNWRAPD_LOG")
            .env("NO_COLOR", "1")
            .arg("--config")
            .arg(folder.join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (told, addresses) = oneshot::channel();
        let log = tokio::spawn(read_log(child.stderr.take().unwrap(), told));
        Self {
            child,
            addresses,
            log,
        }
    }

    /// Waits until the gateway receives, and returns its addresses. `None` if it died before.
    pub async fn ready(&mut self) -> anyhow::Result<Option<Addresses>> {
        let addresses = timeout(PATIENCE, &mut self.addresses).await;
        Ok(addresses.context("the gateway does not start")?.ok())
    }

    pub async fn died(&mut self) {
        self.child.wait().await.unwrap();
    }

    /// Sends SIGKILL, unless the process is dead. Returns an error if it ended in another way.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        // The process may have ended already.
        drop(self.child.start_kill());
        let status = self.child.wait().await?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            let log = Vec::from(self.log.await?).join("\n");
            bail!("the gateway ended by itself ({status}):\n{log}");
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits for a successful exit.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .context("the gateway does not stop")??;
        ensure!(status.success(), "the gateway did not stop well: {status}");
        Ok(())
    }
}

impl Gateway {
    /// Sends SIGSTOP: the process stops, while the other gateways take it for alive.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Sends SIGCONT: the process continues where it stopped.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().context("the gateway is gone")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process has a number")?;
        Ok(kill_process(pid, signal)?)
    }
}

/// Reads the log to its end, sends the addresses, and returns the last lines.
async fn read_log(stderr: ChildStderr, told: oneshot::Sender<Addresses>) -> VecDeque<String> {
    let mut told = Some(told);
    let mut webhooks = String::new();
    let mut last = VecDeque::new();
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, url)) = line.split_once("receiving on ") {
            url.clone_into(&mut webhooks);
        }
        if let Some((_, admin)) = line.split_once("admin API on ")
            && let Some(told) = told.take()
        {
            // The test may have killed the process without waiting for the addresses.
            drop(told.send(Addresses {
                webhooks: std::mem::take(&mut webhooks),
                readyz: format!("{admin}/readyz"),
            }));
        }
        last.push_back(line);
        if last.len() > LOG_LINES {
            last.pop_front();
        }
    }
    last
}
