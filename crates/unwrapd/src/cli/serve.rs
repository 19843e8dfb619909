//! `unwrapd serve`: the gateway, until it is told to stop.

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::{Failure, StopSignals};
use crate::config::{Config, ConfigError};
use crate::gateway::Gateway;

/// Open files beside the connections of the public port: the store, the admin port, destinations.
const OTHER_FILES: u64 = 256;

/// Most threads. More were a slip of the finger.
const THREADS_MAX: i64 = 1024;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
    /// Threads that receive and deliver; gateways on one machine share its cores [default: one for each core it may use]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=THREADS_MAX))]
    pub(super) threads: Option<u16>,
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
    allow_open_files(config.server.connections_max);
    let scheme = if config.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    // Before the ports are open: whoever sees them open may signal at once.
    let mut signals = StopSignals::new()?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut gateway = tokio::select! {
        gateway = Gateway::start(config) => gateway?,
        // A disk that hangs, or a database that does not answer, must not hold up the end.
        () = signals.next() => {
            tracing::info!("stopped before the gateway was up");
            return Ok(());
        }
    };
    for name in names {
        tracing::info!(
            "receiving on {scheme}://{}/webhooks/{name}",
            gateway.public()
        );
    }
    if let Some(admin) = gateway.admin() {
        tracing::info!("for operators: http://{admin}/readyz");
    }
    let mut readings = JoinSet::new();
    loop {
        tokio::select! {
            () = signals.next() => break,
            // Not here, where all else may wait for it: a file may be on a disk that hangs.
            Some(()) = reload.recv(), if readings.is_empty() => {
                let path = arguments.config.clone();
                readings.spawn_blocking(move || Config::read(&path));
            }
            Some(read) = readings.join_next() => {
                reload_with(read.map_err(anyhow::Error::from), &arguments.config, &mut gateway);
            }
            () = gateway.failed() => {
                return Err(anyhow::anyhow!("a part of the gateway ended, and the log says why").into());
            }
        }
    }
    let drain = gateway.drain_time();
    if drain.is_zero() {
        tracing::info!("stopping: finishing what is under way; a second signal ends it at once");
    } else {
        tracing::info!(
            "stopping in {} s: receiving until then, and not ready for more; a second signal ends it at once",
            drain.as_secs()
        );
    }
    let stopped = async {
        gateway.drain().await;
        gateway.stop().await;
    };
    tokio::select! {
        () = stopped => {}
        () = signals.next() => {
            tracing::warn!("ended at once; what was under way is made again at the next start");
            // Whatever it hangs on, a disk or a server for names, would hold up an orderly end as well.
            std::process::exit(1);
        }
    }
    Ok(())
}

/// SIGHUP: the configuration and the secrets it names were read again. A mistake is said and changes nothing.
fn reload_with(
    read: anyhow::Result<Result<Config, ConfigError>>,
    path: &Path,
    gateway: &mut Gateway,
) {
    let reloaded = read
        .and_then(|read| Ok(read?))
        .and_then(|config| gateway.reload(config));
    match reloaded {
        Ok(()) => tracing::info!("{} was read again and counts from now on", path.display()),
        Err(error) => tracing::error!("nothing was changed: {error:#}"),
    }
}

/// As many open files as the machine lets us have, and a warning if they are too few: its usual soft limit is for programs of
/// the last century.
fn allow_open_files(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, all) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = u64::try_from(connections_max).unwrap_or(u64::MAX) + OTHER_FILES;
    if let Some(allowed) = allowed
        && allowed < needed
    {
        tracing::warn!(
            "this process may open {allowed} files and would need {needed}: raise the limit (ulimit -n, LimitNOFILE) or lower `connections_max`"
        );
    }
}
