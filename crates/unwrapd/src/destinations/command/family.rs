//! Processes that a command has started and that have left its process group (`setsid`, daemons).
//!
//! They are found by their parents and by a variable of their environment. This is a best effort.
//! It misses a process whose parents have ended and that has cleared its environment, and a process
//! of another user. On systems other than Linux only the process group is killed.

#[cfg(target_os = "linux")]
mod linux;

use uuid::Uuid;

/// Environment variable with the mark of one run of a command.
pub(super) const VARIABLE: &str = "UNWRAPD_RUN";

/// A text in the environment of all processes of one run of a command, and of no other process.
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Kills all processes with this mark, on a thread of its own, because that reads the
    /// environment of every process.
    pub(super) fn kill_all_that_carry_it(&self) {
        #[cfg(target_os = "linux")]
        {
            let entry = format!("{VARIABLE}={}", self.0).into_bytes();
            let kill = move || linux::kill_all_with(&entry);
            // If no thread can be started, only the process group is killed.
            let _ = std::thread::Builder::new().name("kill".into()).spawn(kill);
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::descendants_of;

#[cfg(not(target_os = "linux"))]
pub(super) struct Descendants;

#[cfg(not(target_os = "linux"))]
impl Descendants {
    pub(super) fn kill(self) {}
}

#[cfg(not(target_os = "linux"))]
pub(super) fn descendants_of(_leader: rustix::process::Pid) -> Descendants {
    Descendants
}
