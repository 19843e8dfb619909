//! File and environment into one checked [`Config`]. Mistakes are refused at the start: all of a
//! file at once, each with its line and its remedy.

mod access;
mod changes;
mod file;
mod shown;
mod store;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use crate::admin::AdminTokens;
use crate::files;
use crate::settings_file::{Mistake, Mistakes, shown_path};
use crate::store::StoreSettings;
use crate::telemetry::LogSettings;

pub use crate::destinations::DestinationSettings;
pub use crate::listen::ServerSettings;
pub use crate::receive::EndpointSettings;
pub use crate::settings_file::Written;
pub use crate::store::StoreUrl;
pub use crate::traces::TraceSettings;
pub(crate) use access::{AdminAccess, admin_access};
pub use changes::Changes;
use file::File;
use store::Use;
pub(crate) use store::named_store;

/// Everything a gateway runs on, checked.
pub struct Config {
    /// The public port.
    pub listen: SocketAddr,
    /// The port for operators; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// Limits, time-outs and TLS of the ports.
    pub server: ServerSettings,
    /// The tokens of that port. `None`: it needs none, so only this machine must reach it.
    pub admin_tokens: Option<AdminTokens>,
    /// A prefix of every path of that port; empty if there is none.
    pub admin_base_path: Arc<str>,
    /// The URL at which people reach the first page of that port, without the last slash.
    pub admin_url: Option<Arc<str>>,
    /// The form of the log.
    pub log: LogSettings,
    /// Settings of the traces; `None`: there are none.
    pub traces: Option<TraceSettings>,
    /// Settings of the store: its location, and how long and how much it keeps.
    pub store: StoreSettings,
    /// The endpoints, where OpenAI posts.
    pub endpoints: Vec<EndpointSettings>,
    /// The destinations of deliveries.
    pub destinations: Vec<DestinationSettings>,
    /// The keys of the file, for operators.
    pub written: Written,
}

impl Config {
    /// The usual settings: no port for operators, no endpoints and no destinations yet.
    pub fn new(listen: SocketAddr, store: impl Into<StoreSettings>) -> Self {
        Self {
            listen,
            admin: None,
            server: ServerSettings::default(),
            admin_tokens: None,
            admin_base_path: Arc::default(),
            admin_url: None,
            log: LogSettings::default(),
            traces: None,
            store: store.into(),
            endpoints: Vec::new(),
            destinations: Vec::new(),
            written: Written::default(),
        }
    }

    /// Reads the file and the secrets it names.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_with(path, |_| {})
    }

    /// As [`read`](Self::read). `begin_log` gets the settings of the log first, so that the
    /// warnings about the rest of the file follow them.
    pub(crate) fn read_with(
        path: &Path,
        begin_log: impl FnOnce(LogSettings),
    ) -> Result<Self, ConfigError> {
        let config = read(path, |file, written| file.check(begin_log, written))?;
        if files::is_writable_by_all(path) {
            tracing::warn!(
                "every user of this machine may change {0}, and so what this process runs and where it sends to: chmod o-w {0}",
                path.display()
            );
        }
        Ok(config)
    }

    /// Reads only the settings of the store. The secrets that the file names need not exist.
    pub fn read_store(path: &Path) -> Result<StoreSettings, ConfigError> {
        read(path, |file, _| file.check_store(Use::Look))
    }

    /// As [`read_store`](Self::read_store), with the password of a database.
    pub fn read_store_to_open(path: &Path) -> Result<StoreSettings, ConfigError> {
        read(path, |file, _| file.check_store(Use::Open))
    }
}

/// Largest configuration. With the maximum number of destinations it has some hundred thousand
/// bytes.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

fn read<T>(
    path: &Path,
    check: impl FnOnce(File<'_>, Written) -> Result<T, Mistakes>,
) -> Result<T, ConfigError> {
    let (text, folder) = read_text(path)?.ok_or_else(|| {
        ConfigError::whole(
            path,
            "the file does not exist: name the configuration with --config, or write one (the \
             README shows a short one)",
        )
    })?;
    let (root, mut mistakes) = parse(&text);
    let written = Written::of(path, &text, &root);
    let checked = mistakes.keep(check(File::split(root, &folder), written));
    match (mistakes.check(), checked) {
        (Ok(()), Some(checked)) => Ok(checked),
        (Err(mistakes), _) => Err(ConfigError::new(path, &text, mistakes)),
        (Ok(()), None) => Err(ConfigError::whole(path, "cannot be read")),
    }
}

/// The text as far as it is TOML, and where it is not.
fn parse(text: &str) -> (DeTable<'_>, Mistakes) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut mistakes = Mistakes::default();
    for error in &errors {
        mistakes.add(Mistake::from_syntax(error));
    }
    (root.into_inner(), mistakes)
}

/// The text of a configuration, and the absolute path of the folder that its paths count from.
/// `None`: there is no such file.
fn read_text(path: &Path) -> Result<Option<(String, PathBuf)>, ConfigError> {
    let unreadable =
        |problem: String| ConfigError::whole(path, &format!("cannot be read: {problem}"));
    let content = match files::read(path, FILE_BYTES_MAX) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let text = files::text(&content.bytes).map_err(unreadable)?;
    let folder = folder_of(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some((text.to_owned(), folder)))
}

/// The folder that the paths of a configuration count from. For a pipe it is the current folder.
fn folder_of(file: &Path) -> io::Result<PathBuf> {
    let is_stream = ["/dev", "/proc"]
        .iter()
        .any(|system| file.starts_with(system))
        || !std::fs::metadata(file)?.is_file();
    if is_stream {
        return std::env::current_dir();
    }
    let file = std::path::absolute(file)?;
    Ok(file.parent().unwrap_or(&file).to_owned())
}

/// All mistakes of a configuration with line and remedy, in the order of the file. The text never
/// has a value of the file.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    /// Each with its line, where it has one.
    mistakes: Vec<(Option<usize>, String)>,
}

impl ConfigError {
    fn new(file: &Path, text: &str, mistakes: Mistakes) -> Self {
        Self {
            file: file.to_owned(),
            mistakes: mistakes.in_order(text),
        }
    }

    /// About the whole file.
    fn whole(file: &Path, problem: &str) -> Self {
        Self {
            file: file.to_owned(),
            mistakes: vec![(None, problem.to_owned())],
        }
    }

    /// Adds a problem of something that the file names.
    pub(crate) fn and(mut self, problem: String) -> Self {
        self.mistakes.push((None, problem));
        self
    }

    /// Each mistake as a line of text: file, line, problem and remedy.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let file = shown_path(&self.file);
        self.mistakes.iter().map(move |(line, problem)| match line {
            Some(line) => format!("{file}:{line}: {problem}"),
            None => format!("{file}: {problem}"),
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.lines().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
