//! The location of the database as one URL:
//! `postgres://USER@HOST:PORT/DATABASE?schema=NAME&sslmode=verify-full`.

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::postgres::connect::tls::Tls;

/// Default port of PostgreSQL.
const PORT: u16 = 5432;
/// Default schema for our tables.
const SCHEMA: &str = "unwrapd";
/// Maximum length of a schema name in bytes. PostgreSQL truncates longer names, and the name of our
/// notification channel is derived from it.
const SCHEMA_BYTES_MAX: usize = 48;
/// Maximum wait for a connection.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged, and how long a connection may be silent before it
/// is probed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A PostgreSQL database and our schema in it. Its text form omits user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    config: Config,
    schema: String,
    root_certificate: Option<PathBuf>,
}

impl PostgresAddress {
    /// Uses this password instead of any other.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// Resolves the path of `sslrootcert` relative to this folder.
    #[must_use]
    pub fn with_files_from(mut self, folder: &Path) -> Self {
        self.root_certificate = self.root_certificate.map(|file| folder.join(file));
        self
    }

    /// Returns an error if the file of `sslrootcert` is unusable.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        self.tls().map(drop)
    }

    /// Whether there is a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The schema for our tables.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The hosts and ports, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let hosts = self.hosts();
        let each = hosts.iter().map(|config| {
            let port = config.get_ports().first().copied().unwrap_or(PORT);
            match config.get_hosts() {
                [Host::Tcp(name)] if name.contains(':') => format!("[{name}]:{port}"),
                [Host::Tcp(name)] => format!("{name}:{port}"),
                [Host::Unix(path)] => format!("{}:{port}", path.display()),
                _ => String::new(),
            }
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// One configuration for each host, in order.
    pub(crate) fn hosts(&self) -> Vec<Config> {
        let hosts = self.config.get_hosts();
        let ports = self.config.get_ports();
        let each = hosts.iter().enumerate().map(|(place, host)| {
            let mut config = self.for_any_host();
            match host {
                Host::Tcp(name) => config.host(name),
                Host::Unix(path) => config.host_path(path),
            };
            if let Some(port) = ports.get(place).or(ports.first()) {
                config.port(*port);
            }
            config
        });
        each.collect()
    }

    /// All settings except the hosts. We find the primary ourselves.
    fn for_any_host(&self) -> Config {
        let from = &self.config;
        let mut config = Config::new();
        if let Some(user) = from.get_user() {
            config.user(user);
        }
        if let Some(password) = from.get_password() {
            config.password(password);
        }
        if let Some(database) = from.get_dbname() {
            config.dbname(database);
        }
        if let Some(name) = from.get_application_name() {
            config.application_name(name);
        }
        config
            .ssl_mode(from.get_ssl_mode())
            .channel_binding(from.get_channel_binding());
        set_times(&mut config);
        config
    }

    /// The TLS settings. `None`: connections are not encrypted.
    pub(crate) fn tls(&self) -> Result<Option<Arc<Tls>>, String> {
        if self.config.get_ssl_mode() == SslMode::Disable {
            return Ok(None);
        }
        Tls::new(self.root_certificate.as_deref()).map(|tls| Some(Arc::new(tls)))
    }
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.config.get_dbname().unwrap_or_default();
        write!(
            f,
            "in PostgreSQL at {}, database {database:?}, schema {:?}",
            self.place(),
            self.schema
        )
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresAddress({self})")
    }
}

impl FromStr for PostgresAddress {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut schema = SCHEMA.to_owned();
        let mut mode = None;
        let mut root_certificate = None;
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(AddressError::Parameter)?;
            match name {
                "schema" => value.clone_into(&mut schema),
                "sslmode" => mode = Some(value),
                "sslrootcert" => root_certificate = Some(PathBuf::from(value)),
                // We find the primary in any case.
                "target_session_attrs" if ["any", "read-write", "primary"].contains(&value) => {}
                // The caller reports a password in the URL as an error.
                "application_name" | "password" => others.push(pair),
                _ => return Err(AddressError::Parameter),
            }
        }
        let mut config: Config = base.parse().map_err(|error| malformed(&error))?;
        if !others.is_empty() {
            let url = format!("{base}?{}", others.join("&"));
            config = url.parse().map_err(|_| AddressError::Parameter)?;
        }
        if config.get_dbname().is_none() {
            return Err(AddressError::NoDatabase);
        }
        if config.get_hosts().is_empty() {
            return Err(AddressError::NoHost);
        }
        config.get_hosts().iter().try_for_each(check_host)?;
        if config.get_ports().contains(&0) {
            return Err(AddressError::Port);
        }
        let is_plain = !schema.is_empty()
            && schema.len() <= SCHEMA_BYTES_MAX
            && !schema.starts_with("pg_")
            && schema
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_plain {
            return Err(AddressError::Schema);
        }
        config.ssl_mode(match mode {
            None if is_here(&config) => SslMode::Disable,
            Some("disable") => SslMode::Disable,
            None | Some("require" | "verify-full") => SslMode::Require,
            Some(_) => return Err(AddressError::SslMode),
        });
        if config.get_application_name().is_none() {
            config.application_name("unwrapd");
        }
        Ok(Self {
            config,
            schema,
            root_certificate,
        })
    }
}

/// Checks a host in the configuration, instead of at the first connection.
fn check_host(host: &Host) -> Result<(), AddressError> {
    let Host::Tcp(name) = host else {
        return Ok(());
    };
    if name.is_empty() {
        return Err(AddressError::NoHost);
    }
    let is_address = name.parse::<IpAddr>().is_ok();
    let is_name = name
        .chars()
        .all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '-' | '_'));
    // The standard library does not parse addresses with a zone.
    let is_zoned = name
        .split_once('%')
        .is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    // "3000" would be parsed as the address 0.0.11.184.
    let is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()));
    if is_address || is_zoned || is_name && !is_number {
        return Ok(());
    }
    Err(AddressError::Host)
}

fn set_times(config: &mut Config) {
    config
        .connect_timeout(CONNECT_TIME)
        .tcp_user_timeout(SILENCE_MAX)
        .keepalives_idle(SILENCE_MAX)
        .keepalives_interval(SILENCE_MAX / 4)
        .keepalives_retries(2);
}

/// The cause in the words of the driver, which contain nothing of the URL.
fn malformed(error: &tokio_postgres::Error) -> AddressError {
    match error.source() {
        Some(source) if source.to_string().contains("`port`") => AddressError::Port,
        _ => AddressError::Malformed,
    }
}

/// Whether every host is this machine, so that no network is involved.
fn is_here(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
        }
    })
}

/// Reason why a URL is not the address of a PostgreSQL database. It contains nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The URL cannot be read.
    #[error(
        "this must be a URL such as \"postgres://unwrapd@db.internal:5432/unwrapd\"; a `%` in a \
         name or password is written %25, a `/` %2F, an `@` %40"
    )]
    Malformed,
    /// The port is invalid.
    #[error("the port in the URL must be a number from 1 to 65535, or left out for {PORT}")]
    Port,
    /// The URL has an unknown parameter.
    #[error(
        "the URL has an unknown parameter: `schema=NAME`, `sslmode=verify-full` or `disable`, \
         `sslrootcert=FILE` and `application_name=NAME` are known, with `&` between them. A `?` in \
         a name or password is written %3F"
    )]
    Parameter,
    /// The URL names no database.
    #[error(
        "the URL names no database: put its name after the host, such as \"postgres://unwrapd@db.internal/unwrapd\""
    )]
    NoDatabase,
    /// The URL names no host.
    #[error(
        "the URL names no host: \"postgres://unwrapd@db.internal/unwrapd\", or \
         \"postgres://unwrapd@%2Fvar%2Frun%2Fpostgresql/unwrapd\" for a socket"
    )]
    NoHost,
    /// A host is neither a name nor an address.
    #[error(
        "a host in the URL is neither a name nor an address: write it as in \
         \"postgres://unwrapd@db.internal/unwrapd\"; variables are not replaced here"
    )]
    Host,
    /// The name of the schema would need quotation marks.
    #[error(
        "`schema` must have 1 to {SCHEMA_BYTES_MAX} lower-case letters, digits and `_`, and does not begin with `pg_`"
    )]
    Schema,
    /// The TLS mode does not guarantee encryption.
    #[error(
        "`sslmode` is `verify-full` (the default, except on this machine) or `disable`; modes that \
         may or may not encrypt are refused. For a certificate of your own authority add \
         `sslrootcert=FILE`"
    )]
    SslMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresAddress, AddressError> {
        url.parse()
    }

    #[test]
    fn connections_to_other_hosts_are_encrypted_unless_the_url_says_otherwise() {
        let mode = |url| parse(url).unwrap().config.get_ssl_mode();
        assert_eq!(mode("postgres://u@db.internal/d"), SslMode::Require);
        assert_eq!(mode("postgres://u@localhost/d"), SslMode::Disable);
        assert_eq!(mode("postgres://u@[::1]/d"), SslMode::Disable);
        assert_eq!(mode("postgres://u@%2Frun/d"), SslMode::Disable);
        assert_eq!(mode("postgres://u@localhost,db/d"), SslMode::Require);
        assert_eq!(mode("postgres://u@db/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(
            mode("postgresql://u@localhost/d?sslmode=require"),
            SslMode::Require
        );
        assert_eq!(
            parse("postgres://u@db/d?sslmode=prefer"),
            Err(AddressError::SslMode)
        );
    }

    #[test]
    fn missing_and_misspelt_parts_of_a_url_are_named() {
        assert_eq!(parse("postgres://u@db"), Err(AddressError::NoDatabase));
        assert_eq!(parse("postgres:///d"), Err(AddressError::NoHost));
        assert_eq!(
            parse("postgres://u@db/d?shcema=x"),
            Err(AddressError::Parameter)
        );
        assert_eq!(
            parse("postgres://u:pa?ss@db/d"),
            Err(AddressError::Parameter)
        );
        assert_eq!(parse("postgres://u@db:x/d"), Err(AddressError::Port));
        assert_eq!(parse("postgres://u@db:70000/d"), Err(AddressError::Port));
        for ports in ["db:0", "db:00", "db1:5432,db2:0", "[::1]:0"] {
            let url = format!("postgres://u@{ports}/d");
            assert_eq!(parse(&url), Err(AddressError::Port), "{url}");
        }
        for hosts in ["", ":5432", ",db", "db,", "db1,,db2", "db1,:5432"] {
            let url = format!("postgres://u@{hosts}/d");
            assert_eq!(parse(&url), Err(AddressError::NoHost), "{url}");
        }
        for host in ["${DB_HOST}", "db internal", "3000", "10.0.0", "a/../b"] {
            let url = format!(
                "postgres://u@{}/d",
                host.replace('/', "%2F").replace(' ', "%20")
            );
            assert_eq!(parse(&url), Err(AddressError::Host), "{url}");
        }
        for host in [
            "db",
            "db-1.x_y.internal.",
            "10.0.0.1",
            "[fe80::1]",
            "bücher",
        ] {
            let url = format!("postgres://u@{host}/d");
            assert!(parse(&url).is_ok(), "{url}");
        }
        for schema in ["", "A", "a-b", "a\"b", "pg_x", &"x".repeat(49)] {
            let url = format!("postgres://u@db/d?schema={schema}");
            assert_eq!(parse(&url), Err(AddressError::Schema), "{schema}");
        }
        assert_eq!(
            parse("postgres://u@db/d?schema=x_1").unwrap().schema(),
            "x_1"
        );
    }

    #[test]
    fn several_hosts_are_tried_one_by_one() {
        let address = parse(
            "postgres://u:p@db1,%2Frun:5433/d?schema=x&application_name=me&target_session_attrs=read-write",
        );
        let [one, other] = <[Config; 2]>::try_from(address.unwrap().hosts()).unwrap();
        assert_eq!(one.get_hosts(), [Host::Tcp("db1".into())]);
        assert_eq!(one.get_ports(), [5432]);
        assert_eq!(other.get_hosts(), [Host::Unix("/run".into())]);
        assert_eq!(other.get_ports(), [5433]);
        for config in [one, other] {
            assert_eq!(config.get_user(), Some("u"));
            assert_eq!(config.get_password(), Some(&b"p"[..]));
            assert_eq!(config.get_dbname(), Some("d"));
            assert_eq!(config.get_application_name(), Some("me"));
            assert_eq!(config.get_ssl_mode(), SslMode::Require);
        }
        let read_only = parse("postgres://u@db1,db2/d?target_session_attrs=standby");
        assert_eq!(read_only, Err(AddressError::Parameter));
    }

    #[test]
    fn an_address_is_shown_with_its_hosts_and_without_user_and_password() {
        let address = parse("postgres://me:hunter2@db.internal,[::1]:5433/events").unwrap();
        let shown = format!("{address} {address:?}");
        for secret in ["me:", "me@", "hunter2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(
            address.to_string(),
            "in PostgreSQL at db.internal:5432, [::1]:5433, database \"events\", schema \"unwrapd\""
        );
    }
}
