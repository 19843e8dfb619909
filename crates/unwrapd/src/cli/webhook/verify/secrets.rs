//! The secrets of `unwrapd verify`: those that should have signed a request, and others whose match
//! explains why it is refused.

use std::path::{Path, PathBuf};

use clap::Args;
use openai_webhooks::{OPENAI_WEBHOOK_SECRET, Secret, Webhooks};
use zeroize::Zeroizing;

use crate::cli::failure::{Failure, usage};
use crate::config::Config;
use crate::destinations::Kind;
use crate::diagnosis::{Cause, Secrets};
use crate::settings_file::{SecretSource, shown_path};

/// Beginning of the secrets of OpenAI.
const PREFIX: &str = "whsec_";

/// Sources of the secrets. Never the arguments: every user of the machine can see those.
#[derive(Args)]
pub(super) struct SecretsArguments {
    /// Environment variable with a secret, or with several [default: `OPENAI_WEBHOOK_SECRET`]
    #[arg(long, value_name = "NAME")]
    secret_env: Vec<String>,
    /// File with a secret, or with several
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// Endpoint of the configuration, with its secrets; those of others are tried too
    #[arg(long, value_name = "NAME", conflicts_with_all = ["secret_env", "secret_file"])]
    endpoint: Option<String>,
}

/// Secrets to verify with.
pub(super) struct KnownSecrets {
    pub(super) webhooks: Webhooks,
    /// The source of each, in their order.
    sources: Vec<String>,
    /// Other secrets, each with the cause to name if it matches.
    others: Vec<(Cause, Webhooks)>,
}

impl SecretsArguments {
    /// Whether the command line names a source.
    pub(super) fn are_named(&self) -> bool {
        self.endpoint.is_some() || !self.secret_env.is_empty() || !self.secret_file.is_empty()
    }

    pub(super) fn read(&self, config: &Path) -> Result<KnownSecrets, Failure> {
        if let Some(name) = &self.endpoint {
            return of_endpoint(name, config);
        }
        let variables = self.secret_env.iter().cloned().map(SecretSource::Env);
        let files = self.secret_file.iter().cloned().map(SecretSource::File);
        let mut sources: Vec<SecretSource> = variables.chain(files).collect();
        if sources.is_empty() {
            sources.push(SecretSource::Env(OPENAI_WEBHOOK_SECRET.into()));
        }
        let mut secrets: Vec<Secret> = Vec::new();
        let mut known = KnownSecrets {
            webhooks: Webhooks::from_iter::<[Secret; 0]>([]),
            sources: Vec::new(),
            others: Vec::new(),
        };
        for source in sources {
            let text = source.read_text().map_err(usage)?;
            let list =
                Secret::parse_list(&text).map_err(|error| usage(format!("{source}: {error}")))?;
            let count = list.len();
            known.sources.extend((1..=count).map(|number| match count {
                1 => source.to_string(),
                _ => format!("{source}, secret {number}"),
            }));
            let pieces: Vec<&str> = match count {
                1 => vec![text.trim()],
                _ => text.split([' ', ',', '\n', '\r', '\t']).collect(),
            };
            known.others.extend(pieces.into_iter().flat_map(misread));
            secrets.extend(list);
        }
        known.webhooks = secrets.iter().collect();
        Ok(known)
    }
}

/// The keys of a secret whose text is misread.
fn misread(text: &str) -> Vec<(Cause, Webhooks)> {
    let Some(encoded) = text.strip_prefix(PREFIX) else {
        let with_prefix = Zeroizing::new(format!("{PREFIX}{text}"));
        let secret = Secret::parse_short(&with_prefix).ok();
        let misread = secret.map(|secret| (Cause::PrefixMissing, Webhooks::from(&secret)));
        return misread.into_iter().collect();
    };
    [text, encoded]
        .into_iter()
        .filter_map(|key| Secret::from_key(key).ok())
        .map(|secret| (Cause::KeyNotDecoded, Webhooks::from(&secret)))
        .collect()
}

/// The secrets of an endpoint, and of all others of its configuration.
fn of_endpoint(name: &str, config: &Path) -> Result<KnownSecrets, Failure> {
    let Config {
        endpoints,
        destinations,
        ..
    } = Config::read(config)?;
    let mut known = None;
    let mut others = Vec::new();
    for endpoint in endpoints {
        if endpoint.name == name {
            known = Some(endpoint.webhooks);
        } else {
            let cause = Cause::OtherEndpoint {
                received: name.to_owned(),
                signed: endpoint.name,
            };
            others.push((cause, endpoint.webhooks));
        }
    }
    let webhooks = known.ok_or_else(|| {
        Failure::NotFound(anyhow::anyhow!(
            "{} has no endpoint of this name",
            shown_path(config)
        ))
    })?;
    for destination in destinations {
        if let Kind::Http(settings) = destination.kind {
            others.push((Cause::Destination(destination.name), settings.webhooks));
        }
    }
    let count = Secrets::from(&webhooks).count;
    let sources = (1..=count).map(|number| format!("secret {number} of the endpoint `{name}`"));
    Ok(KnownSecrets {
        sources: sources.collect(),
        webhooks,
        others,
    })
}

impl KnownSecrets {
    /// The source of a secret.
    pub(super) fn source(&self, index: usize) -> &str {
        self.sources.get(index).map_or("", String::as_str)
    }

    /// Number of the secrets.
    pub(super) fn count(&self) -> usize {
        self.sources.len()
    }

    pub(super) fn own(&self) -> Secrets<'_> {
        Secrets {
            webhooks: &self.webhooks,
            count: self.count(),
        }
    }

    /// The other secrets, each with the cause to name if it matches.
    pub(super) fn others(&self) -> impl Iterator<Item = (Cause, Secrets<'_>)> {
        let others = self.others.iter();
        others.map(|(cause, webhooks)| (cause.clone(), Secrets::from(webhooks)))
    }
}
