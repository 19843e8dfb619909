//! Errors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error according to [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457).
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The meaning of the status.
    pub(crate) title: String,
    pub(crate) status: u16,
    /// Cause and remedy.
    pub(crate) detail: String,
}
