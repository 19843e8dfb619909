//! A mistake in the configuration is refused at the start, with file, line and remedy.

use std::process::Output;

use tempfile::TempDir;
use unwrapd::config::Config;

use crate::support::process::unwrapd;
use crate::support::{APP_SECRET, OPENAI_SECRET};

const GOOD: &str = r#"
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:STORE"
[[endpoint]]
name = "production"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
[[destination]]
name = "app"
url = "http://127.0.0.1:3000/webhook"
secret = { env = "APP_WEBHOOK_SECRET" }
events = ["response.*"]
"#;

fn serve(config: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    unwrapd()
        .args(["serve", "--config"])
        .arg(file)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .env("SHORT_SECRET", "whsec_c2hvcnQ=")
        .env("SHORT_RAW_SECRET", "short-and-raw")
        .output()
        .unwrap()
}

/// The complaint about `GOOD` with `right` replaced by `wrong`. It must name the line.
fn complaint(right: &str, wrong: &str) -> String {
    assert!(GOOD.contains(right), "{right}");
    let config = GOOD.replacen(right, wrong, 1);
    let line = GOOD[..GOOD.find(right).unwrap()].matches('\n').count() + 1;
    let refused = serve(&config);
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.contains(&format!("gateway.toml:{line}: ")),
        "line {line}: {complaint}"
    );
    complaint
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_right_one() {
    assert!(complaint("listen =", "lisen =").contains("did you mean `listen`?"));
    assert!(complaint("secrets =", "secret =").contains("did you mean `secrets`?"));
    assert!(complaint("events =", "event =").contains("did you mean `events`?"));
}

#[test]
fn bad_addresses_and_urls_are_refused() {
    assert!(complaint("\"127.0.0.1:0\"", "\"localhost\"").contains("an IP address and a port"));
    assert!(complaint("\"http://127.0.0.1:3000/webhook\"", "\"app\"").contains("must be a URL"));
    assert!(complaint("\"http://127.0.0.1:3000/webhook\"", "\"ftp://x/\"").contains("http://"));
    assert!(complaint("\"sqlite:STORE\"", "\"mysql://x\"").contains("sqlite:"));
    for wrong in [
        "sqlite:",
        "sqlite::memory:",
        "sqlite:file:x",
        "sqlite:x?mode=ro",
    ] {
        let wrong = format!("\"{wrong}\"");
        assert!(complaint("\"sqlite:STORE\"", &wrong).contains("path of a file is missing"));
    }
    for wrong in ["\"sqlite://x.db\"", "\"sqlite:///var/x.db\""] {
        assert!(
            complaint("\"sqlite:STORE\"", wrong).contains("the path of the file follows directly")
        );
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_not_shown() {
    let complaint = complaint("http://127.0.0.1:3000", "http://me:hunter2@127.0.0.1:3000");
    assert!(
        complaint.contains("must not have a user or a password"),
        "{complaint}"
    );
    assert!(!complaint.contains("hunter2"), "{complaint}");
}

#[test]
fn a_database_is_named_without_its_password() {
    let url = "url = \"sqlite:STORE\"";
    for (wrong, remedy) in [
        (
            "url = \"postgres://me:hunter2@db/events\"",
            "add `password = { env =",
        ),
        (
            "url = \"postgres://me@db/events?password=hunter2\"",
            "add `password = { env =",
        ),
        ("url = \"postgres://me@db\"", "names no database"),
        ("url = \"postgres:///events\"", "names no host"),
        (
            "url = \"postgresql://me@db/events?sslmode=prefer\"",
            "`sslmode` is `verify-full`",
        ),
        (
            "url = \"postgres://me@db/events?schema=x;y\"",
            "`schema` must have 1 to 48",
        ),
        ("url = \"postgres//me@db/events\"", "the URL of a database"),
        (
            "password = { env = \"APP_WEBHOOK_SECRET\" }",
            "has no password",
        ),
    ] {
        let complaint = complaint(url, wrong);
        assert!(complaint.contains(remedy), "{complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }
    let good = "url = \"postgres://me@db/events\"\n";
    for (wrong, remedy) in [
        ("password = { env = \"NO_SUCH_PASSWORD\" }", "is not set"),
        (
            "password = \"hunter2\"",
            "must not be written in the configuration",
        ),
        ("size_max_mb = 1000", "shorten `retention_days`"),
    ] {
        let config = GOOD.replacen(url, &format!("{good}{wrong}"), 1);
        let refused = String::from_utf8(serve(&config).stderr).unwrap();
        assert!(refused.contains("gateway.toml:6: "), "{refused}");
        assert!(refused.contains(remedy), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    for (right, wrong) in [
        (
            "secret = { env = \"APP_WEBHOOK_SECRET\" }",
            "secret = \"whsec_in_the_file\"",
        ),
        (
            "secrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]",
            "secrets = \"whsec_in_the_file\"",
        ),
        (
            "secrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]",
            "secrets = [\"whsec_in_the_file\"]",
        ),
        (
            "secret = { env = \"APP_WEBHOOK_SECRET\" }",
            "secret = { value = \"whsec_in_the_file\" }",
        ),
        (
            "env = \"APP_WEBHOOK_SECRET\"",
            "env = \"whsec_in_the_file\"",
        ),
        (
            "env = \"APP_WEBHOOK_SECRET\"",
            "file = \"whsec_in_the_file\"",
        ),
        ("events =", "whsec_in_the_file ="),
    ] {
        let complaint = complaint(right, wrong);
        assert!(!complaint.contains("in_the_file"), "{complaint}");
    }
}

#[test]
fn missing_and_short_secrets_are_refused_with_their_source() {
    let missing = complaint("APP_WEBHOOK_SECRET", "NO_SUCH_SECRET");
    assert!(missing.contains("NO_SUCH_SECRET is not set"), "{missing}");
    for name in ["SHORT_SECRET", "SHORT_RAW_SECRET"] {
        let short = complaint("APP_WEBHOOK_SECRET", name);
        assert!(short.contains("too few to be safe"), "{short}");
        assert!(
            !short.contains("c2hvcnQ") && !short.contains("short-and-raw"),
            "{short}"
        );
    }
    let file = complaint("env = \"APP_WEBHOOK_SECRET\"", "file = \"/no/such/file\"");
    assert!(file.contains("/no/such/file cannot be read"), "{file}");
}

#[test]
fn bad_names_and_patterns_are_refused() {
    assert!(complaint("\"production\"", "\"Production!\"").contains("lower-case"));
    assert!(complaint("\"response.*\"", "\"resp*\"").contains("an event pattern is"));
    assert!(complaint("[\"response.*\"]", "[]").contains("remove `events`"));
}

#[test]
fn a_repeated_name_and_a_missing_endpoint_are_refused() {
    let twice = format!("{GOOD}\n[[endpoint]]\nname = \"production\"\nsecrets = []\n");
    let refused = String::from_utf8(serve(&twice).stderr).unwrap();
    assert!(
        refused.contains("gateway.toml:16: the name `production` is already used"),
        "{refused}"
    );

    let refused = String::from_utf8(serve("[server]\n").stderr).unwrap();
    assert!(refused.contains("there is no [[endpoint]]"), "{refused}");
}

#[test]
fn numbers_have_bounds() {
    for wrong in [
        "concurrency = 0",
        "concurrency = 100000",
        "timeout_seconds = 0",
        "timeout_seconds = 86400",
        "connect_timeout_seconds = 0",
        "connect_timeout_seconds = 61",
    ] {
        let complaint = complaint("events = [\"response.*\"]", wrong);
        let (key, _) = wrong.split_once(' ').unwrap();
        let expected = format!("`{key}` must be 1 to");
        assert!(complaint.contains(&expected), "{complaint}");
    }
}

#[test]
fn a_destination_has_exactly_one_kind() {
    let url =
        "url = \"http://127.0.0.1:3000/webhook\"\nsecret = { env = \"APP_WEBHOOK_SECRET\" }\n";
    let none = complaint(
        "\"app\"\nurl = \"http://127.0.0.1:3000/webhook\"",
        "\"app\"",
    );
    assert!(
        none.contains("one of `url = \"https://…\"`, `command = [\"program\""),
        "{none}"
    );
    for second in ["command = [\"true\"]", "jsonl = \"events.jsonl\""] {
        let both = complaint("events = [\"response.*\"]", second);
        assert!(both.contains("make another [[destination]]"), "{both}");
    }
    // Keys that only a URL may have.
    for kind in ["command = [\"true\"]", "jsonl = \"-\""] {
        for key in [
            "secret = { env = \"APP_WEBHOOK_SECRET\" }",
            "secrets = [{ env = \"APP_WEBHOOK_SECRET\" }]",
            "allow_private = true",
            "connect_timeout_seconds = 5",
        ] {
            let config = GOOD.replace(url, &format!("{kind}\n{key}\n"));
            let refused = String::from_utf8(serve(&config).stderr).unwrap();
            let name = key.split(' ').next().unwrap();
            assert!(
                refused.contains(&format!("gateway.toml:12: `{name}` is only for a `url`")),
                "{refused}"
            );
        }
    }
}

#[test]
fn bad_commands_and_paths_are_refused() {
    let url =
        "url = \"http://127.0.0.1:3000/webhook\"\nsecret = { env = \"APP_WEBHOOK_SECRET\" }\n";
    for (kind, remedy) in [
        ("command = []", "a program and its arguments"),
        ("command = [\"\"]", "a program and its arguments"),
        ("command = \"true\"", "this must be a list"),
        (
            "command = [\"true\", \"a\\u0000b\"]",
            "character NUL: remove it",
        ),
        (
            "command = [\"true\", \"--secret=whsec_in_the_file\"]",
            "read it from a file",
        ),
        (
            "command = [\"sh -c notify\"]",
            "write the program and each argument as an entry of its own",
        ),
        ("jsonl = \"\"", "the path of a file, or \"-\" for stdout"),
    ] {
        let complaint = complaint(url, &format!("{kind}\n"));
        assert!(complaint.contains(remedy), "{complaint}");
        assert!(!complaint.contains("in_the_file"), "{complaint}");
    }
}

#[test]
fn a_url_needs_one_to_three_secrets() {
    let secret = "secret = { env = \"APP_WEBHOOK_SECRET\" }\n";
    let url = format!("url = \"http://127.0.0.1:3000/webhook\"\n{secret}");
    let none = complaint(&url, "url = \"http://127.0.0.1:3000/webhook\"\n");
    assert!(none.contains("`unwrapd secret` generates one"), "{none}");
    assert!(complaint(secret, "secrets = []\n").contains("no secret to sign with"));
    let four = "{ env = \"APP_WEBHOOK_SECRET\" }, ".repeat(4);
    assert!(complaint(secret, &format!("secrets = [{four}]\n")).contains("more than 3 secrets"));
    let both = complaint("events = [\"response.*\"]", "secrets = []");
    assert!(both.contains("there is a `secret` already"), "{both}");
}

#[test]
fn dedupe_days_retention_days_and_size_have_bounds() {
    let url = "url = \"sqlite:STORE\"";
    for (wrong, bounds) in [
        ("dedupe_days = 2", "3 to 365"),
        ("retention_days = 0", "1 to 3650"),
        ("size_max_mb = 15", "16 to 16777216"),
    ] {
        let complaint = complaint(url, wrong);
        assert!(
            complaint.contains(&format!("must be {bounds}")),
            "{complaint}"
        );
    }
}

#[test]
fn the_limits_of_the_server_have_bounds() {
    let listen = "listen = \"127.0.0.1:0\"";
    for wrong in [
        "connections_max = 1",
        "connections_max = 100000",
        "requests_max = 0",
        "head_timeout_seconds = 0",
        "body_timeout_seconds = 301",
        "idle_timeout_seconds = 3601",
        "drain_seconds = 301",
    ] {
        let complaint = complaint(listen, wrong);
        let (key, _) = wrong.split_once(' ').unwrap();
        assert!(
            complaint.contains(&format!("`{key}` must be ")),
            "{complaint}"
        );
    }
    let wrong = "name = \"production\"\nrequests_max = 100000";
    let config = GOOD.replacen("name = \"production\"", wrong, 1);
    let refused = String::from_utf8(serve(&config).stderr).unwrap();
    assert!(
        refused.contains("gateway.toml:8: `requests_max` must be 1 to 16384"),
        "{refused}"
    );
}

#[test]
fn a_missing_file_is_reported() {
    let refused = unwrapd()
        .args(["serve", "--config", "/no/such.toml"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8(refused.stderr).unwrap().contains(
            "/no/such.toml: the file does not exist: name the configuration with --config"
        )
    );
}

#[test]
fn the_examples_are_good_configurations() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, APP_SECRET).unwrap();
    let from_file = format!("file = \"{}\"", secret.display());
    for example in [
        include_str!("../../examples/gateway.toml"),
        include_str!("../../examples/gateway.full.toml"),
    ] {
        // The secrets come from a file here.
        let text = example
            .replace("env = \"OPENAI_WEBHOOK_SECRET\"", &from_file)
            .replace("env = \"APP_WEBHOOK_SECRET\"", &from_file);
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, &text).unwrap();
        Config::read(&file).unwrap();
    }
}

#[test]
fn an_admin_port_for_others_needs_a_token() {
    let open = GOOD.replacen("[server]", "[server]\nadmin = \"0.0.0.0:8081\"", 1);
    let refused = serve(&open);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("gateway.toml:3:"), "{error}");
    assert!(error.contains("admin_token"), "{error}");
}

#[test]
fn a_token_for_reading_that_could_be_guessed_is_refused() {
    let tokens = "[server]\nadmin_token = { env = \"APP_WEBHOOK_SECRET\" }\n\
        admin_read_token = { env = \"SHORT_RAW_SECRET\" }";
    let refused = serve(&GOOD.replacen("[server]", tokens, 1));
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("gateway.toml:4:"), "{error}");
    assert!(error.contains("`unwrapd secret` generates"), "{error}");
    assert!(!error.contains("short-and-raw"), "{error}");
}

#[test]
fn limits_beyond_reason_are_refused() {
    for (limit, problem) in [
        ("rate = 0", "1 to 100000"),
        ("attempts_max = 0", "1 to 1000000"),
        ("deadline_hours = 721", "1 to 720"),
        ("retry_first_seconds = 0", "1 to 86400"),
        (
            "retry_first_seconds = 9\nretry_max_seconds = 8",
            "must not be less than",
        ),
        ("rate = -1", "negative, or too large"),
        ("rate = 99999999999999999999", "negative, or too large"),
        ("rate = 1.5", "whole number"),
    ] {
        let refused = serve(&format!("{GOOD}{limit}\n"));
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{limit}: {error}");
        assert!(error.contains(problem), "{limit}: {error}");
    }
}
