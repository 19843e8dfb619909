//! Ports that cannot be opened, and fewer open files than connections need.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use openai_webhooks::EventType;
use tempfile::TempDir;

use crate::support::process::{Serving, unwrapd, write_server_config};
use crate::support::{OPENAI_SECRET, Webhook, address_of, client};

/// The output of `serve` for this address before it ends.
fn refused(listen: &str) -> (Output, String) {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let file = folder.path().join("unwrapd.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replacen("127.0.0.1:0", listen, 1);
    std::fs::write(&file, config).unwrap();
    let output = unwrapd()
        .args(["serve", "--config"])
        .arg(&file)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn each_cause_of_a_port_that_cannot_be_opened_has_its_own_remedy() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let (output, said) = refused(&held.local_addr().unwrap().to_string());
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("another program") && said.contains("ss -ltnp"),
        "{said}"
    );

    // An address for documentation, which no machine has.
    let (output, said) = refused("192.0.2.1:8080");
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("no such address"), "{said}");
    assert!(!said.contains("another program"), "{said}");
}

/// Runs the process in a shell with this limit of open files.
#[tokio::test(flavor = "multi_thread")]
async fn connections_follow_the_limit_of_open_files() {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let serve = |files: u32| {
        Command::new("/bin/sh")
            .args([
                "-c",
                &format!("ulimit -n {files}; exec \"$0\" serve --config \"$1\""),
            ])
            .arg(crate::support::process::program())
            .arg(folder.path().join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut serving = serve(64);
    let stderr = std::io::BufReader::new(serving.stderr.take().unwrap());
    let mut said = Vec::new();
    let mut url = None;
    for line in std::io::BufRead::lines(stderr).map_while(Result::ok) {
        if let Some((_, at)) = line.split_once("receiving on ") {
            url = Some(at.to_owned());
            break;
        }
        said.push(line);
    }
    let said = said.join("\n");
    assert!(
        said.contains("it accepts 32 connections at a time instead of 768"),
        "{said}"
    );
    let url = url.expect(&said);
    // More connections than files. A new connection evicts each of them.
    let address = address_of(&url);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        // It may be evicted itself before it has sent anything.
        match webhook.request(&client(), &url).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                break;
            }
            Err(_) => assert!(std::time::Instant::now() < deadline),
        }
    }
    serving.kill().unwrap();
    serving.wait().unwrap();

    let refused = serve(32).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("may open 32 files, and needs at least 64"),
        "{said}"
    );
}

/// Each reload reported a change of `connections_max`, which nobody had made.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_open_files_is_no_change_of_the_configuration() {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(crate::support::process::program())
        .env("NO_COLOR", "1");
    let mut serving = Serving::start_by(command, folder.path(), &[], &[]);
    serving.said("it accepts 32 connections at a time instead of 768");
    serving.signal(rustix::process::Signal::HUP);
    serving.announced("was reloaded: nothing changed");
    let url = format!("{}/api/v1/config", serving.admin);
    let config = client().get(url).send().await.unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config.bytes().await.unwrap()).unwrap();
    let server = config["tables"].as_array().unwrap().iter();
    let mut settings = server
        .filter(|table| table["table"] == "server")
        .flat_map(|table| table["settings"].as_array().unwrap());
    let connections = settings.find(|setting| setting["key"] == "connections_max");
    assert_eq!(connections.unwrap()["value"], 768);
}
