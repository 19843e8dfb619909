//! `unwrapd secret`: generates a secret for a destination.

use openai_webhooks::Secret;

use crate::cli::failure::Failure;
use crate::cli::format::outln;

/// The size of the hash of the signature.
const KEY_BYTES: usize = 32;

pub(crate) fn run() -> Result<(), Failure> {
    outln!("{}", generate()?.expose().as_str())?;
    Ok(())
}

pub(crate) fn generate() -> anyhow::Result<Secret> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random source: {error}"))?;
    Ok(Secret::from_key(key)?)
}
