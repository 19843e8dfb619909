//! The tokens of the admin port, and the rights that each gives.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use openai_webhooks::Secret;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// A token of the admin port. It prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// A digest: neither the time of a comparison nor a core dump reveals the token.
    digest: [u8; 32],
}

impl AdminToken {
    /// Creates the token from its text.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self {
            digest: Sha256::digest(secret.expose().as_bytes()).into(),
        }
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn ct_eq(&self, other: &Self) -> Choice {
        self.digest.ct_eq(&other.digest)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken([redacted])")
    }
}

/// The tokens of the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTokens {
    /// The token of operators, which gives all rights.
    pub operate: AdminToken,
    /// The token for reading. `None`: there is none.
    pub read: Option<AdminToken>,
    /// Whether the token for reading shows payloads, headers and the bodies of answers.
    pub read_payloads: bool,
}

/// The purpose of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Operate,
    Read,
}

impl AdminTokens {
    /// A token of operators, and none for reading.
    #[must_use]
    pub fn operate(token: AdminToken) -> Self {
        Self {
            operate: token,
            read: None,
            read_payloads: true,
        }
    }

    /// The purpose of the token with this text. `None`: it is no token of the port.
    pub(super) fn level(&self, text: &str) -> Option<Level> {
        let token = AdminToken::new(&Secret::parse(text).ok()?);
        let is_operate = token.ct_eq(&self.operate);
        let is_read = self.read.as_ref().map(|read| token.ct_eq(read));
        match (is_operate.into(), is_read.is_some_and(Into::into)) {
            (true, _) => Some(Level::Operate),
            (false, true) => Some(Level::Read),
            (false, false) => None,
        }
    }

    /// The token with this purpose, if there is one.
    pub(super) fn of(&self, level: Level) -> Option<&AdminToken> {
        match level {
            Level::Operate => Some(&self.operate),
            Level::Read => self.read.as_ref(),
        }
    }

    /// The rights that a token with this purpose gives.
    pub(super) fn rights(&self, level: Level) -> Rights {
        match level {
            Level::Operate => Rights::ALL,
            Level::Read => Rights {
                may_operate: false,
                may_see_payloads: self.read_payloads,
            },
        }
    }
}

/// The rights of a client that may use a route of the port. Handlers extract them. Every such
/// client may read what has no content of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Whether it may change something.
    pub(crate) may_operate: bool,
    /// Whether it may see content: payloads, headers, and the bodies of answers.
    pub(crate) may_see_payloads: bool,
}

impl Rights {
    /// The rights of operators.
    pub(super) const ALL: Self = Self {
        may_operate: true,
        may_see_payloads: true,
    };
    /// The rights of a client without a token, at a route that needs none.
    pub(super) const NONE: Self = Self {
        may_operate: false,
        may_see_payloads: false,
    };
}

impl<S: Send + Sync> FromRequestParts<S> for Rights {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(Self::NONE))
    }
}
