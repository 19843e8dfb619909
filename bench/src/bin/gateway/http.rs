//! As much HTTP/1.1 as both ends of a benchmark need, and no more: it must cost next to nothing
//! beside what is measured.

use anyhow::{Context as _, bail};
use memchr::memmem;

/// Largest head or body that anyone here sends.
const BYTES_MAX: usize = 64 * 1024;

/// Where the parts of a message end that is whole.
pub struct MessageEnds {
    pub head: usize,
    pub body: usize,
}

/// The first message in `buffer`, or `None` while some of it is missing.
pub fn first_message(buffer: &[u8]) -> anyhow::Result<Option<MessageEnds>> {
    if buffer.len() > BYTES_MAX {
        bail!("a message of HTTP is larger than {BYTES_MAX} bytes");
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
        .context("an answer is not HTTP")
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
                .context("a content-length is no number");
        }
        if begins_with(line, ENCODING) {
            bail!("a message comes in chunks, which is not measured here");
        }
    }
    Ok(0)
}

fn begins_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}
