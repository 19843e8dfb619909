//! Judges the answers to a check. It sees answers only, and effects if the user lets them be
//! counted; the rest is not judged.

mod answers;

use std::time::Duration;

use super::checks::{GENUINE, Rule};
use super::effects::Counts;
use super::finding::{DROPPED, Fault, Finding, Grade, LOST, PROCESSED_FORGERY, TWICE, unite};
use super::request::Sent;
use super::runner::{Observed, is_not_reached};
pub(super) use answers::shown;
use answers::times;

const NOT_COUNTED: &str = "effects not counted";

/// The measures by which all checks are judged.
pub(super) struct Judge<'c> {
    /// `None` if the user gave no way to count.
    pub(super) counts: Option<&'c Counts>,
    pub(super) answer_within: Duration,
}

/// A grade and its reason, before it is a finding.
struct Ruling {
    grade: Grade,
    saw: String,
    /// `None`: the fault of the check.
    fault: Option<&'static Fault>,
}

impl Ruling {
    fn new(grade: Grade, saw: impl Into<String>) -> Self {
        Self {
            grade,
            saw: saw.into(),
            fault: None,
        }
    }

    fn with_fault(self, fault: &'static Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    fn and(self, more: &str) -> Self {
        Self {
            saw: self.saw + more,
            ..self
        }
    }

    fn unknown(self, reason: &str) -> Self {
        Self::new(Grade::Unknown, self.saw).and("; ").and(reason)
    }

    fn into_finding(self, one: Observed) -> Finding {
        let Observed {
            check, sent, took, ..
        } = one;
        let is_fault = matches!(self.grade, Grade::Fail | Grade::Warn);
        let (text, why, remedy) = match self.fault {
            Some(fault) => (fault.text, fault.why, fault.remedy),
            None => (check.fault, None, None),
        };
        Finding {
            check,
            grade: self.grade,
            saw: self.saw,
            fault: is_fault.then_some(text.into()),
            why: why.unwrap_or(check.why),
            remedy: remedy.unwrap_or(check.remedy).into(),
            sent,
            took,
        }
    }
}

impl Judge<'_> {
    pub(super) fn judge_all(&self, observed: Vec<Observed>) -> Vec<Finding> {
        let trusted = self.trusted(&observed);
        let rulings: Vec<Ruling> = observed
            .iter()
            .map(|one| match one.check.rule {
                _ if one.sent.is_empty() && one.not_sent.is_some() => not_sent(one),
                Rule::Prompt => answers::prompt(&observed, self.answer_within),
                Rule::Exactly200 => answers::exactly_200(&observed),
                _ => self.judge(one, trusted.as_deref()),
            })
            .collect();
        let judged = observed.into_iter().zip(rulings);
        let mut findings: Vec<Finding> = judged
            .map(|(one, ruling)| ruling.into_finding(one))
            .collect();
        unite(&mut findings);
        findings
    }

    fn judge(&self, one: &Observed, trusted: Result<&Counts, &String>) -> Ruling {
        let ruling = match one.check.rule {
            Rule::Refused => answers::refused(&one.sent),
            Rule::OnceOfCopies => answers::copies(&one.sent),
            _ => answers::accepted(one),
        };
        if one.sent.iter().any(is_not_reached) {
            return Ruling::new(Grade::Unknown, ruling.saw);
        }
        if ruling.grade == Grade::Fail {
            return ruling;
        }
        if one.not_sent.is_some() {
            return Ruling::new(Grade::Unknown, ruling.saw);
        }
        let is_once = matches!(one.check.rule, Rule::Once | Rule::OnceOfCopies);
        match trusted {
            Ok(counts) => by_effects(one, ruling, counts, is_once),
            Err(_) if one.check.name == GENUINE => self.genuine_effects(one, ruling),
            Err(reason) if is_once => ruling.unknown(reason),
            Err(_) => ruling,
        }
    }

    /// The counts, if that of the first genuine event is one. Else the reason why they say nothing
    /// about the other events.
    fn trusted(&self, all: &[Observed]) -> Result<&Counts, String> {
        let counts = self.counts.ok_or(NOT_COUNTED)?;
        if let Some(problem) = counts.problem() {
            return Err(format!("the effects cannot be counted: {problem}"));
        }
        let genuine = all.iter().find(|one| one.check.name == GENUINE);
        let genuine = genuine.and_then(|one| counts.of(&one.sent.first()?.subject.webhook_id));
        match genuine {
            Some(1) => Ok(counts),
            count => Err(format!(
                "the first genuine event was counted {}",
                times(count.unwrap_or_default())
            )),
        }
    }

    /// The genuine event where its count is not one.
    fn genuine_effects(&self, one: &Observed, ruling: Ruling) -> Ruling {
        let counts = self.counts.filter(|counts| counts.problem().is_none());
        let count = counts.and_then(|counts| counts.of(&one.sent.first()?.subject.webhook_id));
        match count {
            None => ruling,
            Some(0) => ruling.unknown(
                "its effect was counted 0 times: choose a type that the application acts on with \
                 --type, or raise --effects-wait",
            ),
            Some(count) => Ruling::new(Grade::Fail, ruling.saw)
                .and(&format!(", but processed {}", times(count)))
                .with_fault(&TWICE),
        }
    }
}

fn not_sent(one: &Observed) -> Ruling {
    Ruling::new(Grade::Unknown, one.not_sent.clone().unwrap_or_default())
}

/// The ruling with the counts of events that must be processed once, or never.
fn by_effects(one: &Observed, ruling: Ruling, counts: &Counts, is_once: bool) -> Ruling {
    for sent in &one.sent {
        let Some((expected, count)) = sent.effects.zip(counts.of(&sent.subject.webhook_id)) else {
            continue;
        };
        let fault = match (expected, count) {
            _ if expected == count => continue,
            (0, _) => &PROCESSED_FORGERY,
            (_, 0) if is_once => &LOST,
            (_, 0) => &DROPPED,
            _ => &TWICE,
        };
        let is_other = |other: &Sent| other.subject.webhook_id != sent.subject.webhook_id;
        let label = if one.sent.iter().any(is_other) {
            format!(" ({})", sent.label)
        } else {
            String::new()
        };
        let saw = format!(", but processed {}{label}", times(count));
        return Ruling::new(Grade::Fail, ruling.saw)
            .and(&saw)
            .with_fault(fault);
    }
    if is_once {
        return ruling.and(", processed once");
    }
    ruling
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::torture::checks::CHECKS;
    use crate::cli::torture::request::{Answer, Silence, Subject, Wish};

    pub(super) fn sent(label: &str, status: u16) -> Sent {
        Sent {
            label: label.into(),
            subject: Subject::of(format!("wh_{label}"), "{}"),
            wish: Wish::Accepted,
            effects: Some(1),
            reply: Some(Ok(Answer {
                status,
                took: Duration::from_millis(u64::from(status)),
                date: None,
                location: None,
                body: String::new(),
            })),
            alone: true,
        }
    }

    fn judged(rule: Rule, sent: Vec<Sent>, not_sent: Option<&str>) -> Finding {
        let judge = Judge {
            counts: None,
            answer_within: Duration::from_secs(3),
        };
        let findings = judge.judge_all(vec![Observed {
            check: CHECKS.iter().find(|check| check.rule == rule).unwrap(),
            sent,
            took: Duration::ZERO,
            not_sent: not_sent.map(str::to_owned),
        }]);
        findings.into_iter().next().unwrap()
    }

    #[test]
    fn a_check_of_which_a_part_was_not_sent_does_not_pass() {
        let finding = judged(
            Rule::Accepted,
            vec![sent("a", 200)],
            Some("1 more not sent"),
        );
        assert_eq!(finding.grade, Grade::Unknown);
        assert_eq!(finding.saw, "200; 1 more not sent");
        let finding = judged(
            Rule::Accepted,
            vec![sent("a", 500)],
            Some("1 more not sent"),
        );
        assert_eq!(finding.grade, Grade::Fail);
    }

    #[test]
    fn a_request_without_a_connection_is_not_judged() {
        let mut one = sent("a", 200);
        one.reply = Some(Err(Silence::NotReached("connection refused".into())));
        let finding = judged(Rule::Refused, vec![one], None);
        assert_eq!(finding.grade, Grade::Unknown);
        assert_eq!(finding.saw, "connection refused");
    }
}
