//! The table `[[endpoint]]`: an address that OpenAI posts to.

use std::time::Duration;

use openai_webhooks::Webhooks;
use serde::Deserialize;
use toml::Spanned;

use crate::message::OWN_ENDPOINT;
use crate::settings_file::{
    Key, Keys, Location, Mistake, Mistakes, Names, SecretSource, Table, changed_secrets, differing,
    required, webhooks,
};

/// Most concurrent requests. The body of each is in memory until its commit.
pub(crate) const REQUESTS_MAX: usize = 16_384;
/// Default maximum of concurrent requests of one endpoint. It leaves a quarter for the others.
const REQUESTS_USUAL: usize = 768;
/// Longest silence that may be configured: a month.
const SILENT_AFTER_HOURS_MAX: u64 = 744;
/// Most secrets of an endpoint: some endpoints at OpenAI, each with an old and a new one. A forged
/// request costs an HMAC for each.
const SECRETS_MAX: usize = 16;

/// An address that OpenAI posts to.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// The last part of its path.
    pub name: String,
    /// The verifier of its requests.
    pub webhooks: Webhooks,
    /// Most concurrent requests, beside the limit for all endpoints.
    pub requests_max: usize,
    /// Time without a webhook after which an alert is sent. `None`: silence is usual.
    pub silent_after: Option<Duration>,
}

impl EndpointSettings {
    /// An endpoint with the default limit, whose silence is usual.
    #[must_use]
    pub fn new(name: impl Into<String>, webhooks: Webhooks) -> Self {
        Self {
            name: name.into(),
            webhooks,
            requests_max: REQUESTS_USUAL,
            silent_after: None,
        }
    }

    /// The endpoints that these tables describe.
    pub(crate) fn read_all(tables: Vec<Table<'_>>) -> Result<Vec<Self>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut names = Names::except(OWN_ENDPOINT);
        let mut endpoints = Vec::new();
        for table in tables {
            endpoints.extend(mistakes.keep(Self::read(table, &mut names)).flatten());
        }
        mistakes.check()?;
        Ok(endpoints)
    }

    /// `None`: a part of the table is missing, and its mistakes are reported already.
    fn read(mut table: Table<'_>, names: &mut Names) -> Result<Option<Self>, Mistakes> {
        let name = names.take(&mut table);
        let keys: EndpointKeys = table.take();
        let webhooks = table.keep(keys.webhooks(table.location())).flatten();
        let requests_max = table.keep_number("requests_max", keys.requests_max, 1..=REQUESTS_MAX);
        let silent_after = table.keep_number(
            "silent_after_hours",
            keys.silent_after_hours,
            1..=SILENT_AFTER_HOURS_MAX,
        );
        table.end()?;
        Ok(name.zip(webhooks).map(|(name, webhooks)| Self {
            requests_max: requests_max.unwrap_or(REQUESTS_USUAL),
            silent_after: silent_after.map(|hours| Duration::from_secs(hours * 3_600)),
            ..Self::new(name, webhooks)
        }))
    }

    /// The keys in which the other settings differ.
    pub(crate) fn changed_keys(&self, other: &Self) -> Vec<String> {
        let keys = differing([
            ("requests_max", self.requests_max != other.requests_max),
            (
                "silent_after_hours",
                self.silent_after != other.silent_after,
            ),
        ]);
        keys.map(str::to_owned)
            .chain(changed_secrets(&self.webhooks, &other.webhooks))
            .collect()
    }
}

#[derive(Default, Deserialize)]
struct EndpointKeys {
    secrets: Key<Vec<Spanned<SecretSource>>>,
    requests_max: Key<usize>,
    silent_after_hours: Key<u64>,
}

impl Keys for EndpointKeys {}

impl EndpointKeys {
    fn webhooks(&self, location: &Location) -> Result<Option<Webhooks>, Mistakes> {
        let Some(secrets) = required(self.secrets.as_ref(), "secrets", location)? else {
            return Ok(None);
        };
        if secrets.get_ref().len() > SECRETS_MAX {
            return Err(Mistake::new(
                secrets.span(),
                format!(
                    "there are more than {SECRETS_MAX} secrets: remove those that OpenAI no longer signs with"
                ),
            )
            .into());
        }
        let webhooks = webhooks(secrets.get_ref())?;
        if webhooks.is_none() && !location.is_broken("secrets") {
            return Err(Mistake::absence(
                secrets.span(),
                "an endpoint needs a secret to verify webhooks with: add `{ env = \"OPENAI_WEBHOOK_SECRET\" }`",
            )
            .into());
        }
        Ok(webhooks)
    }
}

/// Warns of endpoints that share a secret: a webhook for one of them is accepted at the other too.
pub(crate) fn warn_of_shared_secrets(endpoints: &[EndpointSettings]) {
    let signed: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (&endpoint.name, endpoint.webhooks.fingerprints()))
        .collect();
    for (place, (name, secrets)) in signed.iter().enumerate() {
        let others: Vec<&str> = signed[place + 1..]
            .iter()
            .filter(|(_, others)| secrets.iter().any(|secret| others.contains(secret)))
            .map(|(other, _)| other.as_str())
            .collect();
        if !others.is_empty() {
            tracing::warn!(
                "the endpoint `{name}` shares a secret with `{}`: a captured webhook for one is \
                 accepted as new at the other; create a webhook endpoint at OpenAI for each, and \
                 give each its own secret",
                others.join("`, `")
            );
        }
    }
}
