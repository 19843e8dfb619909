//! The keys of `[server]` about the admin port.

use std::net::SocketAddr;

use serde::Deserialize;

use super::AdminToken;
use crate::settings_file::{Key, Keys, Location, Mistake, Mistakes, SecretSource, address};

/// The keys of the admin port.
#[derive(Default, Deserialize)]
pub(crate) struct AdminKeys {
    admin: Key<String>,
    admin_token: Key<SecretSource>,
}

impl Keys for AdminKeys {}

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
    ) -> Result<(Option<SocketAddr>, Option<AdminToken>), Mistakes> {
        let mut mistakes = Mistakes::default();
        let token = self.admin_token.as_ref().and_then(|source| {
            let secret = source.get_ref().read_strong();
            let secret = secret.map_err(|problem| Mistake::new(source.span(), problem));
            Some(AdminToken::new(&mistakes.keep(secret)?))
        });
        let has_token = self.admin_token.is_some() || location.is_broken("admin_token");
        let mut admin = None;
        if let Some(text) = &self.admin {
            admin = mistakes.keep(address(text));
            if let (Some(admin), Some(listen)) = (admin, listen)
                && is_same_place(listen, admin)
            {
                mistakes.add(Mistake::new(
                    text.span(),
                    "`admin` and `listen` name the same port: set another one",
                ));
            }
            if admin.is_some_and(|admin| !admin.ip().is_loopback()) && !has_token {
                mistakes.add(Mistake::absence(
                    text.span(),
                    "others can reach this address and could pause and replay: add \
                     `admin_token = { env = \"UNWRAPD_ADMIN_TOKEN\" }`, or listen on 127.0.0.1",
                ));
            }
        }
        mistakes.check()?;
        Ok((admin, token))
    }
}

/// Whether two sockets cannot listen on these addresses at the same time. Port 0 stands for any
/// free port.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_of_one_kind = one.is_ipv4() == other.is_ipv4();
    let is_same_address = one.ip() == other.ip() || is_any && is_of_one_kind;
    one.port() != 0 && one.port() == other.port() && is_same_address
}
