//! `unwrapd verify`: saved requests in every form, the causes of failures, and what it prints.

mod causes;
mod damages;
mod forms;
mod output;
mod quarantined;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use openai_webhooks::{WebhookHeaders, Webhooks};
use serde_json::Value;

use crate::support::process::{output_with, unwrapd};
use crate::support::{OPENAI_SECRET, openai};

/// The time at which the requests are signed, and arrive.
const SENT_AT: i64 = 1_750_287_078;

/// `unwrapd verify`, with the secret of OpenAI.
fn verify(arguments: &[&str]) -> Command {
    let mut command = unwrapd();
    command
        .arg("verify")
        .args(arguments)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .stdin(Stdio::null());
    command
}

/// Runs it with a request that arrived when it was signed.
fn verify_saved(request: &[u8]) -> Output {
    verify_with(&["-", "--at", &SENT_AT.to_string()], request)
}

fn verify_with(arguments: &[&str], stdin: &[u8]) -> Output {
    output_with(&mut verify(arguments), stdin)
}

/// The reports of these files, which arrived when they were signed.
fn reports(command: &mut Command) -> Vec<Value> {
    let output = command.args(["--output", "json"]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!lines.is_empty(), "{errors}");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn assert_prints(output: &Output, part: &str) {
    let text = stdout(output);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(part), "{text}{errors}");
}

/// The headers of a webhook from OpenAI.
fn signed(payload: impl AsRef<[u8]>) -> WebhookHeaders {
    signed_by(&openai(), payload)
}

fn signed_by(webhooks: &Webhooks, payload: impl AsRef<[u8]>) -> WebhookHeaders {
    let id = "wh_685342e6c53c8190a1be43f081506c52";
    webhooks.sign(payload, id, SENT_AT).unwrap()
}

/// A request as it would be saved from the network.
fn saved(headers: &WebhookHeaders, body: impl AsRef<[u8]>) -> Vec<u8> {
    saved_pairs(&headers.pairs(), body)
}

fn saved_pairs(headers: &[(impl AsRef<str>, impl AsRef<str>)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut text = "POST /webhook HTTP/1.1\r\nHost: example.com\r\n".to_owned();
    for (name, value) in headers {
        text.extend([name.as_ref(), ": ", value.as_ref(), "\r\n"]);
    }
    text += "\r\n";
    [text.as_bytes(), body.as_ref()].concat()
}

/// Writes the file into the folder, and returns its path.
fn written(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}
