//! Commands for developers, about single webhooks. They need no gateway.

pub(super) mod trigger;

pub(super) mod sign;

pub(super) mod verify;

pub(super) mod secret;

pub(super) mod request;

mod saved_request;

use std::path::PathBuf;

use clap::Args;
use openai_webhooks::{OPENAI_WEBHOOK_SECRET, Secret, Webhooks};

use super::failure::{Failure, usage};
use crate::settings_file::SecretSource;

/// Source of the secret of a command. Never its arguments: every user of the machine can see those.
#[derive(Args)]
pub(super) struct SecretArguments {
    /// Environment variable with the secret
    #[arg(long, value_name = "NAME", default_value = OPENAI_WEBHOOK_SECRET)]
    secret_env: String,
    /// File with the secret, instead of the environment
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArguments {
    pub(super) fn secret(&self) -> Result<Secret, Failure> {
        self.source().read().map_err(usage)
    }

    /// The signer and verifier with this secret.
    pub(super) fn webhooks(&self) -> Result<Webhooks, Failure> {
        Ok(Webhooks::from(&self.secret()?))
    }

    fn source(&self) -> SecretSource {
        match &self.secret_file {
            Some(file) => SecretSource::File(file.clone()),
            None => SecretSource::Env(self.secret_env.clone()),
        }
    }
}
