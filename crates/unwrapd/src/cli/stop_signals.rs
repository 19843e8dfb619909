//! The signals that stop a command that runs until it is stopped.

use std::time::Duration;

use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::Instant;

/// Time within which several signals count as one. Ctrl-C reaches every process of a terminal, and
/// a parent such as the program of the npm package passes it on again.
const SAME_WITHIN: Duration = Duration::from_millis(500);

/// SIGINT and SIGTERM.
pub(super) struct StopSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// Time of the latest signal that counted.
    latest: Option<Instant>,
}

impl StopSignals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            latest: None,
        })
    }

    /// Waits for the next signal. Signals that follow it immediately count as the same one.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            let now = Instant::now();
            let is_same = |latest: Instant| now.duration_since(latest) < SAME_WITHIN;
            if !self.latest.is_some_and(is_same) {
                self.latest = Some(now);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn signals_that_follow_each_other_immediately_count_as_one() {
        let mut signals = StopSignals::new().unwrap();
        let raise = |signal| kill_process(getpid(), signal).unwrap();
        raise(Signal::INT);
        raise(Signal::TERM);
        signals.next().await;
        let second = timeout(SAME_WITHIN / 2, signals.next()).await;
        assert!(second.is_err());
        signals.latest = Instant::now().checked_sub(SAME_WITHIN);
        raise(Signal::TERM);
        signals.next().await;
    }
}
