//! The first request: whether the handler accepts a genuine event at all. If not, one verdict with
//! its cause takes the place of a failure of every check.

use std::time::Duration;

use super::attacks;
use super::forge::{Forge, House};
use super::request::{Answer, Reply, Sent, Silence};
use super::sender::{ANSWER_MAX, Sender};
use crate::cli::webhook::request::unix_now;
use crate::cli::webhook::sign::new_webhook_id;

/// Difference of the clocks from which the official SDKs may refuse an event, less their slack.
const SKEW_SECONDS_MAX: i64 = 290;

/// The handler accepts genuine events.
pub(super) struct Accepting {
    pub(super) sent: Vec<Sent>,
    /// The time of the answer.
    pub(super) took: Duration,
}

/// Why the handler cannot be graded.
pub(super) struct Verdict {
    pub(super) headline: String,
    /// The answers, in words.
    pub(super) saw: String,
    pub(super) remedy: String,
    pub(super) end: End,
    pub(super) sent: Vec<Sent>,
}

/// The exit code of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Failed,
    NotFound,
    TryLater,
}

/// Sends a genuine event, and on a refusal the same in other spellings. Sets the spelling of the
/// forge to one that the handler accepts.
pub(super) async fn pass(sender: &Sender, forge: &mut Forge) -> Result<Accepting, Verdict> {
    let mut sent = Vec::new();
    for house in [House::Spaced, House::Compact, House::Sorted] {
        forge.house = house;
        for step in attacks::genuine_event(forge) {
            sent.extend(sender.take(step, Duration::ZERO).await);
        }
        let latest = sent.last().expect("a request was sent");
        if let Some(Ok(answer)) = &latest.reply {
            if answer.is_success() {
                let took = answer.took;
                // A refusal in another spelling is the finding of another check.
                let sent = sent.split_off(sent.len() - 1);
                return Ok(Accepting { sent, took });
            }
            if is_about_the_content(answer.status) {
                continue;
            }
        }
        break;
    }
    sent.truncate(1);
    let first = sent.first().and_then(|sent| sent.reply.clone());
    let first = first.expect("a request was sent");
    let forged = match &first {
        Ok(answer) if is_about_the_content(answer.status) => {
            let id = new_webhook_id();
            let forged = forge.signed_by_a_stranger("another secret", id, forge.event());
            Some(sender.send(&forged).await)
        }
        _ => None,
    };
    let mut verdict = verdict(&first, forged.as_ref());
    verdict.sent = sent;
    Err(verdict)
}

/// Whether an answer may depend on the signature or the body.
const fn is_about_the_content(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 406 | 409 | 415 | 422 | 500)
}

fn verdict(first: &Reply, forged: Option<&Reply>) -> Verdict {
    let answer = match first {
        Ok(answer) => answer,
        Err(Silence::NotReached(problem)) => {
            return Verdict::of(
                End::TryLater,
                "the handler cannot be reached",
                problem.clone(),
                "Start the application, and check the host and port of the URL.",
            );
        }
        Err(Silence::Unanswered(problem)) => {
            return Verdict::of(
                End::Failed,
                format!(
                    "a genuine event gets no answer within {} s",
                    ANSWER_MAX.as_secs()
                ),
                problem.clone(),
                "Answer 200 before the work begins. See the log of the application.",
            );
        }
    };
    let saw = said(answer);
    let skew = answer.date.map(|date| date - unix_now());
    match answer.status {
        status @ (404 | 405) => Verdict::of(
            End::NotFound,
            if status == 404 {
                "there is no handler at this path"
            } else {
                "the handler takes no POST"
            },
            saw,
            "Give the whole URL that OpenAI would post to, with its path, and let the handler take POST.",
        ),
        300..=399 => Verdict::of(
            End::Failed,
            "the handler redirects, and OpenAI follows no redirect",
            saw,
            match &answer.location {
                Some(location) => format!("Give OpenAI the URL itself: {location}"),
                None => "Give OpenAI the URL to which this one leads.".into(),
            },
        ),
        429 | 502..=504 => Verdict::of(
            End::TryLater,
            "the application is busy, or not ready",
            saw,
            "Wait until it is ready, or raise its limit of requests for webhooks.",
        ),
        413 | 431 => Verdict::of(
            End::Failed,
            "a genuine event is refused as too large",
            saw,
            "Allow bodies of 1 MiB and heads of 16 KiB.",
        ),
        _ if skew.is_some_and(|skew| skew.abs() > SKEW_SECONDS_MAX) => Verdict::of(
            End::Failed,
            format!(
                "the clock of the application is {} s {} the clock of this machine",
                skew.unwrap_or_default().abs(),
                if skew > Some(0) { "ahead of" } else { "behind" }
            ),
            saw,
            "Set both clocks with NTP. A handler refuses timestamps that are five minutes off.",
        ),
        415 | 422 => Verdict::of(
            End::Failed,
            "a genuine event is refused before its signature is looked at",
            saw,
            "Take the raw body of content type application/json, without a schema for it.\n\
             FastAPI: a parameter `request: Request` and `await request.body()`, no body model.",
        ),
        status if fails_by_itself(answer, forged) => Verdict::of(
            End::Failed,
            format!("the handler verifies, and then fails with {status}"),
            format!(
                "{saw}; an event signed with another secret got {}",
                told(forged)
            ),
            "Answer 200 before the work. The objects of sample events do not exist at OpenAI, so \
             that fetching them fails: that must be no reason to refuse the event.",
        ),
        _ => Verdict::of(
            End::Failed,
            "a genuine event is refused: the application most likely verifies with another secret",
            format!(
                "{saw}; an event signed with another secret got {}",
                told(forged)
            ),
            "Start the application with the secret that --secret-env or --secret-file names here, \
             with its prefix whsec_.\n\
             If it is the same: a proxy that changes the body or drops the headers webhook-*, a \
             log-in or CSRF check before the handler, and a body that is parsed and written again \
             have the same effect.",
        ),
    }
}

/// Whether the handler tells a genuine event from a forged one, and fails only for the first.
fn fails_by_itself(answer: &Answer, forged: Option<&Reply>) -> bool {
    let forged = forged.and_then(|reply| reply.as_ref().ok());
    answer.status >= 500 && forged.is_some_and(|forged| (400..500).contains(&forged.status))
}

fn told(reply: Option<&Reply>) -> String {
    match reply {
        Some(Ok(answer)) => answer.status.to_string(),
        Some(Err(silence)) => silence.problem().to_owned(),
        None => "no answer".into(),
    }
}

/// The status, and the beginning of the body.
fn said(answer: &Answer) -> String {
    let Answer { status, body, .. } = answer;
    if body.is_empty() {
        return format!("answered {status}");
    }
    format!("answered {status}: {body}")
}

impl Verdict {
    fn of(end: End, headline: impl Into<String>, saw: String, remedy: impl Into<String>) -> Self {
        Self {
            headline: headline.into(),
            saw,
            remedy: remedy.into(),
            end,
            sent: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer {
            status,
            took: Duration::ZERO,
            date: None,
            location: None,
            body: String::new(),
        }
    }

    #[test]
    fn each_refusal_of_a_genuine_event_has_its_own_cause() {
        for (status, forged, headline, end) in [
            (404, None, "no handler at this path", End::NotFound),
            (405, None, "takes no POST", End::NotFound),
            (308, None, "redirects", End::Failed),
            (503, None, "busy", End::TryLater),
            (429, None, "busy", End::TryLater),
            (413, None, "too large", End::Failed),
            (422, Some(422), "before its signature", End::Failed),
            (400, Some(400), "another secret", End::Failed),
            (401, Some(401), "another secret", End::Failed),
            (500, Some(500), "another secret", End::Failed),
            (500, Some(400), "verifies, and then fails", End::Failed),
        ] {
            let forged = forged.map(|status| Ok(answer(status)));
            let verdict = verdict(&Ok(answer(status)), forged.as_ref());
            assert!(verdict.headline.contains(headline), "{}", verdict.headline);
            assert_eq!(verdict.end, end, "{status}");
            assert!(!verdict.remedy.is_empty());
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_the_cause_of_a_refusal() {
        let late = Answer {
            date: Some(unix_now() - 3600),
            ..answer(400)
        };
        let verdict = verdict(&Ok(late), None);
        assert!(
            verdict.headline.contains("s behind the clock"),
            "{}",
            verdict.headline
        );
    }
}
