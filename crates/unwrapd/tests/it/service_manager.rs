//! Service managers such as systemd: messages to them, and sockets from them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use openai_webhooks::EventType;
use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::process::{Serving, program, write_destinations, write_server_config};
use crate::support::wire::{head, send, statuses, until_closed};
use crate::support::{OPENAI_SECRET, PATIENCE, Webhook};

/// Half of it is the time between two messages.
const WATCHDOG_USEC: &str = "100000";

/// A service manager that listens to the gateway.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn in_folder(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// A shell that becomes `unwrapd`, so that it has the process id of the variables.
    fn command(&self) -> Command {
        let mut command = shell("export WATCHDOG_PID=$$");
        command
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", WATCHDOG_USEC);
        command
    }

    /// Waits for a message with a line that begins with `line`, and returns the message.
    fn heard(&self, line: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes);
            // A socket with a time-out does not go on by itself after a signal.
            if matches!(&length, Err(error) if error.kind() == ErrorKind::Interrupted) {
                continue;
            }
            let length = length.unwrap_or_else(|error| panic!("no {line} in {seen:#?}: {error}"));
            let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if message.lines().any(|one| one.starts_with(line)) {
                return message;
            }
            seen.push(message);
        }
    }
}

/// A shell that runs these commands and then becomes `unwrapd`.
fn shell(before: &str) -> Command {
    shell_of(Command::new("sh"), before)
}

fn shell_of(mut command: Command, before: &str) -> Command {
    command
        .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
        .arg(program())
        .env_remove("UNWRAPD_LOG")
        .env("NO_COLOR", "1");
    command
}

#[test]
fn the_service_manager_is_told_of_the_start_of_reloads_and_of_the_stop() {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let manager = Manager::in_folder(folder.path());
    let mut serving = Serving::start_by(manager.command(), folder.path(), &[], &[]);

    let ready = manager.heard("READY=1");
    let (_, address) = ready.split_once("STATUS=receiving on http://").unwrap();
    let address: SocketAddr = address.trim().parse().unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());

    serving.signal(Signal::HUP);
    let reloading = manager.heard("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.heard("READY=1"), ready);

    std::fs::write(folder.path().join("unwrapd.toml"), "nonsense").unwrap();
    serving.signal(Signal::HUP);
    manager.heard("RELOADING=1");
    let refused = manager.heard("READY=1");
    assert!(refused.contains("configuration was refused"), "{refused}");
    serving.announced("nothing was changed");

    let (status, _) = serving.terminate();
    assert!(status.success());
    manager.heard("STOPPING=1");
}

#[test]
fn the_watchdog_is_told_that_the_gateway_is_alive_also_while_the_store_refuses() {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let manager = Manager::in_folder(folder.path());
    let _serving = Serving::start_by(manager.command(), folder.path(), &[], &[]);
    for _ in 0..3 {
        manager.heard("WATCHDOG=1");
    }
    // Another program holds the write lock.
    let other = Connection::open(folder.path().join("unwrapd.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refusing = manager.heard("STATUS=webhooks are refused: ");
    assert!(refusing.contains("WATCHDOG=1"), "{refusing}");
    for _ in 0..3 {
        manager.heard("WATCHDOG=1");
    }
    other.execute_batch("ROLLBACK").unwrap();
    manager.heard("STATUS=receiving on ");
}

/// Two listening sockets that outlive a gateway, as those of systemd do.
struct Sockets {
    public: TcpListener,
    admin: TcpListener,
}

impl Sockets {
    fn open() -> Self {
        let open = || TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            public: open(),
            admin: open(),
        }
    }

    fn public(&self) -> SocketAddr {
        self.public.local_addr().unwrap()
    }

    fn admin(&self) -> SocketAddr {
        self.admin.local_addr().unwrap()
    }

    /// Passes both with these names. They arrive as stdin and stdout, and become files 3 and 4.
    fn passed(&self, names: &str) -> Command {
        self.passed_by(Command::new("sh"), names)
    }

    fn passed_by(&self, shell: Command, names: &str) -> Command {
        let mut command = shell_of(
            shell,
            "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2",
        );
        command
            .env("LISTEN_FDNAMES", names)
            .stdin(OwnedFd::from(self.public.try_clone().unwrap()))
            .stdout(OwnedFd::from(self.admin.try_clone().unwrap()));
        command
    }

    /// Writes their addresses into the configuration in the folder.
    fn configure(&self, folder: &Path) {
        let file = folder.join("unwrapd.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let config = config
            .replace(
                "listen = \"127.0.0.1:0\"",
                &format!("listen = \"{}\"", self.public()),
            )
            .replace(
                "admin = \"127.0.0.1:0\"",
                &format!("admin = \"{}\"", self.admin()),
            );
        std::fs::write(&file, config).unwrap();
    }
}

fn closing(id: &str) -> String {
    let webhook = Webhook::new(id, EventType::BatchCompleted);
    let length = webhook.payload.len();
    let headers = format!("content-length: {length}\r\nconnection: close\r\n");
    head(&webhook, &headers) + &webhook.payload
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_during_a_restart_are_answered_by_the_next_process() {
    const CONNECTIONS: usize = 50;
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let sockets = Sockets::open();
    sockets.configure(folder.path());

    let first = Serving::start_by(sockets.passed("public:admin"), folder.path(), &[], &[]);
    let public = format!("http://{}/webhooks/production", sockets.public());
    assert_eq!(first.url, public);
    let answered = send(sockets.public(), closing("wh_1")).await;
    assert_eq!(statuses(&until_closed(answered).await), [200]);
    assert_eq!(first.readyz().await.0, 200);
    assert!(first.admin.contains(&sockets.admin().to_string()));
    let (status, _) = first.terminate();
    assert!(status.success());

    let mut waiting = Vec::new();
    for number in 0..CONNECTIONS {
        waiting.push(send(sockets.public(), closing(&format!("wh_during_{number}"))).await);
    }
    let _second = Serving::start_by(sockets.passed("public:admin"), folder.path(), &[], &[]);
    for connection in waiting {
        assert_eq!(statuses(&until_closed(connection).await), [200]);
    }
}

/// As in a container whose manager has opened the sockets.
#[tokio::test(flavor = "multi_thread")]
async fn process_one_hands_its_sockets_on_to_the_gateway() {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let sockets = Sockets::open();
    sockets.configure(folder.path());
    let mut namespace = Command::new("unshare");
    // As root, or as root of a user namespace.
    let wants_users = !rustix::process::geteuid().is_root();
    namespace
        .args(wants_users.then_some("--map-root-user"))
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            "sh",
        ]);
    let command = sockets.passed_by(namespace, "public:admin");
    let _serving = Serving::start_by(command, folder.path(), &[], &[]);
    let answered = send(sockets.public(), closing("wh_1")).await;
    assert_eq!(statuses(&until_closed(answered).await), [200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_inherits_neither_the_sockets_nor_the_service_manager() {
    let folder = TempDir::new().unwrap();
    let done = folder.path().join("done");
    let script = format!(
        "test ! -e /proc/$$/fd/3 && test ! -e /proc/$$/fd/4 && test -z \\\"$LISTEN_FDS$LISTEN_FDNAMES$NOTIFY_SOCKET\\\" && touch {}",
        done.display()
    );
    write_destinations(
        folder.path(),
        &format!("[[destination]]\nname = \"app\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"),
    );
    let sockets = Sockets::open();
    sockets.configure(folder.path());
    let manager = Manager::in_folder(folder.path());
    let path = manager.path.to_str().unwrap();
    let mut serving = Serving::start_by(
        sockets.passed("public:admin"),
        folder.path(),
        &[],
        &[("NOTIFY_SOCKET", path), ("UNWRAPD_LOG", "debug")],
    );
    serving.receive("wh_1", EventType::BatchCompleted).await;
    tokio::task::block_in_place(|| serving.announced("delivered: exit 0"));
    assert!(done.exists());
}

#[test]
fn sockets_that_do_not_fit_the_configuration_are_refused_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let sockets = Sockets::open();
    let refused = |names: &str| {
        let output = sockets
            .passed(names)
            .args(["serve", "--config"])
            .arg(folder.path().join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{names}: {said}");
        said
    };
    // The configuration has another address.
    write_server_config(folder.path(), "");
    let said = refused("public:admin");
    let address = sockets.public().to_string();
    assert!(
        said.contains(&address) && said.contains("127.0.0.1:0"),
        "{said}"
    );
    assert!(said.contains("ListenStream="), "{said}");

    sockets.configure(folder.path());
    for (names, problem) in [
        ("public:other", "FileDescriptorName="),
        ("public:public", "several sockets"),
        ("public", "2 sockets with 1 names"),
    ] {
        let said = refused(names);
        assert!(said.contains(problem), "{said}");
    }
    // The admin port is not configured.
    let file = folder.path().join("unwrapd.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replace("admin =", "# admin =");
    std::fs::write(&file, config).unwrap();
    let said = refused("public:admin");
    assert!(said.contains("[server] has no `admin`"), "{said}");
}
