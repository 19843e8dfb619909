//! The duties of process 1. In a container without an init the gateway has id 1, and the kernel gives
//! it every process whose parent has ended, such as those that a `command` leaves behind. Each stays a
//! zombie until process 1 waits for it. To wait for all of them in the gateway itself would take the
//! exit codes of its own commands away, so process 1 runs the gateway as a child, passes signals on
//! to it, waits for everybody, and ends as it ends.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that are passed on: those that the gateway knows, and those that would end it.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// A shell adds this to the number of the signal that ended a program.
const SIGNALED: i32 = 128;

/// If this is process 1, runs the same command as a child and returns its exit code at its end. Else,
/// or if no child can be started, returns `None`, and the command is to be run in this process.
pub(super) fn supervise() -> Option<ExitCode> {
    if !getpid().is_init() {
        return None;
    }
    match run() {
        Ok(code) => Some(code),
        Err(error) => {
            // The log is not open yet. Where stderr is closed nothing can be said.
            drop(writeln!(
                io::stderr(),
                "warning: cannot start the gateway as a child of process 1: {error}; processes that commands leave behind stay zombies (docker run --init helps)"
            ));
            None
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    // Before the child is there: no signal and no end of it goes unseen.
    let (mut ended, mut signals) = runtime.block_on(async { listen() })?;
    let gateway = start()?;
    let status = wait_for(&runtime, gateway, &mut ended, &mut signals)?;
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| SIGNALED + signal));
    Ok(ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    ))
}

type Ended = tokio::signal::unix::Signal;

fn listen() -> io::Result<(Ended, mpsc::Receiver<Signal>)> {
    let ended = signal(SignalKind::child())?;
    let (tell, signals) = mpsc::channel(PASSED_ON.len());
    for (kind, number) in PASSED_ON {
        let mut stream = signal(kind)?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && tell.send(number).await.is_ok() {}
        });
    }
    Ok((ended, signals))
}

/// In a process group of its own: what a terminal sends comes here only, and is passed on once.
fn start() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "unwrapd".into());
    // Where /proc is not mounted the path is not known.
    let program = std::env::current_exe().unwrap_or_else(|_| name.clone().into());
    let child = Command::new(program)
        .arg0(name)
        .args(arguments)
        .process_group(0)
        .spawn()?;
    // It is waited for below, with all others.
    Ok(Pid::from_child(&child))
}

fn wait_for(
    runtime: &Runtime,
    gateway: Pid,
    ended: &mut Ended,
    signals: &mut mpsc::Receiver<Signal>,
) -> io::Result<WaitStatus> {
    runtime.block_on(async {
        loop {
            // One signal may stand for the ends of many.
            while let Some((process, status)) = wait(WaitOptions::NOHANG)? {
                if process == gateway {
                    return Ok(status);
                }
            }
            tokio::select! {
                _ = ended.recv() => {}
                Some(signal) = signals.recv() => {
                    // Until it was waited for its id is nobody else's.
                    let _ = kill_process(gateway, signal);
                }
            }
        }
    })
}
