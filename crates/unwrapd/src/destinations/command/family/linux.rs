//! Finds descendants in `/proc`, and holds them by pidfds while it kills them.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Maximum number of processes of one command that are killed one by one. More are a fork bomb,
/// which only a cgroup can end.
const PROCESSES_MAX: usize = 4096;
/// Maximum number of scans of all processes. A process that was found may have started another one
/// meanwhile.
const LOOKS_MAX: usize = 8;
/// Largest part of an environment that is read, in bytes. The mark is near its beginning.
const ENVIRONMENT_BYTES_MAX: u64 = 256 * 1024;

/// Processes held by pidfds, so that a signal never reaches another process with a reused id.
pub(in crate::destinations::command) struct Descendants(Vec<OwnedFd>);

impl Descendants {
    pub(in crate::destinations::command) fn kill(self) {
        for process in &self.0 {
            // The process may have ended.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

/// The descendants of a process.
pub(in crate::destinations::command) fn descendants_of(leader: Pid) -> Descendants {
    let mut held = Vec::new();
    let mut parents = vec![leader];
    while let Some(parent) = parents.pop() {
        for child in children_of(parent) {
            if held.len() >= PROCESSES_MAX {
                return Descendants(held);
            }
            // The pidfd holds the process that has this id now. It is the child only if its parent
            // is still the same.
            let Ok(process) = pidfd_open(child, PidfdFlags::empty()) else {
                continue;
            };
            if children_of(parent).any(|now| now == child) {
                held.push(process);
                parents.push(child);
            }
        }
    }
    Descendants(held)
}

fn children_of(parent: Pid) -> impl Iterator<Item = Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
    let threads = threads.into_iter().flatten().flatten();
    threads.flat_map(|thread| {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let children: Vec<Pid> = children.split_whitespace().filter_map(pid).collect();
        children
    })
}

/// Kills all processes with this entry in their environment, and processes that they start
/// meanwhile.
pub(super) fn kill_all_with(entry: &[u8]) {
    for _ in 0..LOOKS_MAX {
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        let mut has_found = false;
        for process in processes.flatten().take(PROCESSES_MAX * 16) {
            let Some(id) = process.file_name().to_str().and_then(pid) else {
                continue;
            };
            if !carries(id, entry) {
                continue;
            }
            let Ok(held) = pidfd_open(id, PidfdFlags::empty()) else {
                continue;
            };
            // The check is repeated, because only now the pidfd holds the process that is killed.
            if carries(id, entry) {
                has_found |= pidfd_send_signal(&held, Signal::KILL).is_ok();
            }
        }
        if !has_found {
            return;
        }
    }
}

fn carries(process: Pid, entry: &[u8]) -> bool {
    let mut environment = Vec::new();
    let read = File::open(format!("/proc/{}/environ", process.as_raw_nonzero())).and_then(|file| {
        file.take(ENVIRONMENT_BYTES_MAX)
            .read_to_end(&mut environment)
    });
    read.is_ok() && environment.split(|byte| *byte == 0).any(|is| is == entry)
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}
