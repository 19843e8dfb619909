//! An excerpt of the response of a destination.

use std::fmt;

use crate::printable::is_hidden;

/// Maximum size in bytes. An excerpt is stored for each attempt, so it is limited to some lines.
const BYTES_MAX: usize = 2048;

/// An excerpt of the response of a destination: a part of the response body, or of the output of a
/// command. People see it with the attempt. It may contain content of the message, so unlike a
/// summary it is never logged, and `Debug` omits it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ResponseExcerpt(String);

impl ResponseExcerpt {
    /// Number of bytes to read for an excerpt: one more than is stored, to detect a longer
    /// response.
    pub const READ_MAX: usize = BYTES_MAX + 1;

    /// The beginning of a response.
    #[must_use]
    pub fn beginning(bytes: &[u8]) -> Self {
        match bytes.get(..BYTES_MAX) {
            Some(beginning) if bytes.len() > BYTES_MAX => {
                Self(format!("{} …", printable(beginning)))
            }
            _ => Self(printable(bytes)),
        }
    }

    /// The end of an output, where a program prints why it fails.
    #[must_use]
    pub fn end(bytes: &[u8]) -> Self {
        match bytes.len().checked_sub(BYTES_MAX) {
            Some(start) if start > 0 => Self(format!("… {}", printable(&bytes[start..]))),
            _ => Self(printable(bytes)),
        }
    }

    /// One line of text, without control characters. Empty if there was no response body.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ResponseExcerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseExcerpt({} bytes)", self.0.len())
    }
}

/// Foreign text, with every character escaped that acts on a terminal or a page.
fn printable(bytes: &[u8]) -> String {
    let mut printable = String::with_capacity(bytes.len());
    for letter in String::from_utf8_lossy(bytes).trim().chars() {
        if is_hidden(letter) {
            printable.extend(letter.escape_default());
        } else {
            printable.push(letter);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_of_a_response_is_one_harmless_line() {
        let said = ResponseExcerpt::beginning(b"\r\n no:\n\x1b[2Jgone\0 \xff\xe2\x80\xaex \n");
        assert_eq!(
            said.as_str(),
            "no:\\n\\u{1b}[2Jgone\\u{0} \u{fffd}\\u{202e}x"
        );
        assert_eq!(
            ResponseExcerpt::beginning(b" \n"),
            ResponseExcerpt::default()
        );
    }

    #[test]
    fn an_excerpt_has_the_beginning_of_a_long_response_and_the_end_of_long_output() {
        let mut bytes = vec![b'a'; BYTES_MAX];
        assert_eq!(
            ResponseExcerpt::beginning(&bytes).as_str(),
            "a".repeat(BYTES_MAX)
        );
        assert_eq!(ResponseExcerpt::end(&bytes).as_str(), "a".repeat(BYTES_MAX));
        bytes.extend(b"b");
        let beginning = ResponseExcerpt::beginning(&bytes);
        assert_eq!(beginning.as_str(), format!("{} …", "a".repeat(BYTES_MAX)));
        let end = ResponseExcerpt::end(&bytes);
        assert_eq!(end.as_str(), format!("… {}b", "a".repeat(BYTES_MAX - 1)));
    }

    #[test]
    fn an_excerpt_is_not_shown_for_debugging() {
        assert!(!format!("{:?}", ResponseExcerpt::beginning(b"private")).contains("private"));
    }
}
