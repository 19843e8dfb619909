//! Ids in OpenAI's forms.

use crate::clock::Moment;

/// An id with this prefix, such as `resp_`, and 32 hexadecimal digits.
pub(crate) fn new(prefix: &str) -> String {
    format!("{prefix}{}", hex())
}

/// 32 random hexadecimal digits.
pub(crate) fn hex() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// The id of a webhook. Those in OpenAI's documentation begin with their time.
pub(crate) fn webhook(now: Moment) -> String {
    format!("wh_{:08x}{}", now.seconds(), &hex()[..24])
}
