//! The cause of a failure is named if it was found, and only then.

use openai_webhooks::{EventType, Secret, Webhooks};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    SENT_AT, assert_prints, reports, saved, signed, signed_by, stdout, verify, verify_saved,
    verify_with, written,
};
use crate::support::process::write_config;
use crate::support::{APP_SECRET, OPENAI_SECRET};

const PAYLOAD: &str = EventType::BatchCompleted.sample();

/// Runs it on one request in a file, with these arguments. Returns the report.
#[track_caller]
fn report(arguments: &[&str], request: &[u8]) -> Value {
    let folder = TempDir::new().unwrap();
    let file = written(folder.path(), "request.txt", request);
    let mut command = verify(&[&file, "--at", &SENT_AT.to_string()]);
    reports(command.args(arguments)).remove(0)
}

#[test]
fn a_missing_header_and_a_forged_body_are_told_apart() {
    let headers = signed(PAYLOAD);
    let forged = verify_saved(&saved(&headers, PAYLOAD.replace("batch_", "batcx_")));
    assert_eq!(forged.status.code(), Some(4));
    assert_prints(&forged, "✕ signature: the secret does not match");
    assert_prints(&forged, "Tried without a match: ");
    assert_prints(&forged, "not authentic: no cause found");

    let missing = verify_saved(b"webhook-id: wh_1\n\n{}");
    assert_eq!(missing.status.code(), Some(4));
    assert_prints(
        &missing,
        "✕ headers: the header `webhook-timestamp` is missing",
    );
    assert_prints(&missing, "· signature: not compared");
}

#[test]
fn an_old_request_is_told_from_a_forged_one() {
    let request = saved(&signed(PAYLOAD), PAYLOAD);
    let old = verify_with(&["-"], &request);
    assert_eq!(old.status.code(), Some(4));
    assert_prints(&old, "✕ time: sent ");
    assert_prints(&old, "Give the time of its arrival with --at");
    assert_prints(&old, "✓ signature");
    for at in ["1750287378", "2025-06-18T22:51:00Z"] {
        let then = verify_with(&["-", "--at", at], &request);
        assert_eq!(then.status.code(), Some(0), "{}", stdout(&then));
    }
    for (late, cause, remedy) in [
        (301, "too_old", "Find the proxy or queue that held it back"),
        (
            -600,
            "too_new",
            "Set the clock of this machine, which is slow",
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let file = written(folder.path(), "request.txt", &request);
        let at = (SENT_AT + late).to_string();
        let report = reports(&mut verify(&[&file, "--at", &at])).remove(0);
        assert_eq!(report["cause"], cause);
        let time = &report["checks"][1];
        assert!(
            time["remedy"].as_str().unwrap().starts_with(remedy),
            "{time}"
        );
    }
}

#[test]
fn the_secret_that_matches_is_named_among_several() {
    let folder = TempDir::new().unwrap();
    let list = written(
        folder.path(),
        "list",
        format!("{APP_SECRET}\n{OPENAI_SECRET}\n"),
    );
    let request = written(
        folder.path(),
        "request.txt",
        saved(&signed(PAYLOAD), PAYLOAD),
    );
    let at = SENT_AT.to_string();
    let mut command = verify(&[&request, "--at", &at, "--secret-env", "OTHER"]);
    command
        .args(["--secret-file", &list])
        .env("OTHER", APP_SECRET);
    let report = reports(&mut command).remove(0);
    assert_eq!(report["authentic"], true);
    assert_eq!(report["secret"], format!("the file {list}, secret 2"));
    let signature = report["checks"][2]["detail"].as_str().unwrap();
    assert!(
        signature.ends_with("secret 2 (secret 3 of 3)"),
        "{signature}"
    );
}

#[test]
fn a_missing_prefix_is_named_only_where_the_signature_matches_with_it() {
    let folder = TempDir::new().unwrap();
    let request = saved(&signed(PAYLOAD), PAYLOAD);
    let cause = |secret: &str| {
        let file = written(folder.path(), "secret", secret);
        report(&["--secret-file", &file], &request)["cause"].take()
    };
    let bare = OPENAI_SECRET.strip_prefix("whsec_").unwrap();
    assert_eq!(cause(&format!("{bare}\n")), "prefix_missing");
    let other = APP_SECRET.strip_prefix("whsec_").unwrap();
    for secret in [other, APP_SECRET, "no base64 at all, and long enough"] {
        assert_eq!(cause(secret), Value::Null, "{secret}");
    }
}

#[test]
fn a_key_that_the_signer_did_not_decode_is_named() {
    for key in [OPENAI_SECRET, OPENAI_SECRET.strip_prefix("whsec_").unwrap()] {
        let signer = Webhooks::from(&Secret::from_key(key).unwrap());
        let report = report(&[], &saved(&signed_by(&signer, PAYLOAD), PAYLOAD));
        assert_eq!(report["cause"], "key_not_decoded");
    }
}

#[test]
fn the_endpoint_or_destination_of_the_configuration_that_signed_it_is_named() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), "http://127.0.0.1:9/");
    let config = folder.path().join("unwrapd.toml");
    let staging = "whsec_////////////////////////////////";
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += "\n[[endpoint]]\nname = \"staging\"\nsecrets = [{ env = \"STAGING\" }]\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let asked = |endpoint: &str, secret: &str| {
        let headers = signed_by(&Webhooks::new(secret).unwrap(), PAYLOAD);
        let file = written(folder.path(), "request.txt", saved(&headers, PAYLOAD));
        let at = SENT_AT.to_string();
        let mut command = verify(&[
            &file,
            "--at",
            &at,
            "--config",
            config,
            "--endpoint",
            endpoint,
        ]);
        command
            .env("APP_WEBHOOK_SECRET", APP_SECRET)
            .env("STAGING", staging);
        command
    };
    for (secret, cause) in [
        (OPENAI_SECRET, Value::Null),
        (staging, "other_endpoint".into()),
        (APP_SECRET, "destination_secret".into()),
    ] {
        let report = reports(&mut asked("production", secret)).remove(0);
        assert_eq!(report["cause"], cause, "{report}");
        assert_eq!(report["authentic"], cause.is_null());
    }
    let unknown = asked("nowhere", OPENAI_SECRET).output().unwrap();
    assert_eq!(unknown.status.code(), Some(3));
}

#[test]
fn the_signature_of_another_body_is_named_only_if_that_request_is_given_too() {
    let folder = TempDir::new().unwrap();
    let other = EventType::ResponseCompleted.sample();
    let one = written(folder.path(), "one.txt", saved(&signed(PAYLOAD), other));
    let two = written(folder.path(), "two.txt", saved(&signed(other), PAYLOAD));
    let at = SENT_AT.to_string();
    let both = reports(&mut verify(&[&one, &two, "--at", &at]));
    for (report, other) in both.iter().zip([&two, &one]) {
        assert_eq!(report["cause"], "other_body");
        assert!(
            report["checks"][2]["finding"]
                .as_str()
                .unwrap()
                .contains(&**other),
            "{report}"
        );
    }
    let alone = reports(&mut verify(&[&one, "--at", &at]));
    assert_eq!(alone[0]["cause"], Value::Null);
}

#[test]
fn no_output_about_a_refused_request_has_a_secret_a_right_signature_or_the_body() {
    let headers = signed(PAYLOAD);
    let right = headers.signature.strip_prefix("v1,").unwrap();
    let mut damaged = headers.clone();
    damaged.signature = right[..20].to_owned();
    for request in [
        saved(&damaged, PAYLOAD),
        saved(&headers, "{}"),
        saved(
            &signed_by(&Webhooks::new(APP_SECRET).unwrap(), PAYLOAD),
            PAYLOAD,
        ),
    ] {
        for form in ["human", "json"] {
            let output = verify_with(&["-", "--output", form], &request);
            let told = crate::support::process::told(&output);
            assert!(
                ![right, &OPENAI_SECRET[6..], "batch_", "evt_"]
                    .iter()
                    .any(|part| told.contains(part)),
                "{told}"
            );
        }
    }
}
