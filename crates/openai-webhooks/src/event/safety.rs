//! Safety events with more than an id.

use serde::{Deserialize, Serialize};

use super::shape::{Field, Shaped};

/// The `data` of `safety_identifier.blocked`. It is complete: there is nothing to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SafetyIdentifierBlockedData {
    /// The safety identifier that the request named.
    pub safety_identifier: String,
    /// Reason for the block, for instance `bio` or `cyber`.
    pub safety_category: String,
    /// The model that the request named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The project of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The unique ID of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Shaped for SafetyIdentifierBlockedData {
    const FIELDS: &'static [Field] = &[
        Field::text("safety_identifier"),
        Field::text("safety_category"),
        Field::text("model").optional(),
        Field::text("project_id").optional(),
        Field::text("request_id").optional(),
    ];
    const RESOURCE: &'static str = "safety_identifier";
}
