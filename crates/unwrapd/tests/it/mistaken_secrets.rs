//! A text that is certainly not a secret is refused at the start, wherever it is read from;
//! harmless characters around a secret are dropped.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::Output;

use openai_webhooks::EventType;
use tempfile::TempDir;

use crate::support::process::{Serving, unwrapd};
use crate::support::{APP_SECRET, OPENAI_SECRET};

const CASES: [(&str, &str); 12] = [
    ("sk-proj-planted", "this is an API key"),
    ("whe_planted0123", "the id of a webhook endpoint"),
    ("whsec-planted", "it is `whsec_`"),
    ("Bearer whsec_planted", "remove everything before it"),
    (
        "OPENAI_WEBHOOK_SECRET=whsec_planted",
        "remove everything before it",
    ),
    ("\u{201c}whsec_planted\u{201d}", "quotation marks"),
    ("${PLANTED_SECRET}", "not expanded"),
    ("undefined", "a placeholder"),
    ("whpk_planted", "asymmetric signatures"),
    ("whsec_planted...planted", "left out or masked"),
    ("planted\nplanted", "several lines"),
    ("/run/secrets/planted", "the location of a secret"),
];

fn write_config(folder: &Path, endpoint: &str, destination: &str) {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [store]\nurl = \"sqlite:{}/unwrapd.db\"\n\
         [[endpoint]]\nname = \"production\"\nsecrets = [{{ {endpoint} }}]\n\
         [[destination]]\nname = \"app\"\nurl = \"http://127.0.0.1:1/\"\nsecret = {{ {destination} }}\n",
        folder.display()
    );
    std::fs::write(folder.join("unwrapd.toml"), config).unwrap();
}

fn serve(folder: &Path, variables: &[(&str, &OsStr)]) -> Output {
    let mut command = unwrapd();
    command.args(["serve", "--config"]);
    command.arg(folder.join("unwrapd.toml"));
    command.envs(variables.iter().copied()).output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, hint: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(hint), "{hint}: {said}");
    for content in ["planted", "PLANTED", "REhMUFRYX"] {
        assert!(!said.contains(content), "{said}");
    }
    assert!(!said.contains("receiving on"), "{said}");
}

#[test]
fn each_mistaken_secret_is_named_from_the_environment_and_from_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    let good = [("GOOD", OsStr::new(OPENAI_SECRET))];
    let in_file = format!("file = \"{}\"", file.display());
    for (text, hint) in CASES {
        write_config(
            folder.path(),
            "env = \"OPENAI_WEBHOOK_SECRET\"",
            "env = \"GOOD\"",
        );
        let variables = [good[0], ("OPENAI_WEBHOOK_SECRET", OsStr::new(text))];
        assert_refused(&serve(folder.path(), &variables), hint);

        std::fs::write(&file, format!("\u{feff}{text}\r\n")).unwrap();
        write_config(folder.path(), "env = \"GOOD\"", &in_file);
        assert_refused(&serve(folder.path(), &good), hint);
    }
    let list = format!("{OPENAI_SECRET},{OPENAI_SECRET}");
    std::fs::write(&file, list).unwrap();
    assert_refused(&serve(folder.path(), &good), "configure each separately");
    let bytes = OsString::from_vec(b"whsec_planted\xff".to_vec());
    write_config(
        folder.path(),
        "env = \"OPENAI_WEBHOOK_SECRET\"",
        "env = \"GOOD\"",
    );
    let variables = [good[0], ("OPENAI_WEBHOOK_SECRET", &*bytes)];
    assert_refused(&serve(folder.path(), &variables), "not valid UTF-8");
}

#[test]
fn commands_that_sign_and_verify_name_the_mistake_too() {
    let folder = TempDir::new().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, "{}").unwrap();
    for (text, hint) in CASES {
        let mut command = unwrapd();
        command.arg("sign").arg(&body);
        let output = command.env("OPENAI_WEBHOOK_SECRET", text).output().unwrap();
        assert_refused(&output, hint);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_and_blanks_of_any_alphabet_around_a_secret_are_dropped() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("\u{feff}\u{a0}{OPENAI_SECRET}\u{3000}\r\n")).unwrap();
    let in_file = format!("file = \"{}\"", file.display());
    write_config(folder.path(), &in_file, "env = \"APP\"");
    let app = format!("\u{a0}{APP_SECRET}\u{200b}");
    let serving = Serving::start(folder.path(), &[("APP", &app)]);
    serving.receive("wh_1", EventType::BatchCompleted).await;
}

#[test]
fn a_time_in_milliseconds_is_refused_where_a_request_is_signed() {
    let folder = TempDir::new().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, "{}").unwrap();
    let mut command = unwrapd();
    command
        .arg("sign")
        .arg(&body)
        .args(["--at", "1795000000000"]);
    let output = command.env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET).output();
    assert_refused(&output.unwrap(), "13 digits are milliseconds");
    let output = unwrapd().args(["sign", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        help.contains("-H 'content-type: application/json'"),
        "{help}"
    );
}
