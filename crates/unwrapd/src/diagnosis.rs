//! The cause for which a request was not verified, found by trials with the secrets at hand. Pure.
//!
//! A cause is named only if the trials show it: the signature must match without the change. The
//! trials are bounded by [`Work`], because a refused request may be hostile.

mod body;
mod cause;
mod header;
mod json;
mod key_order;
mod spelling;
mod trials;

use openai_webhooks::{VerificationError, Webhooks};

use body::BodyChange;
pub(crate) use body::utf_16;
pub(crate) use cause::{Cause, Reserialised};
use json::Json;
use spelling::{SPELLINGS, Spelling};
use trials::{OutOfWork, Trials};
pub(crate) use trials::{Secrets, SignedRequest, Tried, Work, is_of_time};

/// A refused request, as far as it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Refused<'r> {
    pub(crate) headers: &'r [(String, String)],
    /// `None`: not stored.
    pub(crate) body: Option<&'r [u8]>,
    /// Time of arrival, in Unix seconds.
    pub(crate) arrived_at: i64,
}

/// The result of the trials.
pub(crate) struct Diagnosis {
    /// The cause; `None`: the trials ended at the limit of work, or there is no body.
    pub(crate) cause: Option<Cause>,
    pub(crate) tried: Tried,
}

/// The orders of the keys that are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOrders {
    /// That of the documented example.
    Documented,
    /// Also all others, within a limit: up to thousands of trials.
    All,
}

impl<'r> Refused<'r> {
    /// The cause as far as the headers show it.
    pub(crate) fn cause_in_headers(&self, own: &Webhooks) -> Option<Cause> {
        match own.check_headers_at(self.headers, self.arrived_at) {
            Ok(()) => None,
            Err(error) if is_of_time(&error) => Some(self.cause_in_time(None)),
            Err(error) => Some(Cause::Header(error)),
        }
    }

    fn cause_in_time(&self, is_authentic: Option<bool>) -> Cause {
        let sent_at = self.with_body(b"").sent_at().unwrap_or(self.arrived_at);
        Cause::Time {
            age: self.arrived_at.saturating_sub(sent_at),
            is_authentic,
        }
    }

    fn with_body(&self, body: &'r [u8]) -> SignedRequest<'r> {
        SignedRequest {
            headers: self.headers,
            body,
        }
    }

    /// The cause, by trials with the secrets that should have signed it, and with others, each with
    /// the cause to name if it matches.
    pub(crate) fn diagnose<'s>(
        &self,
        own: Secrets<'r>,
        others: impl IntoIterator<Item = (Cause, Secrets<'s>)>,
        orders: KeyOrders,
        work: &mut Work,
    ) -> Diagnosis {
        let in_headers = self.cause_in_headers(own.webhooks);
        let is_missing = matches!(
            in_headers,
            Some(Cause::Header(VerificationError::MissingHeader { .. }))
        );
        let Some(body) = self.body.filter(|_| !is_missing) else {
            return Diagnosis {
                cause: in_headers,
                tried: Tried::default(),
            };
        };
        let mut trials = Trials::new(self.with_body(body), own, work);
        let found = self.find(in_headers, own, others, orders, &mut trials);
        Diagnosis {
            cause: found.ok(),
            tried: trials.tried,
        }
    }

    fn find<'s>(
        &self,
        in_headers: Option<Cause>,
        own: Secrets<'_>,
        others: impl IntoIterator<Item = (Cause, Secrets<'s>)>,
        orders: KeyOrders,
        trials: &mut Trials<'_, '_>,
    ) -> Result<Cause, OutOfWork> {
        let is_well_formed = !matches!(in_headers, Some(Cause::Header(_)));
        if is_well_formed {
            match trials.verify()? {
                Some(Ok(())) if in_headers.is_none() => return Ok(Cause::SecretsCorrected),
                Some(Ok(())) => return Ok(self.cause_in_time(Some(true))),
                None | Some(Err(VerificationError::SignatureMismatch)) => {}
                Some(Err(error)) => return Ok(Cause::Header(error)),
            }
            for (cause, secrets) in others {
                if trials.match_secrets(secrets)? {
                    return Ok(cause);
                }
            }
        }
        for restored in header::restored(self.headers) {
            if trials.match_headers(&restored.headers)? {
                return Ok(Cause::HeaderChanged {
                    header: restored.header,
                    change: restored.change,
                });
            }
        }
        if let Some(cause @ Cause::Header(_)) = in_headers {
            return Ok(cause);
        }
        let body = self.body.unwrap_or_default();
        trials.spend(own.count, body.len())?;
        if let Some(change) = header::damage_of_signature(own.webhooks, self.with_body(body)) {
            return Ok(Cause::HeaderChanged {
                header: openai_webhooks::WEBHOOK_SIGNATURE,
                change,
            });
        }
        if let Some(change) = change_of_body(body, trials)? {
            return Ok(Cause::Body(change));
        }
        let in_json = cause_in_json(body, orders, trials)?;
        Ok(in_json.unwrap_or(Cause::UnknownSecret))
    }
}

/// The change of a body that was no other spelling of its JSON.
fn change_of_body(
    body: &[u8],
    trials: &mut Trials<'_, '_>,
) -> Result<Option<BodyChange>, OutOfWork> {
    // To look for all changes costs some passes over the body.
    trials.spend(2, body.len())?;
    for (change, undos) in body::CHANGES {
        for undo in *undos {
            if let Some(before) = undo(body)
                && trials.match_body(&before, |tried| &mut tried.bodies)?
            {
                return Ok(Some(*change));
            }
        }
    }
    Ok(None)
}

/// The cause in a JSON body: it holds the payload as a text, or another spelling of it was signed.
fn cause_in_json(
    body: &[u8],
    orders: KeyOrders,
    trials: &mut Trials<'_, '_>,
) -> Result<Option<Cause>, OutOfWork> {
    trials.spend(1, body.len())?;
    let Some(json) = Json::read(body) else {
        return Ok(None);
    };
    for text in body::texts_within(&json) {
        if trials.match_body(&text, |tried| &mut tried.bodies)? {
            return Ok(Some(Cause::Body(body::WRAPPED)));
        }
    }
    let found = |signed: &Spelling, text: &[u8]| {
        let differences = Json::read(text).map_or_else(Vec::new, |signed| {
            spelling::differences((body, &json), (text, &signed))
        });
        let is_reordered = differences.contains(&spelling::KEY_ORDER);
        Some(Cause::Reserialised(Reserialised {
            signed: signed.name,
            arrived: spelling::name_of(body, &json, is_reordered),
            differences,
        }))
    };
    for spelling in SPELLINGS {
        let text = spelling.write(&json);
        if trials.match_body(&text, |tried| &mut tried.spellings)? {
            return Ok(found(spelling, &text));
        }
    }
    if let Some(json) = key_order::documented(&json) {
        for spelling in SPELLINGS {
            let text = spelling.write(&json);
            if trials.match_body(&text, |tried| &mut tried.orders)? {
                return Ok(found(spelling, &text));
            }
        }
    }
    if orders == KeyOrders::Documented {
        return Ok(None);
    }
    let mut signed = None;
    key_order::visit(&json, &mut |members| {
        for spelling in SPELLINGS.iter().filter(|spelling| spelling.is_plain()) {
            let text = spelling.write_object(members);
            if trials.match_body(&text, |tried| &mut tried.orders)? {
                signed = found(spelling, &text);
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    Ok(signed)
}

#[cfg(test)]
mod tests;
