//! A file of settings as text: its tables, the paths and secrets that it names, and its mistakes.
//!
//! No key is defined here. Each part of the gateway takes its own keys from a table, and checks
//! them beside the code that they set.

mod document;
mod mistakes;
mod names;
mod paths;
mod secrets;
mod table;
mod url;
mod values;
mod written;

pub(crate) use document::Document;
pub(crate) use mistakes::{Mistake, Mistakes, looks_secret, shown_pattern};
pub(crate) use names::Names;
pub(crate) use paths::{check as check_path, from_folder, shown_path};
pub(crate) use secrets::{SecretSource, changed_secrets, webhooks};
pub(crate) use table::{Key, Keys, Location, Table};
pub(crate) use url::{checked as checked_url, http_url, typed_url};
pub(crate) use values::{address, differing, missing, required};
pub use written::Written;
pub(crate) use written::{REDACTED, WrittenTable};
