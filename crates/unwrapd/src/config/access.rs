//! Where a gateway that runs on a configuration answers operators, for who asks it. The secrets of its endpoints need not be at hand.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::source::{Mistake, SecretSource};
use super::{ConfigError, server};

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    server: Server,
}

#[derive(Default, Deserialize)]
struct Server {
    admin: Option<toml::Spanned<String>>,
    admin_token: Option<SecretSource>,
    tls: Option<TlsTable>,
    admin_tls: Option<TlsTable>,
}

#[derive(Deserialize)]
struct TlsTable {
    certificate: PathBuf,
}

/// What the configuration says of the admin port.
#[derive(Default)]
pub(crate) struct AdminAccess {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) token: Option<SecretSource>,
    /// The certificate that it shows; `None`: it speaks plain HTTP.
    pub(crate) certificate: Option<PathBuf>,
}

/// What the file says of the port. Without the file there is nothing to know.
pub(crate) fn admin_access(path: &Path) -> Result<AdminAccess, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(AdminAccess::default()),
        Err(error) => {
            let mistake = Mistake::whole(format!("cannot be read: {error}"));
            return Err(ConfigError::new(path, "", mistake));
        }
    };
    toml::from_str::<File>(&text)
        .map_err(|error| Mistake::from_toml(&error))
        .and_then(|file| {
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
        })
        .map_err(|mistake| ConfigError::new(path, &text, mistake))
}
