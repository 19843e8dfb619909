//! `unwrapd serve`: runs the gateway until a signal stops it.

mod init;
mod service_manager;
mod sockets;

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::failure::{Failure, usage};
use super::format::outln;
use super::stop_signals::StopSignals;
use crate::config::{Config, ConfigError, DestinationSettings, ServerSettings};
use crate::destinations;
use crate::gateway::{DELIVER_DRAIN_MAX, Gateway, Sockets};
use crate::receive::warn_of_shared_secrets;
use crate::store::precheck;
use crate::telemetry::LogHandle;
pub(super) use init::supervise;
use service_manager::ServiceManager;
pub(super) use sockets::take as take_sockets;

/// Open files beside the connections of the public port: the store, the admin port, destinations.
const OTHER_FILES: u64 = 256;

/// Part of these for the files of destinations.
const DESTINATION_FILES: u64 = 64;
/// Calls that are delivered to a destination at once.
const CALLS: u64 = 16;

/// Minimum number of open files: those of the store, the ports and the runtime, and some
/// connections.
const FILES_MIN: u64 = 64;
/// Name of the warning that the configuration could not be reloaded.
const RELOAD: &str = "reload";

/// Most threads. A larger number is a mistake in typing.
const THREADS_MAX: i64 = 1024;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
    /// Only check the configuration: exit with 0 if the gateway could start, else 2
    #[arg(long)]
    check: bool,
    /// Threads that receive and deliver [default: one for each usable core]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=THREADS_MAX))]
    pub(super) threads: Option<u16>,
}

/// `sockets` are those that a service manager has passed.
pub(super) async fn run(
    arguments: &Arguments,
    sockets: Sockets,
    log: &LogHandle,
) -> Result<(), Failure> {
    let mut config = read(&arguments.config, log)?;
    if config.destinations.is_empty() {
        tracing::warn!("there is no [[destination]]: webhooks are stored, and not delivered");
    }
    let names: Vec<String> = config
        .endpoints
        .iter()
        .map(|endpoint| endpoint.name.clone())
        .collect();
    let destinations = files_of(&config.destinations);
    allow_open_files(&mut config.server, destinations)?;
    if arguments.check {
        return check(&arguments.config, &config);
    }
    sockets.check(&config).map_err(usage)?;
    let scheme = if config.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let admin_scheme = match config.server.admin_tls {
        Some(_) => "https",
        None => "http",
    };
    // Registered before the ports are open, because a signal may arrive as soon as they are.
    let mut signals = StopSignals::new()?;
    let mut reload = signal(SignalKind::hangup())?;
    let manager = ServiceManager::of_this_process();
    manager.status("opening the store").await;
    let mut gateway = tokio::select! {
        gateway = Gateway::start_on(sockets, config) => gateway?,
        // A disk that hangs, or a database that does not answer, must not delay the end.
        () = signals.next() => {
            tracing::info!("stopped before the gateway was up");
            return Ok(());
        }
    };
    gateway.log_start(&arguments.config);
    for name in names {
        tracing::info!(
            "receiving on {scheme}://{}/webhooks/{name}",
            gateway.public()
        );
    }
    if let Some(admin) = gateway.admin() {
        tracing::info!("admin API on {admin_scheme}://{admin}");
    }
    let receiving = format!("receiving on {scheme}://{}", gateway.public());
    manager.ready(&receiving).await;
    let watch = manager.watch(gateway.liveness(), receiving.clone());
    let mut readings = JoinSet::new();
    loop {
        tokio::select! {
            () = signals.next() => break,
            // Read on another thread, because a disk that hangs would block the signals.
            Some(()) = reload.recv(), if readings.is_empty() => {
                manager.reloading().await;
                let path = arguments.config.clone();
                readings.spawn_blocking(move || Config::read(&path));
            }
            Some(read) = readings.join_next() => {
                let read = read.map_err(anyhow::Error::from);
                if reload_with(read, &arguments.config, &mut gateway, log) {
                    manager.ready(&receiving).await;
                } else {
                    manager
                        .ready(&format!("{receiving}; the changed configuration was refused: see the log"))
                        .await;
                }
            }
            () = gateway.failed() => {
                return Err(anyhow::anyhow!("a part of the gateway has ended: see the log for the cause").into());
            }
        }
    }
    let drain = gateway.drain_time();
    if drain.is_zero() {
        tracing::info!(
            "stopping: deliveries under way are finished first, for {} s at most; a second signal ends the process at once",
            DELIVER_DRAIN_MAX.as_secs()
        );
    } else {
        tracing::info!(
            "stopping in {} s: webhooks are received until then, and /readyz answers 503; a second signal ends the process at once",
            drain.as_secs()
        );
    }
    manager
        .stopping("stopping: deliveries under way are finished")
        .await;
    drop(watch);
    let _watch = manager.watch_end();
    let stopped = async {
        gateway.drain().await;
        gateway.stop().await;
    };
    tokio::select! {
        () = stopped => {}
        () = signals.next() => {
            tracing::warn!("ended at once by a second signal; deliveries that were under way are retried after the next start");
            // A disk or a name server that hangs would delay an orderly end too.
            std::process::exit(1);
        }
    }
    Ok(())
}

/// The configuration. An error also holds the problem of the store, so that both can be corrected
/// at once.
fn read(file: &Path, log: &LogHandle) -> Result<Config, ConfigError> {
    Config::read_with(file, |settings| log.apply(settings)).map_err(|error| {
        let store = Config::read_store(file).ok();
        match store.and_then(|store| precheck(&store).err()) {
            Some(problem) => error.and(problem),
            None => error,
        }
    })
}

/// Makes the checks of a start without binding a port, opening the store or contacting a server.
fn check(file: &Path, config: &Config) -> Result<(), Failure> {
    let mut problems = Vec::new();
    problems.extend(precheck(&config.store).err());
    for settings in &config.destinations {
        let built = destinations::build(settings);
        problems.extend(built.err().map(|error| format!("{error:#}")));
    }
    destinations::warn_doubts(&config.destinations, config.listen);
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
    outln!("the configuration {} is valid", file.display())?;
    outln!("endpoints     {}", names(endpoints.collect()))?;
    outln!("destinations  {}", names(destinations.collect()))?;
    outln!("store         {}", config.store.url)?;
    if let Some(traces) = &config.traces {
        outln!("traces        {}", traces.place())?;
    }
    Ok(())
}

/// Applies a configuration that was reloaded after SIGHUP. A mistake is logged, changes nothing,
/// and returns `false`.
fn reload_with(
    read: anyhow::Result<Result<Config, ConfigError>>,
    path: &Path,
    gateway: &mut Gateway,
    log: &LogHandle,
) -> bool {
    let reloaded = read.and_then(|read| Ok(read?)).and_then(|config| {
        let settings = config.log;
        Ok((gateway.reload(config)?, settings))
    });
    match reloaded {
        Ok((changes, settings)) => {
            log.apply(settings);
            let file = path.display();
            let parts = changes.parts.join("; ");
            if changes.is_empty() {
                tracing::info!("{file} was reloaded: nothing changed");
            } else if parts.is_empty() {
                tracing::info!("{file} was reloaded: its changes take effect after a restart");
            } else {
                tracing::info!("{file} was reloaded; these changes are in effect: {parts}");
            }
            gateway
                .warnings()
                .end(RELOAD, "the configuration is valid again");
            // A store that hangs must not delay the signals.
            tokio::spawn(gateway.log_removed(changes));
            true
        }
        Err(error) => {
            gateway.warnings().begin(
                RELOAD,
                format!(
                    "the gateway runs on an earlier configuration: {} could not be used at the \
                     last SIGHUP; correct it and send SIGHUP again",
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
            false
        }
    }
}

/// Files that deliveries may have open beyond those in [`OTHER_FILES`].
fn files_of(destinations: &[DestinationSettings]) -> u64 {
    let files = destinations.iter().map(|settings| {
        // Calls are not among the concurrent deliveries.
        let deliveries = settings.limits.concurrency as u64 + CALLS;
        settings.kind.open_files(deliveries)
    });
    files.sum::<u64>().saturating_sub(DESTINATION_FILES)
}

/// Raises the limit of open files to what the machine allows: the usual soft limit is too low for a
/// server. Where that is less than the connections need, there are fewer connections, and a
/// warning. An error if the store alone would need more.
fn allow_open_files(server: &mut ServerSettings, destinations: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, all) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(allowed) = allowed else {
        return Ok(());
    };
    let wanted = server.connections_max;
    let others = OTHER_FILES + destinations;
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX) + others;
    if allowed >= needed {
        return Ok(());
    }
    let Some((public, admin)) = connections_within(allowed, others) else {
        return Err(usage(format!(
            "this process may open {allowed} files, and needs at least {FILES_MIN}: raise the limit (ulimit -n, LimitNOFILE)"
        )));
    };
    server.connections_allowed = public.min(wanted);
    server.admin_connections_max = admin.min(server.admin_connections_max);
    tracing::warn!(
        "this process may open {allowed} files and needs {needed}: it accepts {} connections at a \
         time instead of {wanted}, and {} on the admin port; raise the limit (ulimit -n, \
         LimitNOFILE)",
        server.connections_allowed,
        server.admin_connections_max
    );
    Ok(())
}

/// Connections of the public port and of the admin port where so many files may be open. Half of
/// the files, but no more than `others_max`, are for the store, the admin port and destinations.
fn connections_within(files: u64, others_max: u64) -> Option<(usize, usize)> {
    if files < FILES_MIN {
        return None;
    }
    let others = (files / 2).clamp(FILES_MIN / 2, others_max);
    let public = usize::try_from(files - others).ok()?;
    let admin = usize::try_from(others.min(OTHER_FILES) / 4).ok()?;
    Some((public, admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        let within = |files| connections_within(files, OTHER_FILES);
        assert_eq!(within(63), None);
        assert_eq!(within(64), Some((32, 8)));
        assert_eq!(within(1024), Some((768, 64)));
        assert_eq!(connections_within(1024, 400), Some((624, 64)));
        for files in FILES_MIN..4096 {
            let (public, admin) = within(files).unwrap();
            let store = 24;
            assert!((public + admin + store) as u64 <= files, "{files}");
        }
    }
}
