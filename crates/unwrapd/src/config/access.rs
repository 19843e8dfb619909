//! The access to a gateway's admin port, for commands that use it. Reads only these settings of the
//! configuration, so the secrets of its endpoints are not needed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, parse, read_text};
use crate::settings_file::{Document, Key, Keys, Mistakes, SecretSource, address};

#[derive(Default, Deserialize)]
struct AccessKeys {
    admin: Key<String>,
    admin_token: Option<SecretSource>,
    tls: Option<TlsTable>,
    admin_tls: Option<TlsTable>,
}

impl Keys for AccessKeys {
    const PATHS: &'static [&'static str] = &["certificate", "key"];
}

#[derive(Deserialize)]
struct TlsTable {
    certificate: PathBuf,
}

/// The settings of the admin port that its clients need.
#[derive(Default)]
pub(crate) struct AdminAccess {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) token: Option<SecretSource>,
    /// The certificate that it shows; `None`: it speaks plain HTTP.
    pub(crate) certificate: Option<PathBuf>,
}

/// Reads these settings from the configuration. A missing file gives the defaults.
pub(crate) fn admin_access(path: &Path) -> Result<AdminAccess, ConfigError> {
    let Some((text, folder)) = read_text(path)? else {
        return Ok(AdminAccess::default());
    };
    let read = || -> Result<AdminAccess, Mistakes> {
        let (root, mistakes) = parse(&text);
        mistakes.check()?;
        // Mistakes in other tables are reported where these tables are used.
        let root = root.into_iter();
        let server = root.filter(|(table, _)| table.get_ref() == "server");
        let mut document = Document::of(server.collect(), &folder, &["server"], &[]);
        let mut server = document.single("server");
        document.mistakes.check()?;
        let AccessKeys {
            admin,
            admin_token,
            tls,
            admin_tls,
        } = server.take();
        let address = admin.map(|text| address(&text)).transpose();
        let address = server.keep(address).flatten();
        server.check()?;
        // Same rule as in the gateway: beyond loopback, the admin port uses the certificate of the
        // public port.
        let is_remote = address.is_some_and(|address| !address.ip().is_loopback());
        let tls = admin_tls.or(tls.filter(|_| is_remote));
        Ok(AdminAccess {
            address,
            token: admin_token,
            certificate: tls.map(|tls| tls.certificate),
        })
    };
    read().map_err(|mistakes| ConfigError::new(path, &text, mistakes))
}
