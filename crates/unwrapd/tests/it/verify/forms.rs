//! Requests in the forms in which people save them are read, or the file is named for what it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openai_webhooks::{EventType, WebhookHeaders};
use serde_json::json;
use tempfile::TempDir;

use super::{SENT_AT, assert_prints, saved, signed, stdout, verify, verify_saved, written};

const PAYLOAD: &str = EventType::ResponseCompleted.sample();

fn map(headers: &WebhookHeaders) -> serde_json::Map<String, serde_json::Value> {
    let pairs = headers.pairs();
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.into()));
    pairs.into_iter().collect()
}

#[test]
fn a_request_is_authentic_in_every_form() {
    let headers = signed(PAYLOAD);
    let plain = String::from_utf8(saved(&headers, PAYLOAD)).unwrap();
    let pairs = headers.pairs();
    let map = map(&headers);
    let cgi: serde_json::Map<String, serde_json::Value> = pairs
        .iter()
        .map(|(name, value)| {
            let name = name.to_uppercase().replace('-', "_");
            (format!("HTTP_{name}"), (*value).into())
        })
        .collect();
    let base64 = STANDARD.encode(PAYLOAD);
    for (form, request) in [
        ("a byte order mark", format!("\u{FEFF}{plain}")),
        ("empty first lines", format!("\r\n\n{plain}")),
        ("JSON", json!({ "headers": map, "body": PAYLOAD }).to_string()),
        ("CGI", json!({ "headers": cgi, "body": PAYLOAD }).to_string()),
        ("Lambda", json!({ "version": "2.0", "headers": map, "body": base64, "isBase64Encoded": true, "requestContext": { "timeEpoch": SENT_AT * 1000 } }).to_string()),
        ("API Gateway", json!({ "headers": map, "multiValueHeaders": {}, "body": PAYLOAD, "isBase64Encoded": false }).to_string()),
    ] {
        let output = verify_saved(request.as_bytes());
        assert_eq!(output.status.code(), Some(0), "{form}: {}", stdout(&output));
    }
}

#[test]
fn headers_in_every_form_go_with_a_body_in_a_file() {
    let folder = TempDir::new().unwrap();
    let body = written(folder.path(), "event.json", PAYLOAD);
    let headers = signed(PAYLOAD);
    let lines = |begin: &str, separator: &str| {
        let pairs = headers.pairs();
        let lines = pairs.map(|(name, value)| format!("{begin}{name}{separator}{value}"));
        lines.join("\n")
    };
    for (form, content) in [
        ("http", lines("", ": ")),
        (
            "curl_verbose",
            format!(
                "* Connected\n> POST / HTTP/1.1\n{}\n> \n< HTTP/1.1 400\n",
                lines("> ", ": ")
            ),
        ),
        ("json", json!(map(&headers)).to_string()),
    ] {
        let file = written(folder.path(), "headers.txt", content);
        let at = SENT_AT.to_string();
        let mut command = verify(&[&file, "--body", &body, "--at", &at]);
        let report = super::reports(&mut command).remove(0);
        assert_eq!(report["authentic"], true, "{form}: {report}");
        assert_eq!(report["form"], form);
        // Without the body the command says so, and does not call the request forged.
        let alone = verify(&[&file]).output().unwrap();
        let told = String::from_utf8(alone.stderr).unwrap();
        assert_eq!(alone.status.code(), Some(2), "{form}: {told}");
        assert!(told.contains("name its file with --body"), "{told}");
    }
}

#[test]
fn a_file_of_another_kind_is_told_with_exit_code_2() {
    for (content, part) in [
        (PAYLOAD.as_bytes(), "a body without headers"),
        (b"", "empty"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", "not a saved request"),
        (b"just some words", "not a saved request"),
    ] {
        let output = verify_saved(content);
        let told = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(part), "{told}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_body_that_was_saved_as_json_is_a_body_that_was_parsed() {
    let headers = map(&signed(PAYLOAD));
    let event: serde_json::Value = serde_json::from_str(PAYLOAD).unwrap();
    let output = verify_saved(
        json!({ "headers": headers, "body": event })
            .to_string()
            .as_bytes(),
    );
    assert_eq!(output.status.code(), Some(4));
    assert_prints(&output, "Its body is JSON and not a text");
    assert_prints(&output, "not authentic: body_reserialised");
}

#[test]
fn a_wrong_use_is_named() {
    let folder = TempDir::new().unwrap();
    let request = written(
        folder.path(),
        "request.txt",
        saved(&signed(PAYLOAD), PAYLOAD),
    );
    for (arguments, code, part) in [
        (&[][..], 2, "REQUEST"),
        (&["/no/such/file"], 3, "/no/such/file"),
        (&["-", "--body", "-"], 2, "stdin"),
        (&["-", "-"], 2, "stdin"),
        (&[&request, &request, "--body", "x"], 2, "one by one"),
        (&[&request, "--quarantined", "1"], 2, "cannot be used with"),
        (&["--quarantined", "0"], 2, "1 or more"),
        (
            &[&request, "--secret-env", "NOT_THERE"],
            2,
            "NOT_THERE is not set",
        ),
    ] {
        let output = verify(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(part), "{arguments:?}: {told}");
    }
}
