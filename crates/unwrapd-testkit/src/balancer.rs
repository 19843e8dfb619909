//! A load balancer (`HAProxy`), configured as in `docs/guide/several-gateways.md`, in front of our
//! gateways.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::keeper::{Keeper, SERVERS_PATH};
use super::{PATIENCE, loopback};

const DOCUMENT: &str = include_str!("../../../docs/guide/several-gateways.md");

pub struct Balancer {
    /// The address to which OpenAI would post.
    pub address: Ipv4Addr,
    // Ends before the folder is removed.
    _keeper: Keeper,
    folder: TempDir,
}

impl Balancer {
    /// Starts a balancer for gateways on these addresses, with the documented ports.
    pub fn start(gateways: [Ipv4Addr; 2]) -> Self {
        Self::start_on(documented(), gateways)
    }

    /// Starts a balancer without retries: the sender gets the refusal of a gateway.
    pub fn start_without_retries(gateways: [Ipv4Addr; 2]) -> Self {
        let is_of_retries = |line: &&str| {
            let key = line.split_whitespace().take(2).collect::<Vec<_>>();
            matches!(
                key[..],
                ["option", "redispatch"] | ["retries" | "retry-on", _]
            )
        };
        let (retries, rest): (Vec<&str>, Vec<&str>) = documented().lines().partition(is_of_retries);
        assert_eq!(retries.len(), 3, "{retries:?}");
        Self::start_on(&format!("{}\n", rest.join("\n")), gateways)
    }

    fn start_on(config: &str, gateways: [Ipv4Addr; 2]) -> Self {
        let folder = TempDir::new().unwrap();
        let address = loopback();
        let config = config
            .replace("10.0.0.1", &gateways[0].to_string())
            .replace("10.0.0.2", &gateways[1].to_string());
        // The documented line needs a certificate. This one needs none, and uses a free address.
        let (before, rest) = config.split_once("    bind ").unwrap();
        let (_, after) = rest.split_once('\n').unwrap();
        let socket = folder.path().join("stats").display().to_string();
        let config = format!(
            "global\n    stats socket {socket} mode 600\n{before}    bind {address}:8080\n{after}"
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let script = r#"
            haproxy -db -f "$1/haproxy.cfg" >"$1/log" 2>&1 </dev/null &
            balancer=$!
            read -r _
            kill $balancer
            wait $balancer
        "#;
        let mut shell = Command::new("/bin/sh");
        shell.env("PATH", SERVERS_PATH);
        Self {
            address,
            _keeper: Keeper::start(shell, script, [folder.path()]),
            folder,
        }
    }

    /// Waits until the balancer sends requests to this server of its configuration, or until it
    /// does not.
    pub fn wait_until(&self, server: &str, is_up: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_up(server) != Some(is_up) {
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            assert!(
                Instant::now() < deadline,
                "{server}: {:?}; is haproxy installed?",
                log()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn is_up(&self, server: &str) -> Option<bool> {
        let mut socket = UnixStream::connect(self.folder.path().join("stats")).ok()?;
        socket.write_all(b"show stat\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let line = answer
            .lines()
            .find(|line| line.starts_with(&format!("unwrapd,{server},")))?;
        Some(line.split(',').nth(17)? == "UP")
    }
}

/// The configuration that the document shows.
fn documented() -> &'static str {
    let (_, rest) = DOCUMENT.split_once("```haproxy\n").unwrap();
    rest.split_once("```").unwrap().0
}
