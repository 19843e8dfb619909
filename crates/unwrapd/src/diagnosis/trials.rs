//! Trials with the secrets of one endpoint.

use openai_webhooks::{VerificationError, Verified, WEBHOOK_TIMESTAMP, Webhooks};

/// A request, as far as it is signed.
#[derive(Clone, Copy)]
pub(crate) struct SignedRequest<'r> {
    pub(crate) headers: &'r [(String, String)],
    pub(crate) body: &'r [u8],
}

/// Results of the trials with the secrets of one endpoint.
pub(crate) struct Trials<'r> {
    /// Verification at the time of arrival.
    pub(crate) at_arrival: Result<Verified<'r>, VerificationError>,
    /// Verification at the time of its timestamp, if only the time was refused. It shows whether
    /// the request has another problem.
    pub(crate) when_sent: Result<Verified<'r>, VerificationError>,
    /// Whether the signature matches without the last line end of the body. Editors, shells and
    /// scripts often add one.
    pub(crate) matches_without_line_end: bool,
}

impl<'r> SignedRequest<'r> {
    /// Its timestamp, in Unix seconds.
    pub(super) fn sent_at(self) -> Option<i64> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case(WEBHOOK_TIMESTAMP))?;
        value.trim().parse().ok()
    }

    /// Verifies it at the time of its timestamp.
    pub(crate) fn verify_when_sent(
        self,
        webhooks: &Webhooks,
    ) -> Option<Result<Verified<'r>, VerificationError>> {
        let sent_at = self.sent_at()?;
        Some(webhooks.verify_signature_at(self.body, self.headers, sent_at))
    }

    pub(super) fn matches(self, webhooks: &Webhooks) -> bool {
        self.verify_when_sent(webhooks)
            .is_some_and(|verified| verified.is_ok())
    }

    fn without_line_end(self) -> Option<Self> {
        let cut = self.body.strip_suffix(b"\n")?;
        let body = cut.strip_suffix(b"\r").unwrap_or(cut);
        Some(Self { body, ..self })
    }
}

impl<'r> Trials<'r> {
    /// Tries these secrets on a request that arrived at `now`, in Unix seconds.
    pub(crate) fn of(webhooks: &Webhooks, request: SignedRequest<'r>, now: i64) -> Self {
        let at_arrival = webhooks.verify_signature_at(request.body, request.headers, now);
        let when_sent = match &at_arrival {
            Err(error) if is_of_time(error) => request.verify_when_sent(webhooks),
            _ => None,
        };
        let when_sent = when_sent.unwrap_or_else(|| at_arrival.clone());
        let is_mismatch = matches!(when_sent, Err(VerificationError::SignatureMismatch));
        let cut = request.without_line_end().filter(|_| is_mismatch);
        Self {
            at_arrival,
            when_sent,
            matches_without_line_end: cut.is_some_and(|cut| cut.matches(webhooks)),
        }
    }
}

/// Whether only the time was refused so far.
pub(super) fn is_of_time(error: &VerificationError) -> bool {
    matches!(
        error,
        VerificationError::TimestampTooOld { .. } | VerificationError::TimestampTooNew { .. }
    )
}
