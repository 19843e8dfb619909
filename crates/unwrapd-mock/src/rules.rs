//! Rules: scripted faults of the API, and scripted outcomes of jobs.

mod parse;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use parse::parse_duration;

/// Most rules at a time.
pub(crate) const RULES_MAX: usize = 100;

/// Work whose result a rule can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Response,
    Batch,
    /// A turn of an agent session.
    Session,
    Environment,
    /// The transfer of a call.
    Refer,
}

/// The name of each job, and the results that it can have, the usual one first.
const JOBS: [(Job, &str, &[&str]); 5] = [
    (
        Job::Response,
        "response",
        &["completed", "failed", "incomplete"],
    ),
    (Job::Batch, "batch", &["completed", "failed", "expired"]),
    (Job::Session, "session", &["idle", "failed"]),
    (Job::Environment, "environment", &["ready", "failed"]),
    (Job::Refer, "refer", &["transferred", "ignored"]),
];

/// A scripted fault or outcome, as text such as `POST /v1/responses 429 after=3 retry_after=2
/// times=2`, `GET /v1/files/* delay=5s` or `response failed times=1`.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    subject: Subject,
    /// Matches that this rule leaves alone first.
    after: u64,
    /// Matches that it then acts on; without limit if `None`.
    times: Option<u64>,
}

#[derive(Clone, Debug)]
enum Subject {
    Request {
        method: String,
        path: String,
        fault: Fault,
    },
    Job {
        job: Job,
        outcome: Outcome,
    },
}

/// The reason why a rule was refused, with the remedy. It repeats nothing of the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

/// The effect of a rule on a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    /// Status of an error in place of the real answer.
    pub(crate) status: Option<u16>,
    /// Seconds in `retry-after`.
    pub(crate) retry_after: Option<u64>,
    /// `code` of the error.
    pub(crate) code: Option<String>,
    /// Real time before the answer.
    pub(crate) delay: Duration,
}

/// The end of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) result: &'static str,
    /// Time on the mock's clock, if it is not the usual one.
    pub(crate) takes: Option<Duration>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The rules in force, with their counts.
#[derive(Default)]
pub(crate) struct Rules(Vec<Counted>);

struct Counted {
    rule: Rule,
    matched: u64,
    applied: u64,
}

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) -> Result<(), RuleError> {
        if self.0.len() >= RULES_MAX {
            return Err(RuleError(format!(
                "there are {RULES_MAX} rules: remove them with DELETE /_mock/rules first"
            )));
        }
        self.0.push(Counted {
            rule,
            matched: 0,
            applied: 0,
        });
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of a request, if a rule has one for it.
    pub(crate) fn fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        self.first_due(|subject| match subject {
            Subject::Request {
                method: named,
                path: pattern,
                fault,
            } => {
                let is_named = named == "*" || named == method;
                (is_named && path_matches(pattern, path)).then(|| fault.clone())
            }
            Subject::Job { .. } => None,
        })
    }

    /// The outcome of a job: that of a rule, else the usual one.
    pub(crate) fn outcome(&mut self, job: Job) -> Outcome {
        let scripted = self.first_due(|subject| match subject {
            Subject::Job {
                job: named,
                outcome,
            } => (*named == job).then_some(*outcome),
            Subject::Request { .. } => None,
        });
        scripted.unwrap_or_else(|| Outcome {
            result: JOBS[job as usize].2[0],
            takes: None,
        })
    }

    /// The effect of the first rule that matches and is due. Each rule counts its matches.
    fn first_due<E>(&mut self, effect: impl Fn(&Subject) -> Option<E>) -> Option<E> {
        let mut found = None;
        for counted in &mut self.0 {
            let Some(effect) = effect(&counted.rule.subject) else {
                continue;
            };
            counted.matched += 1;
            let is_due = counted.matched > counted.rule.after
                && counted
                    .rule
                    .times
                    .is_none_or(|times| counted.applied < times);
            if is_due && found.is_none() {
                counted.applied += 1;
                found = Some(effect);
            }
        }
        found
    }

    pub(crate) fn list(&self) -> Value {
        let rules = self.0.iter().map(|counted| {
            json!({
                "rule": counted.rule.text,
                "matched": counted.matched,
                "applied": counted.applied,
            })
        });
        json!({"object": "list", "data": rules.collect::<Vec<_>>()})
    }
}

/// Whether the path has the segments of the pattern, where `*` is any one segment.
fn path_matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let all = pattern.split('/').all(|wanted| {
        let segment = segments.next();
        segment.is_some_and(|segment| wanted == "*" || wanted == segment)
    });
    all && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        let mut rules = Rules::default();
        for text in texts {
            rules.add(text.parse().unwrap()).unwrap();
        }
        rules
    }

    #[test]
    fn a_rule_leaves_the_first_requests_alone_and_acts_a_number_of_times() {
        let mut rules = rules(&["POST /v1/responses 429 after=1 times=2 retry_after=7"]);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let fault = rules.fault("POST", "/v1/responses");
            statuses.push(fault.and_then(|fault| fault.status));
        }
        assert_eq!(statuses, [None, Some(429), Some(429), None]);
        assert!(rules.fault("GET", "/v1/responses").is_none());
    }

    #[test]
    fn a_star_is_one_segment() {
        let mut rules = rules(&["GET /v1/files/*/content 500", "* /v1/batches delay=2s"]);
        assert!(rules.fault("GET", "/v1/files/file-1/content").is_some());
        assert!(rules.fault("GET", "/v1/files/file-1").is_none());
        assert!(rules.fault("GET", "/v1/files/a/b/content").is_none());
        let slow = rules.fault("POST", "/v1/batches").unwrap();
        assert_eq!((slow.status, slow.delay), (None, Duration::from_secs(2)));
    }

    #[test]
    fn a_later_rule_counts_requests_of_an_earlier_one() {
        let mut rules = rules(&["response failed times=1", "response incomplete after=2"]);
        let results: Vec<_> = (0..4)
            .map(|_| rules.outcome(Job::Response).result)
            .collect();
        assert_eq!(results, ["failed", "completed", "incomplete", "incomplete"]);
    }

    #[test]
    fn a_wrong_rule_is_refused_with_the_remedy() {
        for (text, remedy) in [
            ("", "begins with"),
            ("PATCH /v1/files 500", "`DELETE`, `GET`, `POST`"),
            ("POST /responses 500", "`/v1/`"),
            ("POST /v1/responses", "delay=2s"),
            ("POST /v1/responses 200", "400 to 599"),
            ("POST /v1/responses 500 time=1", "`times=`"),
            ("POST /v1/responses 500 times=x", "a number"),
            ("POST /v1/responses delay=2", "500ms"),
            ("response finished", "`completed`, `failed`, `incomplete`"),
            ("batch failed retry_after=1", "`takes=`"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
