//! A PostgreSQL server for one contestant, on the measured disk.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cpu;
use crate::folder::Folder;
use crate::process::with_death_signal;

/// Debian's folder of PostgreSQL versions.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Settings that docs/guide/postgresql.md advises. Settings that make a commit durable keep their
/// default, which is on.
const SETTINGS: [&str; 4] = [
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "min_wal_size=1GB",
    "unix_socket_directories=",
];
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Postgres {
    server: Child,
    port: u16,
}

impl Postgres {
    /// Creates a database cluster in `folder`, and starts a server for it.
    pub fn start(folder: &Folder) -> anyhow::Result<Self> {
        let owner = Owner::find()?;
        let data = folder.file("postgres");
        std::fs::create_dir(&data)?;
        owner.make_private(&data)?;
        let mut initdb = Command::new(program("initdb")?);
        initdb
            .args(["--username=bench", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--pgdata"])
            .arg(&data);
        let made = owner.command(&initdb).output()?;
        ensure!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program("postgres")?);
        command
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let log = folder.file("postgres.log");
        let server = owner
            .command(&with_death_signal(&command, "QUIT"))
            .stdout(File::create(&log)?)
            .stderr(File::create(&log)?)
            .spawn()?;
        let server = Self { server, port };
        server.wait_until_ready(&log)?;
        Ok(server)
    }

    /// URL of a schema in the database.
    pub fn url(&self, schema: &str) -> String {
        let port = self.port;
        match schema {
            "public" => format!("postgres://bench@127.0.0.1:{port}/postgres"),
            _ => format!("postgres://bench@127.0.0.1:{port}/postgres?schema={schema}"),
        }
    }

    /// CPU time of all processes of the server.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        // `setpriv` and `env` replace themselves by the server, so its process id is the child's.
        cpu::used_by_family(self.server.id())
    }

    /// Number of transactions with a transaction id: those that wrote, and this query.
    pub fn writes(&self) -> anyhow::Result<u64> {
        let asked = Command::new(program("psql")?)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "bench", "-d", "postgres", "-Atc"])
            .arg("SELECT pg_current_xact_id()")
            .output()?;
        let answer = String::from_utf8(asked.stdout)?;
        answer
            .trim()
            .parse()
            .with_context(|| format!("psql: {}", String::from_utf8_lossy(&asked.stderr)))
    }

    fn wait_until_ready(&self, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let is_ready = program("pg_isready")?;
        loop {
            let asked = Command::new(&is_ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()?;
            if asked.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                bail!("PostgreSQL does not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown. After SIGKILL, shared memory would remain.
        if let Some(pid) = self.server.id().try_into().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}

/// Path of a program of the newest installed PostgreSQL.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let versions = Path::new(VERSIONS).read_dir();
    versions
        .into_iter()
        .flatten()
        .filter_map(|version| {
            let number: u32 = version.ok()?.file_name().to_str()?.parse().ok()?;
            let program = format!("{VERSIONS}/{number}/bin/{name}");
            Path::new(&program).exists().then_some((number, program))
        })
        .max()
        .map(|(_, program)| program.into())
        .with_context(|| format!("{VERSIONS} has no {name}; `scripts/test` installs PostgreSQL"))
}

/// The user that runs the server. PostgreSQL refuses to run as root.
enum Owner {
    CurrentUser,
    Postgres { user: u32, group: u32 },
}

impl Owner {
    fn find() -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::CurrentUser);
        }
        let users = std::fs::read_to_string("/etc/passwd")?;
        let fields = users
            .lines()
            .find_map(|line| line.strip_prefix("postgres:"))
            .context("/etc/passwd has no user `postgres`")?;
        let mut fields = fields.split(':').skip(1);
        let mut number = || -> anyhow::Result<u32> {
            let field = fields
                .next()
                .context("/etc/passwd has no ids of the user `postgres`")?;
            Ok(field.parse()?)
        };
        Ok(Self::Postgres {
            user: number()?,
            group: number()?,
        })
    }

    fn make_private(&self, folder: &Path) -> anyhow::Result<()> {
        if let Self::Postgres { user, group } = self {
            std::os::unix::fs::chown(folder, Some(*user), Some(*group))?;
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    /// The command, run as this user.
    fn command(&self, command: &Command) -> Command {
        let mut owned = match self {
            Self::CurrentUser => Command::new("env"),
            Self::Postgres { user, group } => {
                let mut setpriv = Command::new("setpriv");
                setpriv
                    .args(["--reuid", &user.to_string(), "--regid", &group.to_string()])
                    .arg("--clear-groups");
                setpriv
            }
        };
        owned
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        owned
    }
}
