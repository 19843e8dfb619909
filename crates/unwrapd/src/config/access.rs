//! Where a gateway that runs on a configuration answers operators, for who asks it. The secrets of its endpoints need not be at hand.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::Deserializer;

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
}

/// The address and the token, as far as the file names them. Without the file there is nothing to know.
pub(crate) fn admin_access(
    path: &Path,
) -> Result<(Option<SocketAddr>, Option<SecretSource>), ConfigError> {
    let Some((text, folder)) = read_text(path)? else {
        return Ok((None, None));
    };
    let read = || {
        let mut root = parse(&text)?;
        // What is wrong with a path is told where the path is used.
        drop(paths::count_from(&folder, &mut root));
        let file = File::deserialize(Deserializer::from(Spanned::new(0..0, root)))
            .map_err(|error| Mistake::from_toml(&error))?;
        let Server { admin, admin_token } = file.server;
        let admin = admin.map(|text| server::address(&text)).transpose()?;
        Ok((admin, admin_token))
    };
    read().map_err(|mistakes| ConfigError::new(path, &text, mistakes))
}
