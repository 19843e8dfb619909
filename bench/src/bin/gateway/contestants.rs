//! The measured servers. Each round starts each of them in a new process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::folder::Folder;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::webhook::SECRET;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// Programs and folders that the contestants need.
pub struct Installed {
    /// The binary of unwrapd.
    pub unwrapd: PathBuf,
    /// The folder of SDKs and frameworks that scripts/bench installs.
    pub sdks: PathBuf,
    /// The folder for databases, on the disk to be measured.
    pub work: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    Bare,
    Unwrapd,
    FastApi,
    FastApiSqlite,
    Express,
    ExpressSqlite,
    Fastify,
    UnwrapdPostgres,
    FastApiPostgres,
}

impl Contestant {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare axum",
            Self::Unwrapd => "unwrapd",
            Self::FastApi => "FastAPI 0.165.0 + openai 3.57.0",
            Self::FastApiSqlite => "FastAPI 0.165.0 + openai 3.57.0 + SQLite",
            Self::Express => "Express 5.3.0 + openai 7.59.0",
            Self::ExpressSqlite => "Express 5.3.0 + openai 7.59.0 + SQLite",
            Self::Fastify => "Fastify 5.12.8 + openai 7.59.0",
            Self::UnwrapdPostgres => "unwrapd on PostgreSQL",
            Self::FastApiPostgres => {
                "FastAPI 0.165.0 + openai 3.57.0 + PostgreSQL (asyncpg 0.32.0)"
            }
        }
    }

    /// Starts the contestant; a database lies in `folder`.
    pub fn start(self, installed: &Installed, folder: &Folder) -> anyhow::Result<Process> {
        let sdks = &installed.sdks;
        let database = folder.file("peer.db").display().to_string();
        let command = match self {
            Self::Bare => bare()?,
            Self::Unwrapd => return Gateway::new().start(installed, folder),
            Self::FastApi => python(sdks, "fastapi_app.py", None),
            Self::FastApiSqlite => python(sdks, "fastapi_app.py", Some(&database)),
            Self::Express => node(sdks, "express_app.cjs", None),
            Self::ExpressSqlite => node(sdks, "express_app.cjs", Some(&database)),
            Self::Fastify => node(sdks, "fastify_app.cjs", None),
            Self::UnwrapdPostgres => {
                let server = Postgres::start(folder)?;
                let gateway = Gateway::new().with_store(&server.url("unwrapd"));
                return Ok(gateway.start(installed, folder)?.with_database(server));
            }
            Self::FastApiPostgres => {
                let server = Postgres::start(folder)?;
                let command = python(sdks, "fastapi_postgres_app.py", Some(&server.url("public")));
                return Ok(Process::start(self.name(), &command, "/webhook")?.with_database(server));
            }
        };
        Process::start(self.name(), &command, "/webhook")
    }
}

fn bare() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare");
    Ok(command)
}

fn python(sdks: &Path, script: &str, database: Option<&str>) -> Command {
    let mut command = Command::new(sdks.join("python/bin/python"));
    command
        // No bytecode cache in the source folder.
        .arg("-B")
        .arg(format!("{PEERS}/{script}"))
        .args(database)
        .env("OPENAI_API_KEY", "unused")
        .env("OPENAI_WEBHOOK_SECRET", SECRET);
    command
}

fn node(sdks: &Path, script: &str, database: Option<&str>) -> Command {
    let mut command = Command::new("node");
    command
        .arg(format!("{PEERS}/{script}"))
        .args(database)
        .env("NODE_ENV", "production")
        .env("NODE_PATH", sdks.join("node/node_modules"))
        .env("OPENAI_API_KEY", "unused")
        .env("OPENAI_WEBHOOK_SECRET", SECRET);
    command
}

/// A gateway with default settings, except its destinations, its store and its threads.
#[derive(Default)]
pub struct Gateway {
    destinations: String,
    store: Option<String>,
    threads: Option<usize>,
    admin: Option<String>,
}

/// File name of the gateway's SQLite database.
pub const DATABASE: &str = "unwrapd.db";
/// Name of the gateway's only endpoint.
pub const ENDPOINT: &str = "bench";

impl Gateway {
    /// A gateway without destinations: it stores and delivers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores at `url` instead of in an SQLite database in the folder.
    #[must_use]
    pub fn with_store(mut self, url: &str) -> Self {
        self.store = Some(url.to_owned());
        self
    }

    /// Sets the number of threads. The default is one for each core.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Opens the admin port, without a token.
    pub fn with_admin(mut self) -> anyhow::Result<Self> {
        // The port is free again, and no other process takes it within a moment.
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        self.admin = Some(free.to_string());
        Ok(self)
    }

    /// Address of the admin port.
    pub fn admin(&self) -> anyhow::Result<&str> {
        self.admin
            .as_deref()
            .context("the gateway has no admin port")
    }

    /// Adds a destination for all messages. `settings` are further lines of its TOML table.
    #[must_use]
    pub fn with_destination(mut self, name: &str, url: &str, settings: &str) -> Self {
        self.destinations += &format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret = {{ env = \"APP_WEBHOOK_SECRET\" }}\n{settings}\n"
        );
        self
    }

    /// Starts the gateway. Its database may already exist.
    pub fn start(&self, installed: &Installed, folder: &Folder) -> anyhow::Result<Process> {
        let config = folder.file("unwrapd.toml");
        let in_folder = format!("sqlite:{}", folder.file(DATABASE).display());
        let store = self.store.as_ref().unwrap_or(&in_folder);
        let admin = self.admin.as_ref();
        let admin = admin.map_or_else(String::new, |admin| format!("admin = \"{admin}\"\n"));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{admin}[store]\nurl = \"{store}\"\n\
             [[endpoint]]\nname = \"{ENDPOINT}\"\nsecrets = [{{ env = \"OPENAI_WEBHOOK_SECRET\" }}]\n{}",
            self.destinations,
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(&installed.unwrapd);
        command
            .args(["serve", "--config"])
            .arg(config)
            .env("OPENAI_WEBHOOK_SECRET", SECRET)
            .env("APP_WEBHOOK_SECRET", SECRET);
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        Process::start("unwrapd", &command, &format!("/webhooks/{ENDPOINT}"))
    }
}
