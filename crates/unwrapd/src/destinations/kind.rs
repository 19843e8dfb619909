//! The list of the kinds of destinations, and the trait that each kind implements.

mod selection;

use std::net::SocketAddr;

use super::Destination;
use super::command::CommandSettings;
use super::http::HttpSettings;
use super::jsonl::JsonLinesSettings;
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::settings_file::{Keys, Location, Mistakes, Table};
use crate::store::StoreUrl;
use selection::{Candidate, select};

/// Defines [`Kind`] from the list of all kinds, with a method for each that calls the one of its
/// settings.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($settings:ty),)*) => {
        /// The kind of a destination, with its settings.
        #[derive(Clone, PartialEq)]
        #[expect(
            clippy::large_enum_variant,
            reason = "there is one for each destination, most of them the largest"
        )]
        pub enum Kind {
            $($(#[$doc])* $kind($settings),)*
        }

        impl Kind {
            /// Takes the keys of all kinds from a table of the configuration, and checks those of
            /// the kind that it selects. `None`: the table has a mistake.
            pub(super) fn take(table: &mut Table<'_>, store: Option<&StoreUrl>) -> Option<Self> {
                let candidates = vec![$(Candidate::take::<$settings>(table, Self::$kind),)*];
                let selected = select(candidates, table.location(), store);
                table.keep(selected).flatten()
            }

            /// The key of `[[destination]]` that creates a destination of this kind.
            #[must_use]
            pub(crate) fn key(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => <$settings>::KEY,)*
                }
            }

            pub(super) fn build(
                &self,
                limits: Limits,
                clock: &Clock,
            ) -> anyhow::Result<Box<dyn Destination>> {
                match self {
                    $(Self::$kind(settings) => settings.build(limits, clock),)*
                }
            }

            /// Adds the key and the settings that should be equal on all gateways to a digest.
            pub(crate) fn digest(&self, add: &mut dyn FnMut(&[u8])) {
                add(self.key().as_bytes());
                match self {
                    $(Self::$kind(settings) => settings.digest(add),)*
                }
            }

            /// Where it leads, without secrets.
            pub(super) fn target(&self) -> String {
                match self {
                    $(Self::$kind(settings) => settings.target(),)*
                }
            }

            pub(super) fn doubt(&self, name: &str, public: SocketAddr) -> Option<String> {
                match self {
                    $(Self::$kind(settings) => settings.doubt(name, public),)*
                }
            }

            /// The keys in which two settings differ.
            pub(super) fn changed_keys(&self, other: &Self) -> Vec<String> {
                match (self, other) {
                    $((Self::$kind(settings), Self::$kind(others)) => settings.changed_keys(others),)*
                    _ => vec![format!("{} to {}", self.key(), other.key())],
                }
            }

            /// Whether two settings lead to the same URL, command or file.
            pub(crate) fn has_same_target(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$kind(settings), Self::$kind(others)) => settings.has_same_target(others),)*
                    _ => false,
                }
            }

            /// Maximum number of files that this many concurrent deliveries keep open.
            pub(crate) fn open_files(&self, deliveries: u64) -> u64 {
                match self {
                    $(Self::$kind(settings) => settings.open_files(deliveries),)*
                }
            }
        }
    };
}

kinds! {
    /// An application behind a URL.
    Http(HttpSettings),
    /// A command, run for each message.
    Command(CommandSettings),
    /// A file of JSON lines, or stdout.
    JsonLines(JsonLinesSettings),
}

/// The settings of one kind of destination, and the code that depends on the kind. Each kind
/// implements this trait in its own folder.
pub(crate) trait KindSettings: PartialEq + Sized + 'static {
    /// The key of `[[destination]]` that selects this kind. It may differ from the name of
    /// the kind ([`Destination::kind`]): `url` is the key of the kind `http`.
    const KEY: &'static str;
    /// That key with its value, as an example.
    const EXAMPLE: &'static str;
    /// The action of this kind, as the reason in the error for a key of another kind: "`ca` is only
    /// for a `url`; *the gateway writes lines, and sends no request*: remove this key".
    const OTHER_KEYS: &'static str;

    /// The keys of this kind, [`KEY`](Self::KEY) among them. No two kinds share a key.
    type Keys: Keys;

    /// Checks the keys of a table that selects this kind. `store` is the configured store, whose
    /// files a destination must not write; `None` if its URL has a mistake. Returns `None` if a
    /// value that this kind needs cannot be read, and that mistake is reported already.
    fn check(
        keys: Self::Keys,
        location: &Location,
        store: Option<&StoreUrl>,
    ) -> Result<Option<Self>, Mistakes>;

    /// Creates the destination. `clock` is the clock for signatures and certificates.
    fn build(&self, limits: Limits, clock: &Clock) -> anyhow::Result<Box<dyn Destination>>;

    /// Adds the settings that should be equal on all gateways to a digest, which other gateways
    /// compare with theirs. A secret is added only as its fingerprint.
    fn digest(&self, add: &mut dyn FnMut(&[u8]));

    /// Where it leads, for operators: without anything that may be a secret.
    fn target(&self) -> String;

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
