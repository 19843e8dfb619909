//! Runs a command for each message: the payload is its stdin, its environment describes the
//! message, and its exit code decides. There is no shell: arguments are passed unchanged.

mod family;
mod settings;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use openai_webhooks::Envelope;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout};

use super::{Destination, left};
use crate::delivery::limits::Limits;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::{Delivery, Outcome};
use crate::message::Origin;
use crate::trace_context::AttemptTrace;
use family::Mark;
pub use settings::CommandSettings;

/// Variables that a command inherits from the gateway. Others may hold secrets.
const ENVIRONMENT_KEPT: [&str; 9] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LC_ALL",
];
/// Maximum length of a text of a message in the environment, in bytes. A command with too large an
/// environment cannot be started.
const VALUE_BYTES_MAX: usize = 1024;
/// Variable with the trace and the span that those of the command continue, named as
/// [OpenTelemetry](https://opentelemetry.io/docs/specs/otel/context/env-carriers/) does.
const TRACE_VARIABLE: &str = "TRACEPARENT";
/// `EX_TEMPFAIL` of `sysexits.h`: try again later.
const TRY_LATER: i32 = 75;
/// Minimum wait after this exit code. The first back-offs would retry within a second.
const TRY_LATER_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for output after the end of the command: a process that it started may keep the
/// output open forever.
const OUTPUT_WAIT_MAX: Duration = Duration::from_millis(50);

/// Delivers by running a command.
pub(crate) struct CommandDestination {
    settings: CommandSettings,
    limits: Limits,
}

impl CommandDestination {
    /// A destination that runs a separate command for each message.
    #[must_use]
    pub(crate) fn new(settings: CommandSettings, limits: Limits) -> Self {
        Self { settings, limits }
    }

    fn start(
        &self,
        delivery: &Delivery,
        trace: Option<AttemptTrace>,
    ) -> io::Result<(Group, ChildStdin, pipe::Receiver)> {
        // One pipe for both, so that the output stays in order.
        let (output, printed) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        let mark = Mark::new();
        let mut child = Command::new(&self.settings.program)
            .args(&self.settings.arguments)
            .env_clear()
            .envs(
                ENVIRONMENT_KEPT
                    .iter()
                    .filter_map(|name| std::env::var_os(name).map(|value| (name, value))),
            )
            .envs(about(delivery))
            .envs(trace.map(|trace| (TRACE_VARIABLE, trace.traceparent())))
            .env(family::VARIABLE, mark.as_str())
            .stdin(Stdio::piped())
            .stdout(printed.try_clone()?)
            .stderr(printed)
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        Ok((Group { child, mark }, stdin, output))
    }
}

#[async_trait]
impl Destination for CommandDestination {
    fn kind(&self) -> &'static str {
        "command"
    }

    async fn send(&self, delivery: &Delivery, trace: Option<AttemptTrace>) -> Outcome {
        let started = Instant::now();
        let (mut group, stdin, output) = match self.start(delivery, trace) {
            Ok(running) => running,
            Err(error) => {
                return Outcome::failed(format!(
                    "`{}` cannot be started: {error}; make sure that the file exists and is executable (chmod +x)",
                    self.settings.program
                ));
            }
        };
        let time = left(self.limits.of(delivery.lane).timeout, started);
        let mut printed = Vec::new();
        let ended = {
            let mut talk = pin!(async {
                tokio::join!(
                    tell(stdin, &delivery.message.payload),
                    listen(output, &mut printed)
                );
            });
            let mut has_talked = false;
            let ended = timeout(time, async {
                loop {
                    tokio::select! {
                        ended = group.child.wait() => return ended,
                        () = &mut talk, if !has_talked => has_talked = true,
                    }
                }
            })
            .await;
            drop(group);
            if !has_talked {
                // The last output may still be in the pipe.
                drop(timeout(OUTPUT_WAIT_MAX, talk).await);
            }
            ended
        };
        let said = ResponseExcerpt::end(&printed);
        match ended {
            Ok(Ok(status)) => outcome(status, said),
            Ok(Err(error)) => Outcome::Failed {
                answer: format!("the result of the command is unknown: {error}"),
                status: None,
                retry_after: None,
                said,
            },
            Err(_) => Outcome::Failed {
                answer: "the command did not end in time, and was killed".into(),
                status: None,
                retry_after: None,
                said,
            },
        }
    }
}

fn outcome(status: ExitStatus, said: ResponseExcerpt) -> Outcome {
    let (answer, retry_after) = match (status.code(), status.signal()) {
        (Some(0), _) => {
            let answer = "exit 0".into();
            return Outcome::Delivered {
                answer,
                status: None,
                said,
            };
        }
        (Some(TRY_LATER), _) => ("exit 75: try later".into(), Some(TRY_LATER_WAIT)),
        (Some(code), _) => (format!("exit {code}"), None),
        (None, Some(signal)) => (format!("ended by signal {signal}"), None),
        (None, None) => ("the command ended in an unknown way".into(), None),
    };
    Outcome::Failed {
        answer,
        status: None,
        retry_after,
        said,
    }
}

/// A running command and all processes that it has started. If this is dropped early, all of them
/// are killed.
struct Group {
    child: Child,
    mark: Mark,
}

impl Drop for Group {
    fn drop(&mut self) {
        // Until the exit code is collected, the id belongs to this process; afterwards there is no
        // id.
        let leader = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(leader) = leader {
            // Descendants are found through their parents, so before the parents are killed.
            let descendants = family::descendants_of(leader);
            // The process may have ended at this moment.
            let _ = kill_process_group(leader, Signal::KILL);
            descendants.kill();
            self.mark.kill_all_that_carry_it();
        }
    }
}

/// The environment variables that describe the message. A value that is missing, or cannot be a
/// variable, is omitted.
fn about(delivery: &Delivery) -> impl Iterator<Item = (&'static str, String)> {
    let message = &delivery.message;
    let envelope = Envelope::read(&message.payload);
    let envelope = envelope.as_ref();
    let event_id = envelope.and_then(|envelope| envelope.event_id().map(str::to_owned));
    let resource = envelope.and_then(|envelope| envelope.resource_id().map(str::to_owned));
    let origin = (message.origin != Origin::OpenAi).then(|| message.origin.as_str().to_owned());
    [
        ("UNWRAPD_EVENT_TYPE", message.event_type.clone()),
        ("UNWRAPD_EVENT_ID", event_id),
        ("UNWRAPD_RESOURCE", resource),
        ("UNWRAPD_ORIGIN", origin),
        ("UNWRAPD_WEBHOOK_ID", Some(message.webhook_id.clone())),
        ("UNWRAPD_ENDPOINT", Some(message.endpoint.clone())),
        ("UNWRAPD_DESTINATION", Some(delivery.destination.clone())),
        ("UNWRAPD_ATTEMPT", Some(delivery.attempt.to_string())),
        ("UNWRAPD_RECEIVED_AT", Some(message.received_at.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .filter(|(_, value)| value.len() <= VALUE_BYTES_MAX && !value.contains('\0'))
}

async fn tell(mut stdin: ChildStdin, payload: &[u8]) {
    // A command need not read its input completely: its exit code decides.
    drop(stdin.write_all(payload).await);
}

/// Keeps the end of the output. The rest is read so that the command does not block.
async fn listen(mut output: pipe::Receiver, printed: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(bytes @ 1..) = output.read(&mut buffer).await {
        printed.extend_from_slice(&buffer[..bytes]);
        printed.drain(..printed.len().saturating_sub(ResponseExcerpt::READ_MAX));
    }
}
