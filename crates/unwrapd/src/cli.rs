//! The command line. Data goes to stdout, messages to stderr.

mod serve;

mod dev;

mod operate;

mod webhook;

mod torture;

mod mock;

mod db;

mod completions;

mod man;

mod refused;

mod consent;

mod answer_body;

mod format;

mod output;

mod stderr;

mod failure;

mod stop_signals;

mod terminal;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::{Parser, Subcommand};
use rustix::fs::Mode;
use tokio::runtime::{Builder, Runtime};

use crate::gateway::Sockets;
use crate::telemetry::LogHandle;
use failure::Failure;
use operate::{dead, destinations, events, gateways, quarantine, replay, runs};
use webhook::{secret, sign, trigger, verify};

/// Receive OpenAI webhooks, store them, and deliver them until your application has them
#[derive(Parser)]
#[command(name = "unwrapd", version = crate::VERSION, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an end-to-end demo on this machine: one signed event of each type
    Dev(dev::Arguments),
    /// Run the gateway
    Serve(serve::Arguments),
    /// Show the status of destinations; pause, resume and test them
    #[command(subcommand)]
    Destinations(destinations::Command),
    /// List the gateways that share the store, and where their configurations differ
    Gateways(gateways::Arguments),
    /// List and show stored messages
    #[command(subcommand)]
    Events(events::Command),
    /// Deliver stored messages again: one, many, or the dead letters
    Replay(replay::Arguments),
    /// List replays and drops of dead letters, show their progress, and stop them
    #[command(subcommand)]
    Runs(runs::Command),
    /// List and show requests that could not be verified, verify them again, or drop them
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// List dead letters, deliver them again, or drop them
    #[command(subcommand)]
    Dead(dead::Command),
    /// Send signed sample events to a URL
    Trigger(trigger::Arguments),
    /// Grade your handler: genuine, forged and repeated events, and what to do about each fault
    Torture(torture::Arguments),
    /// Check saved or quarantined requests, and show which check fails, and why
    Verify(verify::Arguments),
    /// Sign a payload: print the three signature headers
    Sign(sign::Arguments),
    /// Generate a webhook secret and print it
    Secret,
    /// Run a mock of the part of OpenAI that ends in a webhook
    Mock(mock::Arguments),
    /// Check, back up, move or prune the store
    #[command(subcommand)]
    Db(db::Command),
    /// Print the script that makes a shell complete commands, options and their values
    Completions(completions::Arguments),
    /// Write the manual pages into a folder. For packages
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Runs the command that the arguments of the process name.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = completions::answer() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => refused::without_values(error).exit(),
    };
    if matches!(cli.command, Command::Serve(_))
        && let Some(code) = serve::supervise()
    {
        return code;
    }
    let level = match &cli.command {
        // The tour prints every step itself.
        Command::Dev(_) => "error",
        _ => "info",
    };
    if matches!(cli.command, Command::Dev(_)) {
        // The demo's store holds payloads, which only the user may read.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
    }
    let log = match crate::telemetry::start(level) {
        Ok(log) => log,
        Err(problem) => return complain(&anyhow::Error::msg(problem), 2),
    };
    match run(cli.command, &log) {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => complain(&error, 1),
        Err(Failure::Usage(error)) => complain(&error, 2),
        Err(Failure::NotFound(error)) => complain(&error, 3),
        Err(Failure::NotAuthentic) => ExitCode::from(4),
        Err(Failure::TryLater(error)) => complain(&error, 5),
    }
}

fn run(command: Command, log: &LogHandle) -> Result<(), Failure> {
    // Before the runtime has threads.
    let sockets = match command {
        Command::Serve(_) => serve::take_sockets()?,
        _ => Sockets::default(),
    };
    let runtime = runtime_for(&command)?;
    let result = run_on(&runtime, command, sockets, log);
    // All work is done. An orderly end would wait for tasks that hang on a disk or a name server.
    std::mem::forget(runtime);
    result
}

/// A runtime with the configured number of threads, or one thread for each core that the process
/// may use.
fn runtime_for(command: &Command) -> std::io::Result<Runtime> {
    let threads = match command {
        Command::Serve(serve::Arguments {
            threads: Some(threads),
            ..
        }) => usize::from(*threads),
        _ => available_parallelism().map_or(1, NonZero::get),
    };
    let mut runtime = match threads {
        // A runtime with one thread needs no means to wake others.
        1 => Builder::new_current_thread(),
        threads => {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    runtime.enable_all().build()
}

fn run_on(
    runtime: &Runtime,
    command: Command,
    sockets: Sockets,
    log: &LogHandle,
) -> Result<(), Failure> {
    match command {
        Command::Dev(arguments) => runtime.block_on(dev::run(arguments)),
        Command::Serve(arguments) => runtime.block_on(serve::run(&arguments, sockets, log)),
        Command::Destinations(command) => runtime.block_on(destinations::run(&command)),
        Command::Gateways(arguments) => runtime.block_on(gateways::run(&arguments)),
        Command::Events(command) => runtime.block_on(events::run(&command)),
        Command::Replay(arguments) => runtime.block_on(replay::run(&arguments)),
        Command::Runs(command) => runtime.block_on(runs::run(&command)),
        Command::Quarantine(command) => runtime.block_on(quarantine::run(&command)),
        Command::Dead(command) => runtime.block_on(dead::run(&command)),
        Command::Trigger(arguments) => runtime.block_on(trigger::run(&arguments)),
        Command::Torture(arguments) => runtime.block_on(torture::run(&arguments)),
        Command::Verify(arguments) => runtime.block_on(verify::run(&arguments)),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Secret => secret::run(),
        Command::Mock(arguments) => runtime.block_on(mock::run(&arguments)),
        Command::Db(command) => runtime.block_on(db::run(&command)),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    stderr::message(&format!("error: {error:#}\n"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::RuntimeFlavor;

    use super::*;

    #[test]
    fn the_runtime_has_one_thread_or_several_as_configured() {
        for (threads, expected) in [
            ("1", RuntimeFlavor::CurrentThread),
            ("2", RuntimeFlavor::MultiThread),
        ] {
            let cli = Cli::parse_from(["unwrapd", "serve", "--threads", threads]);
            let runtime = runtime_for(&cli.command).unwrap();
            assert_eq!(runtime.handle().runtime_flavor(), expected);
        }
    }
}
