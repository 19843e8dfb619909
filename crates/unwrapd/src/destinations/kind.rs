//! The list of the kinds of destinations, and the trait that each kind implements.

use std::net::SocketAddr;

use super::Destination;
use super::command::CommandSettings;
use super::http::HttpSettings;
use super::jsonl::JsonLinesSettings;
use crate::clock::Clock;
use crate::delivery::limits::Limits;

/// The kind of a destination, with its settings.
#[derive(Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each destination, most of them the largest"
)]
pub enum Kind {
    /// An application behind a URL.
    Http(HttpSettings),
    /// A command, run for each message.
    Command(CommandSettings),
    /// A file of JSON lines, or stdout.
    JsonLines(JsonLinesSettings),
}

/// The settings of one kind of destination, and the code that depends on the kind. Each kind
/// implements this trait in its own folder.
pub trait KindSettings: PartialEq + Sized {
    /// The key of `[[destination]]` that creates a destination of this kind.
    const KEY: &'static str;

    /// Creates the destination. `clock` is the clock for signatures and certificates.
    fn build(&self, limits: Limits, clock: &Clock) -> anyhow::Result<Box<dyn Destination>>;

    /// Adds the parts that should be equal at all gateways, without a secret.
    fn digest(&self, add: &mut dyn FnMut(&[u8]));

    /// A warning that deliveries would fail or wait, or that a setting has no effect. This is not a
    /// configuration error, because a missing file may appear later. `public` is the address on
    /// which the gateway receives.
    fn doubt(&self, name: &str, public: SocketAddr) -> Option<String>;

    /// The keys in which the other settings differ from these.
    fn changed_keys(&self, other: &Self) -> Vec<String> {
        if self == other {
            Vec::new()
        } else {
            vec![Self::KEY.into()]
        }
    }

    /// Whether the other settings lead to the same URL, command or file.
    fn has_same_target(&self, other: &Self) -> bool {
        self == other
    }

    /// Maximum number of files that this many concurrent deliveries keep open.
    fn open_files(&self, deliveries: u64) -> u64;
}

/// Evaluates an expression with the settings of any kind. This is the list of all kinds.
macro_rules! each_kind {
    ($kind:expr, $settings:ident => $value:expr) => {
        match $kind {
            Kind::Http($settings) => $value,
            Kind::Command($settings) => $value,
            Kind::JsonLines($settings) => $value,
        }
    };
    ($kind:expr, $other:expr, ($settings:ident, $others:ident) => $value:expr, else $else:expr) => {
        match ($kind, $other) {
            (Kind::Http($settings), Kind::Http($others)) => $value,
            (Kind::Command($settings), Kind::Command($others)) => $value,
            (Kind::JsonLines($settings), Kind::JsonLines($others)) => $value,
            _ => $else,
        }
    };
}

impl Kind {
    /// The key of `[[destination]]` that creates a destination of this kind.
    #[must_use]
    pub fn key(&self) -> &'static str {
        fn key<S: KindSettings>(_: &S) -> &'static str {
            S::KEY
        }
        each_kind!(self, settings => key(settings))
    }

    pub(super) fn build(
        &self,
        limits: Limits,
        clock: &Clock,
    ) -> anyhow::Result<Box<dyn Destination>> {
        each_kind!(self, settings => settings.build(limits, clock))
    }

    /// Adds the parts that should be equal at all gateways, without a secret.
    pub(crate) fn digest(&self, add: &mut dyn FnMut(&[u8])) {
        add(self.key().as_bytes());
        each_kind!(self, settings => settings.digest(add));
    }

    pub(super) fn doubt(&self, name: &str, public: SocketAddr) -> Option<String> {
        each_kind!(self, settings => settings.doubt(name, public))
    }

    /// The keys in which two settings differ.
    pub(crate) fn changed_keys(&self, other: &Self) -> Vec<String> {
        each_kind!(self, other, (settings, others) => settings.changed_keys(others), else {
            vec![format!("{} to {}", self.key(), other.key())]
        })
    }

    /// Whether two settings lead to the same URL, command or file.
    pub(crate) fn has_same_target(&self, other: &Self) -> bool {
        each_kind!(self, other, (settings, others) => settings.has_same_target(others), else false)
    }

    /// Maximum number of files that this many concurrent deliveries keep open.
    pub(crate) fn open_files(&self, deliveries: u64) -> u64 {
        each_kind!(self, settings => settings.open_files(deliveries))
    }
}
