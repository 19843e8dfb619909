//! The duties of process 1. In a container without an init the gateway has id 1, and the kernel
//! gives it every process whose parent has ended, such as those that a `command` leaves behind.
//! Each stays a zombie until process 1 waits for it. If the gateway itself waited for all of them,
//! it would take the exit codes of its own commands away. So process 1 runs the gateway as a child,
//! passes signals on to it, waits for all processes, and exits with the exit code of the gateway.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that are passed on: those that the gateway handles, and those that would end it.
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

/// If this is process 1, runs the same command as a child and returns its exit code. Else, or if no
/// child can be started, returns `None`; the caller then runs the command in this process.
pub(in crate::cli) fn supervise() -> Option<ExitCode> {
    if !getpid().is_init() {
        return None;
    }
    match run() {
        Ok(code) => Some(code),
        Err(error) => {
            // The log is not open yet. If stderr is closed, the warning is lost.
            drop(writeln!(
                io::stderr(),
                "warning: cannot start the gateway as a child of process 1: {error}; processes \
                 that commands leave running become zombies (use `docker run --init`)"
            ));
            None
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    // Listen before the child starts, so that no signal and no exit is missed.
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

/// Starts the gateway in its own process group. A terminal then signals only this process, which
/// passes the signal on once.
fn start() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "unwrapd".into());
    // Without /proc the path of this program is unknown.
    let program = std::env::current_exe().unwrap_or_else(|_| name.clone().into());
    let mut command = Command::new(program);
    command.arg0(name).args(arguments).process_group(0);
    // The sockets and the watchdog of process 1 are those of the gateway. Without an id, the
    // variables of a service manager are for any process.
    for variable in ["LISTEN_PID", "WATCHDOG_PID"] {
        if std::env::var(variable).is_ok_and(|process| process == "1") {
            command.env_remove(variable);
        }
    }
    let child = command.spawn()?;
    // The loop below waits for it, with all others.
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
            // One SIGCHLD may stand for the exits of many.
            while let Some((process, status)) = wait(WaitOptions::NOHANG)? {
                if process == gateway {
                    return Ok(status);
                }
            }
            tokio::select! {
                _ = ended.recv() => {}
                Some(signal) = signals.recv() => {
                    // No other process can have this id before the gateway was waited for.
                    let _ = kill_process(gateway, signal);
                }
            }
        }
    })
}
