//! A PostgreSQL server for tests: in a temporary folder, reached by a socket in it, and stopped at
//! the end of the test process.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use unwrapd::store::postgres::PostgresAddress;

use super::PATIENCE;
use super::keeper::{Keeper, SERVERS_PATH};
use super::wall_clock::WallClock;

/// The folder where Debian installs PostgreSQL.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The port number in the name of the socket.
const PORT: u16 = 5432;

/// The server that the tests of this process share.
pub fn shared() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));
    &SERVER
}

/// Environment variables.
type Environment = Vec<(&'static str, String)>;

pub struct Server {
    folder: PathBuf,
    /// The port number in the name of the socket, or the TCP port on this machine.
    port: u16,
    listens: bool,
    keeper: Mutex<Keeper>,
}

impl Server {
    /// A new server with these settings.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_after(settings, |_| {})
    }

    /// A new server with these settings, at a TCP port of this machine.
    pub fn start_on_loopback(settings: &[&str]) -> Self {
        let (address, port) = (
            "listen_addresses=127.0.0.1",
            format!("port={}", free_port()),
        );
        Self::start(&[&[address, &port], settings].concat())
    }

    /// A new server with this wall clock, in a folder that every user may read.
    pub fn start_with_clock(clock: &WallClock) -> Self {
        Self::start_in(&[], clock.environment().into(), |_| {})
    }

    /// A new server. `prepare` puts more files beside its data before the start.
    pub fn start_after(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::start_in(settings, Vec::new(), prepare)
    }

    fn start_in(settings: &[&str], environment: Environment, prepare: impl FnOnce(&Path)) -> Self {
        let folder = new_folder("unwrapd-pg-");
        let made = as_owner(&program("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--pgdata"])
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        prepare(&folder);
        Self::run(folder, settings, environment)
    }

    /// Starts a server on the data in the folder.
    fn run(folder: PathBuf, settings: &[&str], environment: Environment) -> Self {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let keeper = Mutex::new(keep(&folder, &settings, environment));
        let setting = |name: &str| {
            settings
                .iter()
                .find_map(|setting| setting.strip_prefix(name))
        };
        let port = setting("port=").map_or(PORT, |port| port.parse().unwrap());
        let listens = setting("listen_addresses=").is_some();
        let server = Self {
            folder,
            port,
            listens,
            keeper,
        };
        server.wait_until_ready();
        server
    }

    /// A stand-by that follows this server, which knows it by the name `standby`. It can be
    /// promoted.
    pub fn start_standby(&self) -> Self {
        let folder = new_folder("unwrapd-pg-");
        let copied = as_owner(&program("pg_basebackup"))
            .args(["--username=postgres", "--host=127.0.0.1", "--port"])
            .arg(self.port.to_string())
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .arg("--pgdata")
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
        let port = format!("port={}", free_port());
        let settings = ["listen_addresses=127.0.0.1", &port, "cluster_name=standby"];
        Self::run(folder, &settings, Vec::new())
    }

    /// Promotes the stand-by.
    pub fn promote(&self) {
        let promoted = as_owner(&program("pg_ctl"))
            .args(["promote", "--pgdata"])
            .arg(self.folder.join("data"))
            .output()
            .unwrap();
        assert!(promoted.status.success(), "{promoted:?}");
    }

    /// The address of a new schema on the server.
    pub fn schema(&self) -> PostgresAddress {
        new_schema(&self.folder)
    }

    /// The address of this schema for this role.
    pub fn address(&self, role: &str, schema: &str) -> PostgresAddress {
        self.url(role, schema).parse().unwrap()
    }

    pub fn url(&self, role: &str, schema: &str) -> String {
        if self.listens {
            let port = self.port;
            return format!("postgres://{role}@127.0.0.1:{port}/postgres?schema={schema}");
        }
        url(role, &self.folder, schema)
    }

    /// The TCP address of the server.
    pub fn listens_at(&self) -> std::net::SocketAddr {
        assert!(self.listens);
        ([127, 0, 0, 1], self.port).into()
    }

    /// The result of this SQL as text, without headers.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_at(self.port, sql)
    }

    /// Ends the connections of all stores.
    pub fn cut_stores(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'unwrapd'",
        );
    }

    /// Runs SQL as [`sql`](Self::sql) does. `None` if the server is unavailable.
    pub fn try_sql(&self, sql: &str) -> Option<String> {
        let output = self.psql(self.port, sql);
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }

    /// Runs SQL as [`sql`](Self::sql) does, with another port number of the socket.
    pub fn sql_at(&self, port: u16, sql: &str) -> String {
        let output = self.psql(port, sql);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn psql(&self, port: u16, sql: &str) -> Output {
        let mut psql = Command::new(program("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1", "--username=postgres", "--host"])
            .arg(&self.folder)
            .args(["--port", &port.to_string(), "postgres"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = psql.stdin.take().unwrap();
        // psql may have ended already. Its output gives the reason.
        drop(input.write_all(sql.as_bytes()));
        drop(input);
        psql.wait_with_output().unwrap()
    }

    /// Kills all processes of the server at once, like a power failure, and waits until they are
    /// gone.
    pub fn kill(&self) {
        let server = self.pid();
        // A running server would start more processes meanwhile.
        signal(server, Signal::STOP);
        let mut doomed = children_of(server);
        doomed.push(server);
        for pid in &doomed {
            signal(*pid, Signal::KILL);
        }
        let deadline = Instant::now() + PATIENCE;
        while doomed.iter().any(|pid| is_alive(*pid)) {
            assert!(Instant::now() < deadline, "it does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the server by a signal (`INT`: connections are cut, `QUIT`: without any cleanup), and
    /// waits until its processes are gone.
    pub fn stop(&self, by: Signal) {
        let server = self.pid();
        signal(server, by);
        let deadline = Instant::now() + PATIENCE;
        while is_alive(server) {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn pid(&self) -> i32 {
        let pid = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        pid.lines().next().unwrap().parse().unwrap()
    }

    /// Restarts the server.
    pub fn start_again(&self) {
        self.keeper.lock().unwrap().send_line();
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = Command::new(program("pg_isready"))
                .arg("--host")
                .arg(&self.folder)
                .args(["--port", &self.port.to_string()])
                .output()
                .unwrap();
            if asked.status.success() {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A pooler in front of a server. It runs each transaction in any free one of its few sessions.
pub struct Pooler {
    folder: PathBuf,
    _keeper: Keeper,
}

impl Pooler {
    const SESSIONS: u8 = 3;

    pub fn start(server: &Server) -> Self {
        Self::start_as(server, "transaction", Self::SESSIONS)
    }

    /// A pooler in this mode, with this number of sessions.
    pub fn start_as(server: &Server, mode: &str, sessions: u8) -> Self {
        let folder = new_folder("unwrapd-pooler-");
        let of_server = server.folder.display();
        let config = format!(
            "[databases]\n* = host={of_server} user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n\
             unix_socket_dir = {folder}\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {sessions}\n",
            folder = folder.display(),
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, config).unwrap();
        let script = r#"
            pgbouncer --quiet "$1/pgbouncer.ini" >"$1/log" 2>&1 </dev/null &
            pooler=$!
            read -r _
            kill $pooler
            wait $pooler
            rm -rf "$1"
        "#;
        let mut shell = as_owner(Path::new("/bin/sh"));
        shell.env("PATH", SERVERS_PATH);
        let keeper = Keeper::start(shell, script, [&folder]);
        let deadline = Instant::now() + PATIENCE;
        while !folder.join(format!(".s.PGSQL.{PORT}")).exists() {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "{}; is pgbouncer installed?",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            folder,
            _keeper: keeper,
        }
    }

    /// The address of a new schema behind the pooler.
    pub fn schema(&self) -> PostgresAddress {
        new_schema(&self.folder)
    }
}

/// A new folder that belongs to the user that runs servers.
fn new_folder(prefix: &str) -> PathBuf {
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .unwrap()
        .keep();
    if let Some((user, group)) = server_owner() {
        std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// A free port, below the range of ephemeral ports, so that a server finds it free again after a
/// restart.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000))
        .find(is_free)
        .unwrap()
}

fn new_schema(socket_folder: &Path) -> PostgresAddress {
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    url("postgres", socket_folder, &name).parse().unwrap()
}

fn url(role: &str, socket_folder: &Path, schema: &str) -> String {
    let folder = socket_folder.to_str().unwrap().replace('/', "%2F");
    format!("postgres://{role}@{folder}/postgres?schema={schema}")
}

/// Starts the server under a script that also removes the folder at the end. For each line of
/// input, it restarts the server.
fn keep(folder: &Path, settings: &[String], environment: Environment) -> Keeper {
    let script = r#"
        folder=$1 postgres=$2
        shift 2
        start() {
            "$postgres" -D "$folder/data" -k "$folder" "$@" >>"$folder/log" 2>&1 </dev/null &
            server=$!
        }
        start "$@"
        while read -r _; do
            wait $server
            start "$@"
        done
        kill -QUIT $server
        wait $server
        rm -rf "$folder"
    "#;
    let mut shell = as_owner(Path::new("/bin/sh"));
    shell.envs(environment);
    let mut arguments: Vec<OsString> = vec![folder.into(), program("postgres").into()];
    let usual = [
        "listen_addresses=",
        "max_connections=400",
        "shared_buffers=64MB",
    ];
    for setting in usual.into_iter().chain(settings.iter().map(String::as_str)) {
        arguments.extend(["-c", setting].map(OsString::from));
    }
    Keeper::start(shell, script, arguments)
}

/// Runs a program as a user who may run a server: PostgreSQL refuses root.
fn as_owner(program: &Path) -> Command {
    if server_owner().is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ])
        .arg(program)
        .current_dir("/");
    command
}

/// User and group of the server, if they differ from those of the tests.
pub fn server_owner() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let number = |of: &str| {
        let output = Command::new("id").args([of, "postgres"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim()
            .parse()
            .expect("there is a user `postgres`: install postgresql")
    };
    Some((number("-u"), number("-g")))
}

fn signal(pid: i32, signal: Signal) {
    // The process may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Whether the process exists and is not a zombie.
fn is_alive(pid: i32) -> bool {
    stat_of(pid).is_some_and(|stat| !stat.starts_with('Z'))
}

fn children_of(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|process| process.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let stat = stat_of(*pid).unwrap_or_default();
            stat.split_whitespace().nth(1) == Some(parent.to_string().as_str())
        })
        .collect()
}

/// The fields of `/proc/PID/stat` after the name: state, parent and more.
fn stat_of(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.trim_start().to_owned())
}

/// A program of the newest installed version.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS)
        .unwrap_or_else(|error| panic!("{VERSIONS}: {error}; install postgresql"));
    versions
        .map(|version| version.unwrap().path().join("bin").join(name))
        .filter(|program| program.exists())
        .max()
        .unwrap_or_else(|| panic!("there is no {name} in {VERSIONS}; install postgresql"))
}
