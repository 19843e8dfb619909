//! File and environment into one checked [`Config`]. A mistake is refused at the start, with file, line and remedy.

mod access;
mod file;
mod server;
mod source;
mod url;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use openai_webhooks::Webhooks;

use crate::admin::AdminToken;
pub use crate::store::StoreUrl;
use crate::store::{StoreSettings, StoreUrlError};

pub use crate::destination::DestinationSettings;
pub(crate) use access::{AdminAccess, admin_access};
pub use server::ServerSettings;
pub(crate) use source::SecretSource;
pub(crate) use url::typed_url;

/// Everything a gateway runs on, checked.
pub struct Config {
    /// The public port.
    pub listen: SocketAddr,
    /// The port for operators; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// How the ports are served.
    pub server: ServerSettings,
    /// What operators have to know there. `None`: nothing, so only this machine must reach it.
    pub admin_token: Option<AdminToken>,
    /// Where messages are kept, how long, and how many.
    pub store: StoreSettings,
    /// Where OpenAI posts.
    pub endpoints: Vec<EndpointSettings>,
    /// Where we deliver.
    pub destinations: Vec<DestinationSettings>,
}

/// Where OpenAI posts.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// The last part of its path.
    pub name: String,
    /// How its requests are proven.
    pub webhooks: Webhooks,
    /// Most requests at once, beside the bound for all endpoints.
    pub requests_max: usize,
}

impl EndpointSettings {
    /// An endpoint with everything else as it is unless set.
    #[must_use]
    pub fn new(name: impl Into<String>, webhooks: Webhooks) -> Self {
        Self {
            name: name.into(),
            webhooks,
            requests_max: server::ENDPOINT_REQUESTS_USUAL,
        }
    }
}

impl ConfigError {
    fn new(file: &Path, text: &str, mistake: source::Mistake) -> Self {
        Self {
            file: file.to_owned(),
            line: mistake.line(text),
            problem: mistake.problem,
        }
    }
}

impl Config {
    /// Reads the file and the secrets it names.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        read(path, file::File::check)
    }

    /// Reads of the file only where messages are kept. The secrets it names need not be there.
    pub fn read_store(path: &Path) -> Result<StoreSettings, ConfigError> {
        read(path, file::File::check_store)
    }

    /// As [`read_store`](Self::read_store), with the password of a database.
    pub fn read_store_to_open(path: &Path) -> Result<StoreSettings, ConfigError> {
        read(path, file::File::check_store_to_open)
    }
}

/// The store that a command line names, with the password from this file, or else from where other programs for PostgreSQL take it.
pub(crate) fn named_store(url: &str, password_file: Option<&Path>) -> Result<StoreUrl, String> {
    let url: StoreUrl = url
        .parse()
        .map_err(|error: StoreUrlError| error.to_string())?;
    let StoreUrl::Postgres(address) = url else {
        return Ok(url);
    };
    if address.has_password() {
        return Err("a password does not stand on the command line, which everyone on the machine can see: take it out of the URL, change it, and put it into the environment variable PGPASSWORD or into a file for --password-file".into());
    }
    let address = match password_file {
        Some(file) => file::with_password_of(*address, &SecretSource::File(file.to_owned()))?,
        None => file::with_usual_password(*address),
    };
    Ok(StoreUrl::Postgres(Box::new(address)))
}

fn read<T>(
    path: &Path,
    check: impl FnOnce(file::File) -> Result<T, source::Mistake>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.to_owned(),
        line: None,
        problem: match error.kind() {
            ErrorKind::NotFound => "there is no such file: name the configuration with --config, or write one (the README begins with a short one)".into(),
            _ => format!("cannot be read: {error}"),
        },
    })?;
    toml::from_str::<file::File>(&text)
        .map_err(|error| source::Mistake::from_toml(&error))
        .and_then(check)
        .map_err(|mistake| ConfigError::new(path, &text, mistake))
}

/// What is wrong with a configuration, where, and what to do. It never holds a value of the file.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {problem}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    problem: String,
}
