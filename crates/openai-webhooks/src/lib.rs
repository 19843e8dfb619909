// One of the front page's examples is for axum; they are run where that feature is on.
#![cfg_attr(any(not(doctest), feature = "axum"), doc = include_str!("../README.md"))]
#![deny(missing_docs, missing_debug_implementations)]

mod error;
mod event;
mod headers;
mod secret;
mod sign;
mod webhooks;

#[cfg(feature = "axum")]
pub mod axum;

pub use error::{UnwrapError, VerificationError};
pub use event::*;
pub use headers::{
    HeaderValueLike, HeadersLike, SIGNATURES_MAX, SignedHeaders, WEBHOOK_ID, WEBHOOK_ID_BYTES_MAX,
    WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
};
pub use secret::{KEY_BYTES_MIN, OPENAI_WEBHOOK_SECRET, Secret, SecretError};
pub use sign::WebhookHeaders;
pub use webhooks::{DEFAULT_TOLERANCE, Verified, Webhooks};
