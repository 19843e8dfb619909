//! A minimal HTTP/1.1 parser for the load and the sink. Its cost must be negligible beside the
//! measured servers.

use anyhow::{Context as _, bail};
use memchr::memmem;

/// Size limit of a message, in bytes.
const BYTES_MAX: usize = 64 * 1024;

/// Offsets at which the head and the body of a complete message end.
pub struct MessageEnds {
    pub head: usize,
    pub body: usize,
}

/// Ends of the first message in `buffer`; `None` while it is incomplete.
pub fn first_message(buffer: &[u8]) -> anyhow::Result<Option<MessageEnds>> {
    if buffer.len() > BYTES_MAX {
        bail!("an HTTP message is larger than {BYTES_MAX} bytes");
    }
    let Some(head) = memmem::find(buffer, b"\r\n\r\n").map(|end| end + 4) else {
        return Ok(None);
    };
    let body = head + content_length(&buffer[..head])?;
    Ok((buffer.len() >= body).then_some(MessageEnds { head, body }))
}

pub fn status(answer: &[u8]) -> anyhow::Result<u16> {
    let status = answer.get(9..12).and_then(|code| str::from_utf8(code).ok());
    status
        .and_then(|code| code.parse().ok())
        .context("an answer has no HTTP status")
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    const LENGTH: &[u8] = b"content-length:";
    const ENCODING: &[u8] = b"transfer-encoding:";
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[start..end];
        start = end + 1;
        if begins_with(line, LENGTH) {
            let value = str::from_utf8(&line[LENGTH.len()..])?;
            return value
                .trim()
                .parse()
                .context("a content-length is not a number");
        }
        if begins_with(line, ENCODING) {
            bail!("a message is chunked, which the benchmark does not support");
        }
    }
    Ok(0)
}

fn begins_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}
