//! `unwrapd serve`: the gateway, until it is told to stop.

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::{Failure, StopSignals, say, usage};
use crate::config::{Config, ConfigError, warn_of_shared_secrets};
use crate::destination;
use crate::gateway::Gateway;
use crate::store::precheck;

/// Open files beside the connections of the public port: the store, the admin port, destinations.
const OTHER_FILES: u64 = 256;

/// The condition that the configuration could not be read again.
const RELOAD: &str = "reload";

/// Most threads. More were a slip of the finger.
const THREADS_MAX: i64 = 1024;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
    /// Check the configuration and everything it names, and end: with 0 if the gateway could start, else with 2
    #[arg(long)]
    check: bool,
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
    if arguments.check {
        return check(&arguments.config, &config);
    }
    let scheme = if config.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    // Before the ports are open: whoever sees them open may signal at once.
    let mut signals = StopSignals::new()?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut gateway = Gateway::start(config).await?;
    gateway.tell_start(&arguments.config);
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
                return Err(anyhow::anyhow!("a part of the gateway ended; start it again").into());
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

/// What a start would find out, without binding a port, opening the store or asking a server.
fn check(file: &Path, config: &Config) -> Result<(), Failure> {
    let mut problems = Vec::new();
    problems.extend(precheck(&config.store).err());
    for settings in &config.destinations {
        let built = destination::build(settings);
        problems.extend(built.err().map(|error| format!("{error:#}")));
    }
    destination::tell_doubts(&config.destinations, config.listen);
    warn_of_shared_secrets(&config.endpoints);
    if !problems.is_empty() {
        let file = file.display();
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| format!("{file}: {problem}"))
            .collect();
        return Err(usage(lines.join("\n")));
    }
    let names = |names: Vec<&str>| {
        if names.is_empty() {
            "none".into()
        } else {
            names.join(", ")
        }
    };
    let endpoints = config.endpoints.iter().map(|one| one.name.as_str());
    let destinations = config.destinations.iter().map(|one| one.name.as_str());
    say!("the configuration {} is good", file.display())?;
    say!("endpoints     {}", names(endpoints.collect()))?;
    say!("destinations  {}", names(destinations.collect()))?;
    say!("store         {}", config.store.url)?;
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
        Ok(changes) => {
            let file = path.display();
            let parts = changes.parts.join("; ");
            if changes.is_empty() {
                tracing::info!("{file} was read again: nothing changed");
            } else if parts.is_empty() {
                tracing::info!(
                    "{file} was read again: nothing changed that counts before the next start"
                );
            } else {
                tracing::info!("{file} was read again and counts from now on: {parts}");
            }
            gateway
                .warnings()
                .end(RELOAD, "the configuration is usable again");
            // A store that hangs must not hold up the signals.
            tokio::spawn(gateway.tell_removed(changes));
        }
        Err(error) => {
            gateway.warnings().begin(
                RELOAD,
                format!(
                    "the gateway runs on an earlier configuration: {} could not be used at the last SIGHUP; correct it and send SIGHUP again",
                    path.display()
                ),
            );
            let lines: Vec<String> = error.downcast_ref::<ConfigError>().map_or_else(
                || vec![format!("{error:#}")],
                |mistakes| mistakes.lines().collect(),
            );
            for line in lines {
                tracing::error!("nothing was changed: {line}");
            }
        }
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
