//! Requests as lines: as they come over the wire, and the output of `curl -v`.

use super::{Form, SavedRequest, has_signed};

/// Reads `Name: value` lines, an empty line, and the body up to the last byte. A request line in
/// front is ignored. `None`: this is not a request.
pub(super) fn read(bytes: &[u8]) -> Option<SavedRequest> {
    let verbose = headers(bytes.split(|byte| *byte == b'\n').filter_map(sent));
    if has_signed(&verbose) {
        // The body is not shown.
        return Some(SavedRequest::new(Form::CurlVerbose, verbose, None));
    }
    let (first, _) = split_line(bytes);
    let (head, body) = split_head(bytes);
    let headers = headers(head.split(|byte| *byte == b'\n'));
    // A response begins with the version.
    let version = first.rsplit(|byte| *byte == b' ').next()?;
    let is_request = version.starts_with(b"HTTP/") && version.len() < first.len();
    let is_request = has_signed(&headers) || is_request;
    is_request.then(|| SavedRequest::new(Form::Http, headers, body.map(<[u8]>::to_vec)))
}

/// A line of `curl -v` that shows what it sent.
fn sent(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"> ")
}

fn headers<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Vec<(String, String)> {
    lines.filter_map(|line| header(line.trim_ascii())).collect()
}

fn header(line: &[u8]) -> Option<(String, String)> {
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end();
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    is_name.then(|| (name.to_owned(), value.trim().to_owned()))
}

/// The lines before the first empty one, and the body behind it.
fn split_head(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        if line.is_empty() {
            return (&bytes[..bytes.len() - rest.len()], Some(after));
        }
        rest = after;
    }
    (bytes, None)
}

/// The first line, without its end, and the rest.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}
