//! Invalid URLs are refused before anything runs, wherever they are configured.

use std::process::Output;

use tempfile::TempDir;

use crate::support::application::Application;
use crate::support::process::{unwrapd, write_config};
use crate::support::{APP_SECRET, OPENAI_SECRET};

const WRONG: [(&str, &str); 13] = [
    ("http://${APP_HOST}:3000/h", "placeholder"),
    ("http://app/${TENANT}/h", "placeholder"),
    ("http://app/{{x}}", "placeholder"),
    ("http://<host>/h", "placeholder"),
    ("http:///h", "names no host"),
    ("http://3000/h", "the host is a number"),
    ("http://app:0/h", "1 to 65535"),
    ("http://app:/h", "no port follows"),
    ("http://app/h#top", "never sent"),
    ("http://app/a b", "white space"),
    ("http://0.0.0.0:3000/h", "write 127.0.0.1"),
    ("http://[::]:3000/h", "write 127.0.0.1"),
    ("http://undefined/h", "a value is missing"),
];

fn run(arguments: &[&str]) -> Output {
    unwrapd()
        .args(arguments)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .output()
        .unwrap()
}

fn complaint(arguments: &[&str]) -> String {
    let output = run(arguments);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
    complaint
}

#[test]
fn a_destination_with_such_a_url_is_refused_with_line_and_remedy() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("unwrapd.toml");
    let more = [
        ("localhost:3000/h", "must begin with http://"),
        ("app", "must be a URL"),
    ];
    for (url, cause) in WRONG.into_iter().chain(more) {
        write_config(folder.path(), url);
        let complaint = complaint(&["serve", "--config", config.to_str().unwrap()]);
        assert!(complaint.contains(cause), "{url}: {complaint}");
        assert!(complaint.contains("unwrapd.toml:"), "{complaint}");
        assert!(!complaint.contains(url), "it shows a value: {complaint}");
    }
}

#[test]
fn a_command_with_such_a_url_is_refused() {
    for (url, cause) in WRONG {
        for arguments in [
            &["trigger", "batch.failed", "--to", url][..],
            &["dev", "--once", "--forward-to", url],
            &["destinations", "ls", "--admin", url],
        ] {
            let complaint = complaint(arguments);
            assert!(complaint.contains(cause), "{arguments:?}: {complaint}");
        }
    }
    let path = complaint(&["trigger", "batch.failed", "--to", "/webhook"]);
    assert!(path.contains("a path without a server"), "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_port_means_this_machine() {
    let mut app = Application::start([]).await;
    let url: reqwest::Url = app.url.parse().unwrap();
    let port = url.port().unwrap();
    for typed in [
        format!("{port}/webhook"),
        format!(":{port}/webhook"),
        format!("localhost:{port}/webhook"),
        format!("127.0.0.1:{port}/webhook"),
    ] {
        let arguments = ["trigger", "batch.failed", "--to", &typed];
        let output = tokio::task::block_in_place(|| run(&arguments));
        assert_eq!(output.status.code(), Some(0), "{typed}: {output:?}");
        app.next().await;
    }
}
