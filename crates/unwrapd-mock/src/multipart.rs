//! Bodies of `multipart/form-data` ([RFC 7578](https://www.rfc-editor.org/rfc/rfc7578)), whole in
//! memory.

use bytes::Bytes;

/// Most parts of a body.
const PARTS_MAX: usize = 16;

pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) content: Bytes,
}

/// The parts of a body, if its form is right.
pub(crate) fn parse(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let (media_type, parameters) = content_type.split_once(';')?;
    if !media_type
        .trim()
        .eq_ignore_ascii_case("multipart/form-data")
    {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    let delimiter = format!("\r\n--{boundary}");
    // The delimiter before the first part may lack its line end.
    let first = delimiter.trim_start().as_bytes();
    let mut at = find(body, 0, first)? + first.len();
    let mut parts = Vec::new();
    while !body[at..].starts_with(b"--") {
        if parts.len() == PARTS_MAX {
            return None;
        }
        // White space may follow a delimiter.
        let head = find(body, at, b"\r\n")? + 2;
        let content = find(body, head, b"\r\n\r\n")? + 4;
        let end = find(body, content, delimiter.as_bytes())?;
        let headers = std::str::from_utf8(&body[head..content]).ok()?;
        parts.push(part(headers, body.slice(content..end))?);
        at = end + delimiter.len();
    }
    Some(parts)
}

fn part(headers: &str, content: Bytes) -> Option<Part> {
    let disposition = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_disposition = name.trim().eq_ignore_ascii_case("content-disposition");
        is_disposition.then_some(value)
    })?;
    let (_, parameters) = disposition.split_once(';')?;
    Some(Part {
        name: parameter(parameters, "name")?,
        filename: parameter(parameters, "filename"),
        content,
    })
}

/// The value of a parameter, with or without quotation marks.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let is_wanted = name.trim().eq_ignore_ascii_case(wanted);
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(';').unwrap_or((after, "")),
        };
        if is_wanted {
            return Some(value.trim().to_owned());
        }
        rest = rest.trim_start_matches([';', ' ']);
    }
}

/// The position of `wanted` in the bytes from `start` on.
fn find(bytes: &[u8], start: usize, wanted: &[u8]) -> Option<usize> {
    let (first, _) = wanted.split_first()?;
    let mut at = start;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| byte == first)?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_name_and_its_exact_bytes() {
        let body = "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
            Content-Disposition: form-data; filename=\"in put.jsonl\"; name=file\r\n\
            content-type: application/json\r\n\r\n{}\r\n\r\n{}\r\n--b--\r\n";
        let parts = parse("multipart/form-data; boundary=b", &Bytes::from(body)).unwrap();
        let [purpose, file] = &parts[..] else {
            panic!("{}", parts.len())
        };
        assert_eq!(
            (&*purpose.name, &*purpose.content),
            ("purpose", &b"batch"[..])
        );
        assert_eq!(file.name, "file");
        assert_eq!(file.filename.as_deref(), Some("in put.jsonl"));
        assert_eq!(&*file.content, b"{}\r\n\r\n{}");
    }

    #[test]
    fn a_body_of_another_form_has_no_parts() {
        for (content_type, body) in [
            ("application/json", "{}"),
            ("multipart/form-data; boundary=b", ""),
            (
                "multipart/form-data; boundary=b",
                "--b\r\nx: y\r\n\r\nz\r\n--b--",
            ),
            (
                "multipart/form-data; boundary=b",
                "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nz",
            ),
            ("multipart/form-data", "--b--"),
        ] {
            assert!(parse(content_type, &Bytes::from(body)).is_none(), "{body}");
        }
    }
}
