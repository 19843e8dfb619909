//! The grade of a check, with the fault that was found.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use super::checks::{Check, Group};
use super::request::Sent;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Grade {
    Pass,
    Fail,
    Warn,
    /// Not judged: it was not seen whether it is right.
    Unknown,
}

/// A fault other than the one that the table has for the check.
pub(super) struct Fault {
    pub(super) text: &'static str,
    /// `None`: that of the check.
    pub(super) why: Option<&'static str>,
    pub(super) remedy: Option<&'static str>,
}

pub(super) const ERROR_FOR_FORGERY: Fault = Fault {
    text: "a forged request is answered with an error of the server",
    why: Some("Strangers can fill your error log, and hide real errors in it."),
    remedy: Some("Catch the error of the verification, and answer 400."),
};

pub(super) const GONE_FOR_FORGERY: Fault = Fault {
    text: "a forged request is answered with 410",
    why: Some(
        "For some events 410 ends OpenAI's attempts for good. With a wrong secret, genuine events \
         would be lost.",
    ),
    remedy: Some("Answer 400 when the verification fails."),
};

pub(super) const OTHER_FOR_FORGERY: Fault = Fault {
    text: "a forged request is not answered with 4xx",
    why: Some(
        "A refusal says that the request is wrong. Everything else may be tried again, or hide a fault.",
    ),
    remedy: Some("Answer 400 when the verification fails."),
};

pub(super) const COPIES_REFUSED: Fault = Fault {
    text: "copies at the same time are refused, and accepted later",
    why: Some(
        "This is safe: OpenAI sends a refused copy again. It costs attempts, and looks like an outage.",
    ),
    remedy: Some(
        "Answer 200 to a copy of an event that is stored. Keep 503 for one that is not stored yet.",
    ),
};

pub(super) const PROCESSED_FORGERY: Fault = Fault {
    text: "a refused request is processed",
    why: Some(
        "The answer refuses the request, but its work is done: anybody can make the application act.",
    ),
    remedy: Some("Verify the signature before anything else is done with the request."),
};

pub(super) const LOST: Fault = Fault {
    text: "an event is accepted, and never processed",
    why: None,
    remedy: None,
};

/// For a check that sends its events once.
pub(super) const DROPPED: Fault = Fault {
    text: LOST.text,
    why: Some("OpenAI does not send an event again that was answered with 2xx."),
    remedy: Some(
        "Answer 2xx only if the event is processed, or stored. Let errors become 500, not 200.",
    ),
};

pub(super) const TWICE: Fault = Fault {
    text: "one event is processed more than once",
    why: None,
    remedy: None,
};

const NOTHING_IS_VERIFIED: &str = "the handler verifies nothing: every forged request is accepted";

/// The grade of a check, and its reason.
pub(super) struct Finding {
    pub(super) check: &'static Check,
    pub(super) grade: Grade,
    /// The answers, in words.
    pub(super) saw: String,
    /// The fault in a few words, if there is one.
    pub(super) fault: Option<Cow<'static, str>>,
    pub(super) why: &'static str,
    pub(super) remedy: Cow<'static, str>,
    pub(super) sent: Vec<Sent>,
    pub(super) took: Duration,
}

impl Finding {
    /// A check that was not run.
    pub(super) fn not_run(check: &'static Check, reason: &str) -> Self {
        Self {
            check,
            grade: Grade::Unknown,
            saw: reason.to_owned(),
            fault: None,
            why: check.why,
            remedy: check.remedy.into(),
            sent: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

/// Gives findings with one cause one text, so that a report can name the cause once.
pub(super) fn unite(findings: &mut [Finding]) {
    let forged: Vec<usize> = (0..findings.len())
        .filter(|&place| findings[place].check.group == Group::Forged)
        .collect();
    let has_own_fault = |finding: &Finding| finding.fault.as_deref() == Some(finding.check.fault);
    if forged.len() > 1 && forged.iter().all(|&place| has_own_fault(&findings[place])) {
        let (why, remedy) = (findings[forged[0]].why, findings[forged[0]].remedy.clone());
        for place in forged {
            let finding = &mut findings[place];
            finding.fault = Some(NOTHING_IS_VERIFIED.into());
            (finding.why, finding.remedy) = (why, remedy.clone());
        }
    }
    // Without any de-duplication, the remedies for its finer faults would mislead.
    let is_twice = |finding: &Finding| finding.fault.as_deref() == Some(TWICE.text);
    let is_plain = |finding: &&Finding| finding.check.name == "duplicate" && is_twice(finding);
    if let Some(plain) = findings.iter().find(is_plain) {
        let (why, remedy) = (plain.why, plain.remedy.clone());
        for finding in findings.iter_mut().filter(|finding| is_twice(finding)) {
            (finding.why, finding.remedy) = (why, remedy.clone());
        }
    }
}
