//! Checks of single values, and the comparison of settings by key.

use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;

use super::{Location, Mistake};

/// A key that must be present. `None`: it is, with a mistake that is already reported.
pub(crate) fn required<T>(
    value: Option<T>,
    key: &str,
    location: &Location,
) -> Result<Option<T>, Mistake> {
    if value.is_none() && !location.is_broken(key) {
        return Err(missing(location.span(), key));
    }
    Ok(value)
}

/// A mistake about a table without a key that it must have.
pub(crate) fn missing(table: Range<usize>, key: &str) -> Mistake {
    Mistake::absence(table, format!("the key `{key}` is missing here: add it"))
}

/// The address of a port.
pub(crate) fn address(text: &Spanned<String>) -> Result<SocketAddr, Mistake> {
    text.get_ref().parse().map_err(|_| {
        Mistake::new(
            text.span(),
            "this must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        )
    })
}

/// The keys in which two settings differ, of these.
pub(crate) fn differing<const N: usize>(
    keys: [(&'static str, bool); N],
) -> impl Iterator<Item = &'static str> {
    let differing = keys.into_iter().filter(|(_, is_other)| *is_other);
    differing.map(|(key, _)| key)
}
