//! The effects of an event, as the user lets them be counted: answers do not show how often an
//! event was processed.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::request::Subject;
use crate::settings_file::typed_url;

/// Longest time of one count.
const COUNT_MAX: Duration = Duration::from_secs(10);
/// Longest answer of which the number is read.
const COUNT_BYTES_MAX: u64 = 1024;

#[derive(Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the options"
)]
pub(super) struct EffectsArguments {
    /// Shell command that prints how often the webhook `$UNWRAPD_WEBHOOK_ID` was processed
    #[arg(long, value_name = "COMMAND", conflicts_with = "effects_url")]
    effects_command: Option<String>,
    /// URL that answers GET with this number, for the webhook of the parameter `webhook-id`
    #[arg(long, value_name = "URL", value_parser = typed_url)]
    effects_url: Option<Url>,
    /// Seconds between the last answer and the count, for work in the background
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=300))]
    effects_wait: u64,
}

impl EffectsArguments {
    /// The counter, if the user gave one.
    pub(super) fn counter(&self) -> anyhow::Result<Option<Counter>> {
        let source = match (&self.effects_command, &self.effects_url) {
            (Some(command), _) => Source::Command(command.clone()),
            (None, Some(url)) => Source::Url(
                Box::new(crate::destinations::client().timeout(COUNT_MAX).build()?),
                url.clone(),
            ),
            (None, None) => return Ok(None),
        };
        Ok(Some(Counter {
            source,
            wait: Duration::from_secs(self.effects_wait),
        }))
    }
}

/// Asks how often an event was processed.
pub(super) struct Counter {
    source: Source,
    wait: Duration,
}

enum Source {
    Command(String),
    Url(Box<reqwest::Client>, Url),
}

impl Counter {
    /// The option that names the source.
    pub(super) const fn option(&self) -> &'static str {
        match self.source {
            Source::Command(_) => "--effects-command",
            Source::Url(..) => "--effects-url",
        }
    }

    /// Counts each subject once, after the time for work in the background.
    pub(super) async fn count_all<'s>(
        &self,
        subjects: impl Iterator<Item = &'s Subject>,
    ) -> Counts {
        tokio::time::sleep(self.wait).await;
        let mut counts = Counts::default();
        for subject in subjects {
            if counts.problem.is_some() {
                break;
            }
            if counts.by_id.contains_key(&subject.webhook_id) {
                continue;
            }
            match self.count(subject).await {
                Ok(count) => {
                    counts.by_id.insert(subject.webhook_id.clone(), count);
                }
                Err(problem) => counts.problem = Some(problem),
            }
        }
        counts
    }

    pub(super) async fn count(&self, subject: &Subject) -> Result<u64, String> {
        let counted = match &self.source {
            Source::Command(command) => timeout(COUNT_MAX, run(command, subject)).await,
            Source::Url(client, url) => timeout(COUNT_MAX, get(client, url, subject)).await,
        };
        let text = counted.map_err(|_| format!("no number within {} s", COUNT_MAX.as_secs()))??;
        let text = String::from_utf8_lossy(&text);
        text.trim()
            .parse()
            .map_err(|_| "it must print one number, such as 1".to_owned())
    }
}

async fn run(command: &str, subject: &Subject) -> Result<Vec<u8>, String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("UNWRAPD_WEBHOOK_ID", &subject.webhook_id)
        .env("UNWRAPD_EVENT_ID", &subject.event_id)
        .env("UNWRAPD_RESOURCE", &subject.resource)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("sh cannot be started: {error}"))?;
    let mut printed = Vec::new();
    let stdout = child.stdout.take().expect("it is piped");
    let read = stdout.take(COUNT_BYTES_MAX).read_to_end(&mut printed).await;
    read.map_err(|error| format!("its output cannot be read: {error}"))?;
    let ended = child.wait().await;
    let status = ended.map_err(|error| format!("its result is unknown: {error}"))?;
    if status.success() {
        Ok(printed)
    } else {
        Err(format!("it failed: {status}"))
    }
}

async fn get(client: &reqwest::Client, url: &Url, subject: &Subject) -> Result<Vec<u8>, String> {
    let mut url = url.clone();
    url.query_pairs_mut()
        .append_pair("webhook-id", &subject.webhook_id);
    let sent = client.get(url).send().await;
    let mut response = sent.map_err(|error| crate::destinations::describe(&error))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while body.len() as u64 <= COUNT_BYTES_MAX
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Number of times that each event was processed.
#[derive(Default)]
pub(super) struct Counts {
    by_id: HashMap<String, u64>,
    /// Why the rest is not counted.
    problem: Option<String>,
}

impl Counts {
    pub(super) fn of(&self, webhook_id: &str) -> Option<u64> {
        self.by_id.get(webhook_id).copied()
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}
