//! Values that complete an argument. Those of a running gateway are best effort: without a quick
//! answer there are none.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use openai_webhooks::EventType;
use serde::de::DeserializeOwned;
use tokio::runtime::Builder;

use crate::api::{DeadPage, DestinationList, EndpointList, QuarantinePage};
use crate::cli::Cli;
use crate::cli::format::{cut, plain};
use crate::cli::operate::AdminArguments;
use crate::store::MessagePage;
use crate::store::filter::Status;

/// Longest wait for a gateway. A person waits at the Tab key.
const ANSWER_MAX: Duration = Duration::from_millis(300);

pub(in crate::cli) fn event_types() -> ArgValueCandidates {
    ArgValueCandidates::new(|| EventType::ALL.iter().copied().map(of_type).collect())
}

/// For an argument that also takes `all`. Families such as `batch.*` are left out: a shell would
/// read them as names of files.
pub(in crate::cli) fn event_types_or_all() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let all = CompletionCandidate::new("all").help(Some("every event type".into()));
        EventType::ALL
            .iter()
            .copied()
            .map(of_type)
            .chain([all])
            .collect()
    })
}

fn of_type(event_type: EventType) -> CompletionCandidate {
    CompletionCandidate::new(event_type.as_str()).help(Some(event_type.sent_when().into()))
}

pub(in crate::cli) fn statuses() -> ArgValueCandidates {
    let candidate = |status: Status| CompletionCandidate::new(status.as_str());
    ArgValueCandidates::new(move || Status::ALL.into_iter().map(candidate).collect())
}

pub(in crate::cli) fn destinations() -> ArgValueCandidates {
    of_gateway("destinations", |answer: DestinationList| {
        let names = answer.destinations.into_iter();
        names.map(|destination| (destination.name, None)).collect()
    })
}

pub(in crate::cli) fn endpoints() -> ArgValueCandidates {
    of_gateway("endpoints", |answer: EndpointList| {
        let names = answer.endpoints.into_iter();
        names.map(|endpoint| (endpoint.name, None)).collect()
    })
}

pub(in crate::cli) fn webhook_ids() -> ArgValueCandidates {
    of_gateway("messages", |answer: MessagePage| {
        let messages = answer.messages.into_iter();
        messages
            .map(|message| (message.webhook_id, message.event_type))
            .collect()
    })
}

/// The webhook ids of dead letters.
pub(in crate::cli) fn dead_letters() -> ArgValueCandidates {
    of_gateway("dead", |answer: DeadPage| {
        let letters = answer.letters.into_iter();
        letters
            .map(|letter| (letter.webhook_id, letter.event_type))
            .collect()
    })
}

/// The numbers of requests in the quarantine.
pub(in crate::cli) fn quarantined() -> ArgValueCandidates {
    of_gateway("quarantine", |answer: QuarantinePage| {
        let requests = answer.requests.into_iter();
        requests
            .map(|request| (request.id.to_string(), Some(request.reason)))
            .collect()
    })
}

/// The values in the first page of a list of the gateway, each with its description.
fn of_gateway<A: DeserializeOwned + 'static>(
    list: &'static str,
    values: fn(A) -> Vec<(String, Option<String>)>,
) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let (sender, receiver) = mpsc::channel();
        // On a thread, because files and name servers may hang too. The process ends without it.
        thread::spawn(move || drop(sender.send(ask(list).map(values))));
        let answered = receiver.recv_timeout(ANSWER_MAX).ok().flatten();
        answered
            .unwrap_or_default()
            .into_iter()
            .filter(|(value, _)| value.chars().all(is_plain) && !value.starts_with('-'))
            .map(|(value, about)| {
                let about = about.map(|about| cut(&plain(&about)).into());
                let candidate = CompletionCandidate::new(&value).help(about);
                // A message has a dead letter for each destination.
                candidate.id(Some(value))
            })
            .collect()
    })
}

/// Whether every shell takes the letter as it is. A webhook id may have any.
fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.".contains(letter)
}

fn ask<A: DeserializeOwned>(list: &str) -> Option<A> {
    let admin = admin_arguments()?.open().ok()?;
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(admin.get(&[list], &[])).ok()
}

/// The options for the admin port in the command line to complete. `None` if they are those of a
/// configuration that the command line does not name and that the user may not know.
fn admin_arguments() -> Option<AdminArguments> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    // The word to complete may be empty, and an empty number would end the parse before defaults.
    let words = words.filter(|word| !word.is_empty());
    let command = Cli::command().ignore_errors(true);
    let mut matches = command.try_get_matches_from(words).ok()?;
    while let Some((_, below)) = matches.remove_subcommand() {
        matches = below;
    }
    // An unknown option may have ended the parse above the command with these options.
    matches.try_contains_id("config").ok().filter(|has| *has)?;
    let is_named = ["admin", "config"]
        .iter()
        .any(|option| matches.value_source(option) == Some(ValueSource::CommandLine));
    let arguments = AdminArguments::from_arg_matches(&matches).ok()?;
    (is_named || arguments.are_harmless()).then_some(arguments)
}
