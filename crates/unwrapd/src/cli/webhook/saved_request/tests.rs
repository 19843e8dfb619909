use proptest::prelude::*;

use super::*;

const ID: &str = "wh_1";
const SIGNATURE: &str = "v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=";

#[track_caller]
fn read(text: &str, form: Form) -> SavedRequest {
    let request = SavedRequest::parse(text.as_bytes()).unwrap();
    assert_eq!(request.form, form, "{text}");
    for (name, value) in [
        ("webhook-id", ID),
        ("webhook-timestamp", "1750287078"),
        ("webhook-signature", SIGNATURE),
    ] {
        assert_eq!(request.value(name), Some(value), "{text}");
    }
    request
}

fn lines(separator: &str) -> String {
    format!(
        "webhook-id{separator}{ID}\nWebhook-Timestamp{separator}1750287078\nwebhook-signature{separator}{SIGNATURE}\n"
    )
}

#[test]
fn a_request_from_the_wire_is_read_to_its_last_byte() {
    let head = format!("POST /webhooks/a HTTP/1.1\nHost: x:80\n{}\n", lines(": "));
    let head = head.replace('\n', "\r\n");
    let request = read(&format!("{head}{{}}\r\n\r\n"), Form::Http);
    assert_eq!(request.headers.len(), 4);
    assert_eq!(request.body.unwrap(), b"{}\r\n\r\n");
}

#[test]
fn headers_alone_are_a_request_whose_body_is_elsewhere() {
    for text in [
        lines(": "),
        lines(":"),
        lines(" : "),
        format!("\n\n{}\n", lines(": ")),
    ] {
        assert_eq!(read(&text, Form::Http).body, None);
    }
    let indented = lines(": ").replace('\n', "\n  ");
    assert_eq!(read(indented.trim_end(), Form::Http).body, None);
}

#[test]
fn a_byte_order_mark_and_utf_16_are_read_with_a_note() {
    let text = format!("\u{FEFF}{}\n{{}}", lines(": "));
    assert!(read(&text, Form::Http).note.is_some());
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = SavedRequest::parse(&wide).unwrap();
    assert_eq!(wide.body.unwrap(), b"{}");
    assert!(wide.note.unwrap().contains("UTF-16"));
}

#[test]
fn the_output_of_curl_has_the_headers_that_it_sent() {
    let sent = lines(": ").trim_end().replace('\n', "\n> ");
    let text = format!(
        "*   Trying 127.0.0.1:3000...\n> POST /webhook HTTP/1.1\n> Host: localhost:3000\n> {sent}\n> \n\
         * upload completely sent off: 2 bytes\n< HTTP/1.1 400 Bad Request\n< content-length: 5\n< \nwrong"
    );
    let request = read(&text, Form::CurlVerbose);
    assert_eq!((request.headers.len(), request.body), (4, None));
}

#[test]
fn json_is_read_in_the_forms_of_many_programs() {
    let of = |[id, time, signature]: [&str; 3]| {
        let (time_text, signature_text) = (r#""1750287078""#, format!("\"{SIGNATURE}\""));
        id.replace('$', &format!("\"{ID}\""))
            + &time.replace('$', time_text)
            + &signature.replace('$', &signature_text)
    };
    for headers in [
        of([
            r#"{"webhook-id":$,"#,
            r#""webhook-timestamp":$,"#,
            r#""webhook-signature":$}"#,
        ]),
        of([
            r#"{"webhook-id":[$],"#,
            r#""webhook-timestamp":[$],"#,
            r#""webhook-signature":[$]}"#,
        ]),
        of([
            r#"{"HTTP_WEBHOOK_ID":$,"#,
            r#""HTTP_WEBHOOK_TIMESTAMP":$,"#,
            r#""HTTP_WEBHOOK_SIGNATURE":$}"#,
        ]),
        of([
            r#"[["webhook-id",$],"#,
            r#"["webhook-timestamp",$],"#,
            r#"["webhook-signature",$]]"#,
        ]),
        of([
            r#"[{"name":"webhook-id","value":$},"#,
            r#"{"name":"webhook-timestamp","value":$},"#,
            r#"{"name":"webhook-signature","value":$}]"#,
        ]),
        of([
            r#"["webhook-id",$,"#,
            r#""webhook-timestamp",$,"#,
            r#""webhook-signature",$]"#,
        ]),
    ] {
        assert_eq!(read(&headers, Form::Json).body, None);
        for body in [
            r#""body":"{\"a\": 1}""#,
            r#""payload_base64":"eyJhIjogMX0=""#,
            r#""body":"eyJhIjogMX0=","isBase64Encoded":true"#,
            r#""body":{"a": 1}"#,
        ] {
            let request = read(&format!("{{\"headers\":{headers},{body}}}"), Form::Json);
            assert_eq!(request.body.unwrap(), br#"{"a": 1}"#, "{body}");
            let within = format!("[{{\"request\":{{\"headers\":{headers},{body}}}}}]");
            assert!(read(&within, Form::Json).body.is_some());
        }
        for arrival in [
            r#""requestContext":{"timeEpoch":1750287079123}"#,
            r#""received_at":"2025-06-18T22:51:19Z""#,
        ] {
            let event = format!("{{\"headers\":{headers},\"body\":\"{{}}\",{arrival}}}");
            assert_eq!(read(&event, Form::Json).arrived_at, Some(1_750_287_079));
        }
    }
}

#[test]
fn a_file_of_another_kind_is_named() {
    for (content, part) in [
        (&b""[..], "empty"),
        (b"\n \r\n", "empty"),
        (b"{\"a\": 1}", "has no headers"),
        (
            b"{\"id\":\"evt_1\",\"type\":\"a.b\"}",
            "body without headers",
        ),
        (b"{\"id\":", "not JSON"),
        (b"Dear all,\nnote: nothing\n", "not a saved request"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "not a saved request"),
        (b"\x1f\x8b\x08", "not a saved request"),
    ] {
        let problem = SavedRequest::parse(content).unwrap_err();
        assert!(problem.contains(part), "{problem}");
    }
}

/// Parts of all forms, in any order.
fn parts() -> impl Strategy<Value = String> {
    let parts = proptest::sample::select(vec![
        "webhook-id",
        "HTTP_WEBHOOK_ID",
        "webhook-signature: v1,",
        "webhook-timestamp",
        ":",
        "\n",
        "\r\n",
        "> ",
        "'",
        "\"",
        "\\",
        "\\u12",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"headers\"",
        "\"body\"",
        "é",
        "\u{FEFF}",
        "\0",
        "1750287078",
        "null",
        "HTTP/1.1",
    ]);
    proptest::collection::vec(parts, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_content_is_read_or_refused(content in parts(), bytes in any::<Vec<u8>>()) {
        drop(SavedRequest::parse(content.as_bytes()));
        drop(SavedRequest::parse(&bytes));
    }
}
