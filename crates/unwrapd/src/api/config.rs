//! `/api/v1/config`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The configuration as it was loaded, without secrets.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigView {
    /// The absolute path of the file. Null if there is none.
    pub(crate) file: Option<String>,
    /// Time at which it was loaded.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) loaded_at: Timestamp,
    /// Keys whose values take effect only after a restart. The gateway still runs with those from
    /// before.
    pub(crate) after_restart: Vec<String>,
    /// The tables, in the order of the reference.
    pub(crate) tables: Vec<ConfigTable>,
}

/// A table of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigTable {
    /// `server`, `log`, `store`, `endpoint` or `destination`.
    pub(crate) table: String,
    /// Name of the endpoint or of the destination. Null for the other tables.
    pub(crate) name: Option<String>,
    /// The keys of the file first, then the defaults.
    pub(crate) settings: Vec<ConfigSetting>,
}

/// A key of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigSetting {
    pub(crate) key: String,
    /// The value; `[redacted]` for a secret. Null: none, or no limit.
    pub(crate) value: Value,
    /// Line of the file that sets it. Null: the default.
    pub(crate) line: Option<usize>,
    /// Where each secret comes from: an environment variable or a file.
    pub(crate) secrets_from: Vec<String>,
}
