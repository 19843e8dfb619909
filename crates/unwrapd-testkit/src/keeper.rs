//! A shell script that starts a server, and ends it together with the test process.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// Where servers are installed, also those for administrators.
pub(crate) const SERVERS_PATH: &str = "/usr/sbin:/usr/bin:/bin";

/// A script that ends its server at the end of its input, so in whatever way the test process ends.
pub(crate) struct Keeper(Child);

impl Keeper {
    /// Starts the shell with this script and these arguments.
    pub(crate) fn start<I: AsRef<OsStr>>(
        mut shell: Command,
        script: &str,
        arguments: impl IntoIterator<Item = I>,
    ) -> Self {
        let child = shell
            .args(["-c", script, "keeper"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            // A signal from the terminal to the tests must not reach the server: its keeper stops
            // it.
            .process_group(0)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Sends an empty line to the script.
    pub(crate) fn send_line(&mut self) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(b"\n").unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Waits, so that no process uses the folder of the server when it is removed.
        drop(self.0.wait());
    }
}
