//! Rules as text.

use std::str::FromStr;
use std::time::Duration;

use super::{Fault, JOBS, Outcome, Rule, RuleError, Subject};

/// Longest text of a rule, in bytes.
const TEXT_MAX: usize = 1024;
/// Longest delay of an answer.
const DELAY_MAX: Duration = Duration::from_secs(600);
/// Methods of the API.
const METHODS: [&str; 4] = ["DELETE", "GET", "POST", "*"];

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.len() > TEXT_MAX {
            return Err(RuleError(format!("a rule has up to {TEXT_MAX} bytes")));
        }
        let mut words = text.split_whitespace().peekable();
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        let job = JOBS.iter().find(|(_, name, _)| *name == first);
        let mut options = Options::default();
        let subject = if let Some((job, name, results)) = job {
            let result = results.iter().find(|result| **result == second);
            let result = result.ok_or_else(|| {
                let results = results.join("`, `");
                RuleError(format!(
                    "after `{name}` comes its result, one of `{results}`"
                ))
            })?;
            options.read(words, &["after", "times", "takes"])?;
            Subject::Job {
                job: *job,
                outcome: Outcome {
                    result,
                    takes: options.takes,
                },
            }
        } else {
            if !METHODS.contains(&first) {
                return Err(RuleError(
                    "a rule begins with `DELETE`, `GET`, `POST` or `*` and a path, or with \
                     `response`, `batch`, `session`, `environment` or `refer` and its result"
                        .into(),
                ));
            }
            if !second.starts_with("/v1/") {
                return Err(RuleError("the path of a rule begins with `/v1/`".into()));
            }
            let status = words.next_if(|word| !word.contains('='));
            let status = status.map(parse_status).transpose()?;
            options.read(words, &["after", "times", "retry_after", "code", "delay"])?;
            if status.is_none() && options.delay.is_zero() {
                return Err(RuleError(
                    "the rule does nothing: add a status from 400 to 599, or `delay=2s`".into(),
                ));
            }
            Subject::Request {
                method: first.into(),
                path: second.into(),
                fault: Fault {
                    status,
                    retry_after: options.retry_after,
                    code: options.code,
                    delay: options.delay,
                },
            }
        };
        Ok(Self {
            text: text.trim().into(),
            subject,
            after: options.after,
            times: options.times,
        })
    }
}

#[derive(Default)]
struct Options {
    after: u64,
    times: Option<u64>,
    retry_after: Option<u64>,
    code: Option<String>,
    delay: Duration,
    takes: Option<Duration>,
}

impl Options {
    fn read<'w>(
        &mut self,
        words: impl Iterator<Item = &'w str>,
        known: &[&str],
    ) -> Result<(), RuleError> {
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if !known.contains(&key) {
                let known = known.join("=`, `");
                return Err(RuleError(format!(
                    "each word after that is one of `{known}=` with a value"
                )));
            }
            let number = || {
                let number = value.parse();
                number.map_err(|_| RuleError(format!("`{key}` takes a number")))
            };
            let duration = || {
                parse_duration(value).ok_or_else(|| {
                    RuleError(format!(
                        "`{key}` takes a time such as 500ms, 2s, 10m, 2h or 3d"
                    ))
                })
            };
            match key {
                "after" => self.after = number()?,
                "times" => self.times = Some(number()?),
                "retry_after" => self.retry_after = Some(number()?),
                "code" => self.code = Some(value.into()),
                "delay" => self.delay = duration()?.min(DELAY_MAX),
                _ => self.takes = Some(duration()?),
            }
        }
        Ok(())
    }
}

fn parse_status(word: &str) -> Result<u16, RuleError> {
    let status = word.parse().ok();
    status
        .filter(|status| (400..600).contains(status))
        .ok_or_else(|| RuleError("the status of a rule is from 400 to 599".into()))
}

/// A time such as `500ms`, `2s`, `10m`, `2h` or `3d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}
