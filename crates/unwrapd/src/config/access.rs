//! Where a gateway that runs on a configuration answers operators, for who asks it. The secrets of
//! its endpoints need not be at hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::mistakes::Mistake;
use super::source::SecretSource;
use super::{ConfigError, parse, paths, read_text, server};

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    server: Server,
}

#[derive(Default, Deserialize)]
struct Server {
    admin: Option<Spanned<String>>,
    admin_token: Option<SecretSource>,
    tls: Option<TlsTable>,
    admin_tls: Option<TlsTable>,
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
    let read = || {
        let (root, mistakes) = parse(&text);
        mistakes.check()?;
        // Mistakes in other tables are reported where these tables are used.
        let is_ours = |table: &Spanned<_>| table.get_ref() == "server";
        let mut root: DeTable<'_> = root
            .into_iter()
            .filter(|(table, _)| is_ours(table))
            .collect();
        paths::count_from(&folder, &mut root).check()?;
        let file = File::deserialize(Deserializer::from(Spanned::new(0..0, root)))
            .map_err(|error| Mistake::from_toml(&error))?;
        let Server {
            admin,
            admin_token,
            tls,
            admin_tls,
        } = file.server;
        let address = admin.map(|text| server::address(&text)).transpose()?;
        // As for the gateway itself: elsewhere than on loopback it has the certificate of the public port.
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
