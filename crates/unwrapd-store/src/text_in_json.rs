//! Types that are text in JSON.

/// `text_in_json!(Type, |value| text)`: the conversions that
/// `#[serde(try_from = "String", into = "String")]` needs. A text is read as `FromStr` reads it.
macro_rules! text_in_json {
    ($type:ty, $to_text:expr) => {
        impl TryFrom<String> for $type {
            type Error = <$type as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                let to_text: fn($type) -> Self = $to_text;
                to_text(value)
            }
        }
    };
}
pub(crate) use text_in_json;
