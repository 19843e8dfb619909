//! Trials with the secrets of one endpoint, within a limit of work. Pure.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use openai_webhooks::{VerificationError, Verified, WEBHOOK_TIMESTAMP, Webhooks};
use serde::Serialize;

/// Bytes that one trial hashes at least: the keys and the headers.
const TRIAL_BYTES_MIN: usize = 512;

/// A request, as far as it is signed.
#[derive(Clone, Copy)]
pub(crate) struct SignedRequest<'r> {
    pub(crate) headers: &'r [(String, String)],
    pub(crate) body: &'r [u8],
}

impl<'r> SignedRequest<'r> {
    /// The value of a header.
    pub(super) fn value(self, header: &str) -> Option<&'r str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case(header))?;
        Some(value.trim())
    }

    /// Its timestamp, in Unix seconds.
    pub(crate) fn sent_at(self) -> Option<i64> {
        self.value(WEBHOOK_TIMESTAMP)?.parse().ok()
    }

    /// Verifies it at the time of its timestamp. It shows whether a request whose time is refused
    /// has another problem.
    pub(crate) fn verify_when_sent(
        self,
        webhooks: &Webhooks,
    ) -> Option<Result<Verified<'r>, VerificationError>> {
        let sent_at = self.sent_at()?;
        Some(webhooks.verify_signature_at(self.body, self.headers, sent_at))
    }

    fn matches(self, webhooks: &Webhooks) -> bool {
        self.verify_when_sent(webhooks)
            .is_some_and(|verified| verified.is_ok())
    }
}

/// A verifier with this number of secrets.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'s> {
    pub(crate) webhooks: &'s Webhooks,
    pub(crate) count: usize,
}

impl<'s> From<&'s Webhooks> for Secrets<'s> {
    fn from(webhooks: &'s Webhooks) -> Self {
        Self {
            webhooks,
            count: webhooks.fingerprints().len(),
        }
    }
}

/// The bytes that may still be hashed and written for trials.
pub(crate) struct Work {
    left: usize,
}

impl Work {
    pub(crate) fn of_bytes(left: usize) -> Self {
        Self { left }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Up to this many of the bytes, for one request among several.
    pub(crate) fn part(&mut self, bytes_max: usize) -> Self {
        let left = self.left.min(bytes_max);
        self.left -= left;
        Self { left }
    }

    /// Returns the rest of a part.
    pub(crate) fn give_back(&mut self, part: &Self) {
        self.left += part.left;
    }

    fn spend(&mut self, bytes: usize) -> Result<(), OutOfWork> {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(0);
        left.map(drop).ok_or(OutOfWork)
    }
}

/// The limit of work is reached.
pub(super) struct OutOfWork;

/// The number of trials of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tried {
    /// Other secrets that are known.
    pub(crate) secrets: usize,
    /// Changes of the headers.
    pub(crate) headers: usize,
    /// Changes of the body, other than those below.
    pub(crate) bodies: usize,
    /// Other spellings of the JSON.
    pub(crate) spellings: usize,
    /// Other orders of its keys.
    pub(crate) orders: usize,
}

/// Trials on one request.
pub(super) struct Trials<'r, 'w> {
    request: SignedRequest<'r>,
    own: Secrets<'r>,
    work: &'w mut Work,
    /// Hashes of the bodies that were tried.
    seen: HashSet<u64>,
    pub(super) tried: Tried,
}

impl<'r, 'w> Trials<'r, 'w> {
    pub(super) fn new(request: SignedRequest<'r>, own: Secrets<'r>, work: &'w mut Work) -> Self {
        let mut trials = Self {
            request,
            own,
            work,
            seen: HashSet::new(),
            tried: Tried::default(),
        };
        trials.is_new(request.body);
        trials
    }

    /// Pays for a trial of each of these secrets on a body of this length.
    pub(super) fn spend(&mut self, secrets: usize, bytes: usize) -> Result<(), OutOfWork> {
        let bytes = bytes.saturating_add(TRIAL_BYTES_MIN);
        self.work.spend(bytes.saturating_mul(secrets))
    }

    /// Whether the signature is that of one of the own secrets.
    pub(super) fn verify(&mut self) -> Result<Option<Result<(), VerificationError>>, OutOfWork> {
        self.spend(self.own.count, self.request.body.len())?;
        let verified = self.request.verify_when_sent(self.own.webhooks);
        Ok(verified.map(|verified| verified.map(drop)))
    }

    /// Whether one of these other secrets matches.
    pub(super) fn match_secrets(&mut self, secrets: Secrets<'_>) -> Result<bool, OutOfWork> {
        self.spend(secrets.count, self.request.body.len())?;
        self.tried.secrets += secrets.count;
        Ok(self.request.matches(secrets.webhooks))
    }

    /// Whether the signature matches with these headers.
    pub(super) fn match_headers(
        &mut self,
        headers: &[(String, String)],
    ) -> Result<bool, OutOfWork> {
        self.spend(self.own.count, self.request.body.len())?;
        self.tried.headers += 1;
        let request = SignedRequest {
            headers,
            ..self.request
        };
        Ok(request.matches(self.own.webhooks))
    }

    /// Whether the signature matches with this body, which `kind` counts. A body that was tried
    /// before is not tried again.
    pub(super) fn match_body(
        &mut self,
        body: &[u8],
        kind: impl FnOnce(&mut Tried) -> &mut usize,
    ) -> Result<bool, OutOfWork> {
        if !self.is_new(body) {
            // To make it has cost a pass over it.
            self.work.spend(body.len())?;
            return Ok(false);
        }
        self.spend(self.own.count, body.len())?;
        *kind(&mut self.tried) += 1;
        let request = SignedRequest {
            body,
            ..self.request
        };
        Ok(request.matches(self.own.webhooks))
    }

    /// Two bodies of one hash are taken for the same. A sender who makes such bodies conceals the
    /// cause of its own request only.
    fn is_new(&mut self, body: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }
}

/// Whether only the time was refused so far.
pub(crate) fn is_of_time(error: &VerificationError) -> bool {
    matches!(
        error,
        VerificationError::TimestampTooOld { .. } | VerificationError::TimestampTooNew { .. }
    )
}
