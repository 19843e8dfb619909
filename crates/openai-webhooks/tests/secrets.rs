//! Secrets: accepted texts, the errors of others, and secrecy.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::process::Command;

use openai_webhooks::{
    EventType, KEY_BYTES_MIN, OPENAI_WEBHOOK_SECRET, Secret, SecretError, UnwrapError,
    VerificationError, WebhookHeaders, Webhooks,
};

/// A key of 24 bytes, 0 to 23.
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
/// The same bytes in reverse order.
const OLD_SECRET: &str = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
const NOW: i64 = 1_750_287_078;

mod texts {
    use super::*;

    #[test]
    fn the_text_after_the_prefix_is_the_key_in_base64() {
        let key: Vec<u8> = (0..24).collect();
        assert_same(
            &Secret::parse(SECRET).unwrap(),
            &Secret::from_key(key).unwrap(),
        );
    }

    #[test]
    fn a_text_without_the_prefix_is_the_key_itself() {
        let text = "not base64 – but fine";
        assert_same(
            &Secret::parse(text).unwrap(),
            &Secret::from_key(text).unwrap(),
        );
    }

    #[test]
    fn blanks_and_line_ends_around_a_secret_and_missing_padding_do_not_matter() {
        let of_32_bytes = Secret::from_key([1; 32]).unwrap();
        let text = of_32_bytes.expose();
        assert!(text.ends_with('='));
        for variant in [
            format!(" \t{}\r\n", *text),
            text.trim_end_matches('=').to_owned(),
        ] {
            assert_same(&Secret::parse(&variant).unwrap(), &of_32_bytes);
        }
    }

    #[test]
    fn an_exposed_secret_reads_back() {
        for bytes in [24, 25, 26, 32, 64] {
            let secret = Secret::from_key(vec![7; bytes]).unwrap();
            assert_eq!(secret.key_bytes(), bytes);
            assert_same(&Secret::parse(&secret.expose()).unwrap(), &secret);
        }
    }

    #[test]
    fn each_mistake_has_a_hint_of_its_own_that_does_not_quote_the_secret() {
        for (text, expected, hint) in [
            ("", SecretError::Empty, "copy the whole secret"),
            (" \n", SecretError::Empty, "copy the whole secret"),
            ("whsec_", SecretError::Empty, "copy the whole secret"),
            ("whsec_====", SecretError::Empty, "copy the whole secret"),
            (
                "\"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX\"",
                SecretError::Quoted,
                "quotation marks",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX'",
                SecretError::Quoted,
                "quotation marks",
            ),
            (
                "v1,whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
                SecretError::SignaturePrefix,
                "everything before `whsec_`",
            ),
            (
                "WHSEC_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
                SecretError::PrefixCase,
                "lower case",
            ),
            (
                "Whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
                SecretError::PrefixCase,
                "lower case",
            ),
            (
                "whsec_AAECAwQFBgcI CQoLDA0ODxAREhMUFRYX",
                SecretError::InnerBlank,
                "in one piece",
            ),
            (
                "whsec_AAECAwQFBgcI\nCQoLDA0ODxAREhMUFRYX",
                SecretError::InnerBlank,
                "in one piece",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0O-xAREhMUFRYX",
                SecretError::UrlAlphabet,
                "`+` and `/`",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0O_xAREhMUFRYX",
                SecretError::UrlAlphabet,
                "`+` and `/`",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0O…xAREhMUFRYX",
                SecretError::Masked,
                "left out or masked",
            ),
            ("whsec_!!!!", SecretError::InvalidCharacter, "not base64"),
            (
                "whsec_AAECAwQFBgcI=QoLDA0ODxAREhMUFRYX",
                SecretError::Padding,
                "`=` in the wrong position",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX=",
                SecretError::Padding,
                "`=` in the wrong position",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXA",
                SecretError::CutShort,
                "cut short",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXAB",
                SecretError::SpareBits,
                "a letter is wrong or missing",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY",
                SecretError::TooShort { bytes: 23 },
                "23 bytes",
            ),
        ] {
            let error = Secret::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text:?}");
            assert_eq!(Webhooks::new(text).unwrap_err(), expected);

            let message = error.to_string();
            assert!(message.contains(hint), "{message}");
            for shown in [message, format!("{error:?}")] {
                for piece in ["AAEC", "QoLDA", "REhMU"] {
                    assert!(!shown.contains(piece), "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_key_too_short_to_be_safe_is_taken_only_where_a_test_asks_for_it() {
        assert_eq!(KEY_BYTES_MIN, 24);
        let text = Secret::from_key([1; 23]).unwrap().expose();
        assert_eq!(
            Secret::parse(&text).unwrap_err(),
            SecretError::TooShort { bytes: 23 }
        );
        assert_eq!(Secret::parse_short(&text).unwrap().key_bytes(), 23);
    }

    #[test]
    fn an_empty_key_is_never_taken() {
        for text in ["", "whsec_", "whsec_=", " whsec_ "] {
            assert_eq!(
                Secret::parse_short(text).unwrap_err(),
                SecretError::Empty,
                "{text:?}"
            );
        }
    }

    /// Both sign alike, so they are the same key.
    #[track_caller]
    fn assert_same(one: &Secret, other: &Secret) {
        let sign = |secret| Webhooks::from(secret).sign("body", "wh_1", NOW).unwrap();
        assert_eq!(sign(one), sign(other));
    }
}

mod rotation {
    use super::*;

    #[test]
    fn both_secrets_of_a_rotation_are_accepted_and_the_index_says_which_matched() {
        let both = both();
        assert_eq!(secret_index(&both, &signed_by(&new())), Ok(0));
        assert_eq!(secret_index(&both, &signed_by(&old())), Ok(1));
    }

    #[test]
    fn a_request_signed_with_both_is_proven_by_the_first() {
        let both = both();
        let headers = signed_by(&both);
        assert_eq!(headers.signature.split(' ').count(), 2);
        assert_eq!(secret_index(&both, &headers), Ok(0));
    }

    #[test]
    fn a_receiver_with_one_secret_accepts_a_request_signed_with_both() {
        let headers = signed_by(&both());
        assert_eq!(secret_index(&new(), &headers), Ok(0));
        assert_eq!(secret_index(&old(), &headers), Ok(0));
    }

    #[test]
    fn a_secret_that_was_left_out_is_no_longer_accepted() {
        assert_eq!(
            secret_index(&new(), &signed_by(&old())),
            Err(VerificationError::SignatureMismatch)
        );
    }

    #[test]
    fn an_added_secret_leaves_the_tolerance_unchanged() {
        let webhooks = new()
            .tolerance(std::time::Duration::ZERO)
            .and(&Secret::parse(OLD_SECRET).unwrap());
        let headers = signed_by(&webhooks);
        let error = webhooks.unwrap_at(body(), &headers, NOW + 1).unwrap_err();
        assert_eq!(
            error,
            UnwrapError::Verification(VerificationError::TimestampTooOld {
                seconds: 1,
                tolerance_seconds: 0
            })
        );
    }

    fn new() -> Webhooks {
        Webhooks::new(SECRET).unwrap()
    }

    fn old() -> Webhooks {
        Webhooks::new(OLD_SECRET).unwrap()
    }

    fn both() -> Webhooks {
        new().and(&Secret::parse(OLD_SECRET).unwrap())
    }

    fn body() -> &'static str {
        EventType::BatchCompleted.sample()
    }

    fn signed_by(webhooks: &Webhooks) -> WebhookHeaders {
        webhooks.sign(body(), "wh_1", NOW).unwrap()
    }

    fn secret_index(
        webhooks: &Webhooks,
        headers: &WebhookHeaders,
    ) -> Result<usize, VerificationError> {
        Ok(webhooks
            .verify_signature_at(body(), headers, NOW)?
            .secret_index())
    }
}

/// The environment belongs to the whole process, so each of these tests runs itself again in a
/// child process.
mod environment {
    use super::*;

    #[test]
    fn the_variable_of_the_official_sdks_is_read() {
        answer_if_child();
        let answer = answer_of_child(
            "the_variable_of_the_official_sdks_is_read",
            Some(SECRET.as_ref()),
        );
        assert_eq!(answer, "24 bytes of key");
    }

    #[test]
    fn a_list_in_the_variable_is_several_secrets() {
        answer_if_child();
        let answer = answer_of_child(
            "a_list_in_the_variable_is_several_secrets",
            Some(format!("{SECRET}, {OLD_SECRET}").as_ref()),
        );
        assert!(answer.contains("secrets: 2 [redacted]"), "{answer}");
    }

    #[test]
    fn an_unset_variable_is_reported_by_its_name() {
        answer_if_child();
        let answer = answer_of_child("an_unset_variable_is_reported_by_its_name", None);
        assert!(
            answer.contains("OPENAI_WEBHOOK_SECRET is not set"),
            "{answer}"
        );
    }

    #[test]
    fn a_variable_that_is_empty_is_no_secret() {
        answer_if_child();
        let answer = answer_of_child("a_variable_that_is_empty_is_no_secret", Some("".as_ref()));
        assert_eq!(answer, SecretError::Empty.to_string());
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_refused_without_showing_it() {
        use std::os::unix::ffi::OsStrExt as _;
        answer_if_child();
        let answer = answer_of_child(
            "a_variable_that_is_not_utf8_is_refused_without_showing_it",
            Some(OsStr::from_bytes(b"whsec_AAECAwQF\xFF")),
        );
        assert_eq!(answer, SecretError::NotUnicode.to_string());
    }

    const ROLE: &str = "OPENAI_WEBHOOKS_TEST_CHILD";

    /// In the child: prints the result for the environment, and ends the process.
    #[expect(clippy::print_stdout, reason = "the parent reads it")]
    fn answer_if_child() {
        if std::env::var_os(ROLE).is_none() {
            return;
        }
        let secret = Secret::from_env();
        if let Err(SecretError::Several) = secret {
            println!("\nanswer: {:?}", Webhooks::from_env().unwrap());
            std::process::exit(0);
        }
        assert_eq!(
            Webhooks::from_env().map(drop),
            secret.as_ref().map(drop).map_err(|error| *error)
        );
        match secret {
            Ok(secret) => println!("\nanswer: {} bytes of key", secret.key_bytes()),
            Err(error) => println!("\nanswer: {error}"),
        }
        std::process::exit(0);
    }

    fn answer_of_child(test: &str, secret: Option<&OsStr>) -> String {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", &format!("environment::{test}")]);
        child.env(ROLE, "yes").env_remove(OPENAI_WEBHOOK_SECRET);
        if let Some(secret) = secret {
            child.env(OPENAI_WEBHOOK_SECRET, secret);
        }
        let output = child.output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let answer = stdout
            .lines()
            .find_map(|line| line.strip_prefix("answer: "));
        answer
            .unwrap_or_else(|| panic!("no answer: {stdout}"))
            .to_owned()
    }
}

mod printing {
    use super::*;

    #[test]
    fn a_secret_prints_as_redacted() {
        for secret in [
            Secret::parse(SECRET).unwrap(),
            Secret::from_key("raw text as a key").unwrap(),
        ] {
            assert_eq!(format!("{secret:?}"), "Secret([redacted])");
            assert_eq!(format!("{secret:#?}"), "Secret([redacted])");
        }
    }

    #[test]
    fn webhooks_print_how_many_secrets_there_are_and_none_of_them() {
        let webhooks = Webhooks::new(SECRET)
            .unwrap()
            .and(&Secret::from_key("raw text as a key").unwrap());
        assert_eq!(
            format!("{webhooks:?}"),
            "Webhooks { secrets: 2 [redacted], tolerance_seconds: 300 }"
        );
    }

    #[test]
    fn a_verified_request_prints_without_its_body() {
        let webhooks = Webhooks::new(SECRET).unwrap();
        let headers = webhooks.sign("private", "wh_1", NOW).unwrap();
        let verified = webhooks
            .verify_signature_at("private", &headers, NOW)
            .unwrap();
        assert_eq!(
            format!("{verified:?}"),
            format!(
                "Verified {{ webhook_id: \"wh_1\", timestamp: {NOW}, payload_bytes: 7, secret_index: 0 }}"
            )
        );
    }
}

#[test]
fn a_key_without_bytes_is_refused() {
    assert_eq!(
        Secret::from_key(Vec::new()).unwrap_err(),
        SecretError::Empty
    );
}
