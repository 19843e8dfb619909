//! The keys of `[server]` about the admin port.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::base_path;
use super::{AdminToken, AdminTokens};
use crate::settings_file::{
    Key, Keys, Location, Mistake, Mistakes, SecretSource, address, checked_url,
};

const URL_WITH_USER: &str = "this URL is sent with alerts, so it must not have a user or a \
    password: remove them; people log in with a token";
const URL_WITH_QUERY: &str = "the URL has a query: write only the address of the first page, such as \"https://ops.example\"";
const URL_WITH_PATH: &str = "the pages are not below the path of this URL: write the same path as \
    `admin_base_path`, or remove it here";

/// The keys of the admin port.
#[derive(Default, Deserialize)]
pub(crate) struct AdminKeys {
    admin: Key<String>,
    admin_token: Key<SecretSource>,
    admin_read_token: Key<SecretSource>,
    admin_read_payloads: Key<bool>,
    admin_base_path: Key<String>,
    admin_url: Key<String>,
}

impl Keys for AdminKeys {}

/// The settings of the admin port.
pub(crate) struct AdminSettings {
    /// `None`: there is no such port.
    pub(crate) address: Option<SocketAddr>,
    /// `None`: the port needs no token.
    pub(crate) tokens: Option<AdminTokens>,
    /// A prefix of every path; empty if there is none.
    pub(crate) base_path: Arc<str>,
    /// The URL at which people reach the first page, without the last slash.
    pub(crate) url: Option<Arc<str>>,
}

impl AdminKeys {
    /// The address, if there is one that can be read.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|text| address(text).ok())
    }

    /// `listen` is the address of the public port, if it can be read.
    pub(crate) fn check(
        self,
        listen: Option<SocketAddr>,
        location: &Location,
    ) -> Result<AdminSettings, Mistakes> {
        let mut mistakes = Mistakes::default();
        let address = mistakes.keep(self.check_address(listen, location));
        let tokens = mistakes.keep(self.check_tokens(location));
        let base_path = mistakes.keep(self.check_base_path());
        let url = mistakes.keep(self.check_url(base_path.as_deref()));
        mistakes.check()?;
        Ok(AdminSettings {
            address: address.flatten(),
            tokens: tokens.flatten(),
            base_path: base_path.unwrap_or_default(),
            url: url.flatten(),
        })
    }

    fn check_address(
        &self,
        listen: Option<SocketAddr>,
        location: &Location,
    ) -> Result<Option<SocketAddr>, Mistakes> {
        let Some(text) = &self.admin else {
            return Ok(None);
        };
        let mut mistakes = Mistakes::default();
        let admin = mistakes.keep(address(text));
        if let (Some(admin), Some(listen)) = (admin, listen)
            && is_same_place(listen, admin)
        {
            mistakes.add(Mistake::new(
                text.span(),
                "`admin` and `listen` name the same port: set another one",
            ));
        }
        let has_token = self.admin_token.is_some() || location.is_broken("admin_token");
        if admin.is_some_and(|admin| !admin.ip().is_loopback()) && !has_token {
            mistakes.add(Mistake::absence(
                text.span(),
                "others can reach this address and could pause and replay: add \
                 `admin_token = { env = \"UNWRAPD_ADMIN_TOKEN\" }`, or listen on 127.0.0.1",
            ));
        }
        mistakes.check()?;
        Ok(admin)
    }

    fn check_tokens(&self, location: &Location) -> Result<Option<AdminTokens>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let operate = mistakes.keep(token(self.admin_token.as_ref())).flatten();
        let read = mistakes.keep(token(self.admin_read_token.as_ref()));
        let read = read.flatten();
        if let Some(source) = &self.admin_read_token {
            if self.admin_token.is_none() && !location.is_broken("admin_token") {
                mistakes.add(Mistake::absence(
                    source.span(),
                    "this token is for reading only: add `admin_token = { env = \
                     \"UNWRAPD_ADMIN_TOKEN\" }`, the token with all rights",
                ));
            }
            if read.is_some() && read == operate {
                mistakes.add(Mistake::new(
                    source.span(),
                    "`admin_token` is the same secret: generate another one with `unwrapd secret`",
                ));
            }
        }
        let has_read = self.admin_read_token.is_some() || location.is_broken("admin_read_token");
        if let Some(shows) = self.admin_read_payloads.as_ref().filter(|_| !has_read)
            && !*shows.get_ref()
        {
            mistakes.add(Mistake::absence(
                shows.span(),
                "there is no token for reading, which this key would restrict: add \
                 `admin_read_token`, or remove the key",
            ));
        }
        mistakes.check()?;
        let read_payloads = self.admin_read_payloads.as_ref();
        Ok(operate.map(|operate| AdminTokens {
            operate,
            read,
            read_payloads: read_payloads.is_none_or(|shows| *shows.get_ref()),
        }))
    }

    /// `base_path` is that of the configuration; `None`: it has a mistake.
    fn check_url(&self, base_path: Option<&str>) -> Result<Option<Arc<str>>, Mistake> {
        let Some((text, base_path)) = self.admin_url.as_ref().zip(base_path) else {
            return Ok(None);
        };
        let url = checked_url(text.get_ref(), URL_WITH_USER)
            .and_then(|url| match url.query() {
                Some(_) => Err(URL_WITH_QUERY),
                None => Ok(url),
            })
            .map_err(|problem| Mistake::new(text.span(), problem))?;
        let path = url.path().trim_end_matches('/');
        // Links on pages have the base path alone.
        if !path.is_empty() && path != base_path {
            return Err(Mistake::new(text.span(), URL_WITH_PATH));
        }
        let origin = url.origin().ascii_serialization();
        Ok(Some(format!("{origin}{base_path}").into()))
    }

    fn check_base_path(&self) -> Result<Arc<str>, Mistake> {
        let Some(text) = &self.admin_base_path else {
            return Ok(Arc::default());
        };
        base_path::check(text.get_ref(), &super::routes())
            .map_err(|problem| Mistake::new(text.span(), problem))?;
        Ok(text.get_ref().as_str().into())
    }
}

/// The token that a key names, if there is one.
fn token(source: Option<&Spanned<SecretSource>>) -> Result<Option<AdminToken>, Mistake> {
    let Some(source) = source else {
        return Ok(None);
    };
    let secret = source.get_ref().read_strong();
    let secret = secret.map_err(|problem| Mistake::new(source.span(), problem))?;
    Ok(Some(AdminToken::new(&secret)))
}

/// Whether two sockets cannot listen on these addresses at the same time. Port 0 stands for any
/// free port.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_of_one_kind = one.is_ipv4() == other.is_ipv4();
    let is_same_address = one.ip() == other.ip() || is_any && is_of_one_kind;
    one.port() != 0 && one.port() == other.port() && is_same_address
}
