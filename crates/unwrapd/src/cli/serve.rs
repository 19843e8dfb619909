//! `unwrapd serve`: the gateway, until it is told to stop.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, StopSignals};
use crate::config::Config;
use crate::gateway::Gateway;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    if config.destinations.is_empty() {
        tracing::warn!("there is no [[destination]]: webhooks are kept and not delivered");
    }
    let names: Vec<String> = config
        .endpoints
        .iter()
        .map(|endpoint| endpoint.name.clone())
        .collect();
    // Before the ports are open: whoever sees them open may signal at once.
    let mut signals = StopSignals::new()?;
    let mut gateway = Gateway::start(config).await?;
    for name in names {
        tracing::info!("receiving on http://{}/webhooks/{name}", gateway.public());
    }
    if let Some(admin) = gateway.admin() {
        tracing::info!("for operators: http://{admin}/readyz");
    }
    tokio::select! {
        () = signals.next() => {}
        () = gateway.failed() => {
            return Err(anyhow::anyhow!("a part of the gateway ended; start it again").into());
        }
    }
    tracing::info!("stopping: finishing what is under way; a second signal ends it at once");
    tokio::select! {
        () = gateway.stop() => {}
        () = signals.next() => tracing::warn!("ended at once; what was under way is made again at the next start"),
    }
    Ok(())
}
