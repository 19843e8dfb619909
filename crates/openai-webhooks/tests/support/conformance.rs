//! Runs a file of conformance cases: requests about which real verifiers disagree, with the
//! required answers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openai_webhooks::{UnwrapError, Webhooks};
use serde::Deserialize;

use crate::answer::Answer;

/// A file of cases. A case is complete: clock, secret, headers in order, body, and the `expected`
/// answer.
#[derive(Deserialize)]
pub(crate) struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    op: Op,
    /// `null`: no secret was configured.
    secret: Option<String>,
    /// Unix seconds; a fraction is dropped.
    now: f64,
    /// Seconds; `null`: the default. Ours cannot be negative; such cases expect any answer.
    tolerance: Option<f64>,
    headers: Vec<(String, String)>,
    payload_base64: Option<String>,
    /// Parts of a large body, each with its number of repetitions.
    payload_parts: Option<Vec<(String, usize)>>,
    expected: Expected,
    /// The answers of other verifiers, by name.
    #[serde(default)]
    verdicts: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Unwrap,
    Verify,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Any,
    #[serde(untagged)]
    One(Answer),
}

impl Cases {
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    pub(crate) fn len(&self) -> usize {
        self.cases.len()
    }

    /// One line for each case with another answer than expected.
    pub(crate) fn deviations(&self) -> Vec<String> {
        self.cases.iter().filter_map(Case::deviation).collect()
    }
}

impl Case {
    fn deviation(&self) -> Option<String> {
        let Ok(answer) = catch_unwind(AssertUnwindSafe(|| self.answer())) else {
            return Some(format!("{}: panicked", self.name));
        };
        let expected = match self.expected {
            Expected::One(expected) if expected != answer => expected,
            _ => return None,
        };
        let others: Vec<_> = self
            .verdicts
            .iter()
            .map(|(peer, verdict)| format!("{peer} {verdict}"))
            .collect();
        Some(format!(
            "{}: expected {expected:?}, answered {answer:?} ({})",
            self.name,
            others.join(", ")
        ))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the files give whole seconds in floats; a negative one is meant to become 0"
    )]
    fn answer(&self) -> Answer {
        let Some(Ok(mut webhooks)) = self.secret.as_ref().map(Webhooks::new) else {
            return Answer::Config;
        };
        if let Some(tolerance) = self.tolerance {
            webhooks = webhooks.tolerance(Duration::from_secs(tolerance as u64));
        }
        let now = self.now as i64;
        let payload = self.payload();
        let answer = match self.op {
            Op::Unwrap => webhooks.unwrap_at(&payload, &self.headers, now).map(drop),
            Op::Verify => webhooks
                .verify_signature_at(&payload, &self.headers, now)
                .map(drop)
                .map_err(UnwrapError::from),
        };
        Answer::of(answer)
    }

    fn payload(&self) -> Vec<u8> {
        let decode = |base64: &str| STANDARD.decode(base64).expect("a body in base64");
        match &self.payload_base64 {
            Some(base64) => decode(base64),
            None => self
                .payload_parts
                .iter()
                .flatten()
                .flat_map(|(base64, times)| decode(base64).repeat(*times))
                .collect(),
        }
    }
}
