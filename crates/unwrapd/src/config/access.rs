//! Where a gateway that runs on a configuration answers operators, for who asks it. The secrets of its endpoints need not be at hand.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

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
}

/// The address and the token, as far as the file names them. Without the file there is nothing to know.
pub(crate) fn admin_access(
    path: &Path,
) -> Result<(Option<SocketAddr>, Option<SecretSource>), ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((None, None)),
        Err(error) => {
            let mistake = Mistake::whole(format!("cannot be read: {error}"));
            return Err(ConfigError::new(path, "", mistake));
        }
    };
    toml::from_str::<File>(&text)
        .map_err(|error| Mistake::from_toml(&error))
        .and_then(|file| {
            let Server { admin, admin_token } = file.server;
            let admin = admin.map(|text| server::address(&text)).transpose()?;
            Ok((admin, admin_token))
        })
        .map_err(|mistake| ConfigError::new(path, &text, mistake))
}
