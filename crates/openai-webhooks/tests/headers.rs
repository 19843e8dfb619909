//! The three signed headers, from every type that may hold them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use openai_webhooks::{
    HeadersLike, SIGNATURES_MAX, SignedHeaders, VerificationError, WEBHOOK_ID,
    WEBHOOK_ID_BYTES_MAX, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, Webhooks,
};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const BODY: &str = r#"{"id":"evt_abc123","type":"response.completed","created_at":1719168000,"data":{"id":"resp_abc123"}}"#;
const ID: &str = "wh_685342e6c53c8190a1be43f081506c52";
const TIMESTAMP: &str = "1750287078";
const SIGNATURE: &str = "v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=";
/// Well-formed, but not a signature of [`BODY`].
const OTHER_SIGNATURE: &str = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NOW: i64 = 1_750_287_078;

const PAIRS: [(&str, &str); 3] = [
    ("webhook-id", ID),
    ("webhook-timestamp", TIMESTAMP),
    ("webhook-signature", SIGNATURE),
];

mod containers {
    use super::*;

    #[test]
    fn arrays_slices_and_vectors_of_pairs_are_headers() {
        assert_proven(&PAIRS);
        assert_proven(&PAIRS[..]);
        assert_proven(&PAIRS.to_vec());
        assert_proven(&&&PAIRS);
    }

    #[test]
    fn a_name_without_a_value_is_a_missing_header() {
        let some: Vec<(&str, Option<&str>)> = PAIRS
            .iter()
            .map(|(name, value)| (*name, Some(*value)))
            .collect();
        assert_proven(&some);
        let mut none = some;
        none[0].1 = None;
        assert_eq!(
            webhooks()
                .verify_signature_at(BODY, &none, NOW)
                .unwrap_err(),
            VerificationError::MissingHeader { name: WEBHOOK_ID }
        );
    }

    #[test]
    fn byte_strings_are_values() {
        let id = [("webhook-id", b"wh_685342e6c53c8190a1be43f081506c52")];
        assert_eq!(
            webhooks().verify_signature_at(BODY, &id, NOW).unwrap_err(),
            VerificationError::MissingHeader {
                name: WEBHOOK_TIMESTAMP
            }
        );
    }

    #[test]
    fn names_and_values_may_be_text_or_bytes_owned_or_not() {
        assert_proven(&PAIRS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_proven(&PAIRS.map(|(name, value)| (name, Cow::Borrowed(value))));
        assert_proven(&PAIRS.map(|(name, value)| (name.to_owned(), Box::<str>::from(value))));
        assert_proven(&PAIRS.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert_proven(
            &PAIRS.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())),
        );
        assert_proven(&PAIRS.map(|(name, value)| (name, value.as_bytes())));
    }

    #[test]
    fn maps_are_headers() {
        assert_proven(&HashMap::from(PAIRS));
        assert_proven(&BTreeMap::from(PAIRS));
        assert_proven(&owned().collect::<HashMap<String, String>>());
        assert_proven(&owned().collect::<BTreeMap<String, String>>());
    }

    #[test]
    fn the_multi_value_headers_of_a_lambda_event_are_headers() {
        let multi = owned().map(|(name, value)| (name, vec![value]));
        let mut multi: HashMap<String, Vec<String>> = multi.collect();
        assert_proven(&multi);

        multi.insert("accept".to_owned(), vec![]);
        multi.insert(
            "webhook-signature".to_owned(),
            vec![OTHER_SIGNATURE.to_owned(), SIGNATURE.to_owned()],
        );
        assert_proven(&multi);

        multi.insert(
            "webhook-id".to_owned(),
            vec![ID.to_owned(), "wh_other".to_owned()],
        );
        assert_eq!(
            verdict(&multi),
            Err(VerificationError::ConflictingHeader { name: WEBHOOK_ID })
        );

        multi.insert("webhook-id".to_owned(), vec![]);
        assert_eq!(
            verdict(&multi),
            Err(VerificationError::MissingHeader { name: WEBHOOK_ID })
        );
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_header_map_is_headers_and_so_are_its_pairs() {
        let mut map = header_map();
        assert_proven(&map);
        assert_proven(&map.iter().collect::<Vec<_>>());
        assert_proven(
            &map.clone()
                .into_iter()
                .map(|(name, value)| (name.unwrap(), value))
                .collect::<Vec<_>>(),
        );

        map.append(WEBHOOK_ID, http::HeaderValue::from_static("wh_other"));
        assert_eq!(
            verdict(&map),
            Err(VerificationError::ConflictingHeader { name: WEBHOOK_ID })
        );
        map.remove(WEBHOOK_ID);
        assert_eq!(
            verdict(&map),
            Err(VerificationError::MissingHeader { name: WEBHOOK_ID })
        );
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_header_map_with_several_signature_headers_has_one_list() {
        let mut map = header_map();
        map.insert(
            WEBHOOK_SIGNATURE,
            http::HeaderValue::from_static(OTHER_SIGNATURE),
        );
        map.append(WEBHOOK_SIGNATURE, http::HeaderValue::from_static(SIGNATURE));
        assert_proven(&map);
    }

    #[cfg(feature = "http")]
    #[test]
    fn letters_outside_ascii_in_a_header_map_are_refused_and_never_a_panic() {
        let letters = http::HeaderValue::from_bytes(b"wh_\xFF").unwrap();
        for (name, expected) in [
            (WEBHOOK_ID, "webhook-id"),
            (WEBHOOK_TIMESTAMP, "webhook-timestamp"),
            (WEBHOOK_SIGNATURE, "no signature matches"),
        ] {
            let mut map = header_map();
            map.insert(name, letters.clone());
            let error = verdict(&map).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_type_of_your_own_can_offer_headers() {
        struct Raw(&'static str);

        impl HeadersLike for Raw {
            fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
                for line in self.0.lines() {
                    let (name, value) = line.split_once(':').unwrap();
                    headers.offer(name.as_bytes(), value.as_bytes());
                }
            }
        }

        assert_proven(&Raw("Host: example.com
Webhook-Id: wh_685342e6c53c8190a1be43f081506c52
Webhook-Timestamp: 1750287078
Webhook-Signature: v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ="));
    }

    #[test]
    fn headers_can_be_handed_over_behind_a_dyn() {
        let headers: Box<dyn HeadersLike> = Box::new(PAIRS);
        assert_proven(&*headers);
    }

    fn owned() -> impl Iterator<Item = (String, String)> {
        PAIRS
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    #[cfg(feature = "http")]
    fn header_map() -> http::HeaderMap {
        let mut map = http::HeaderMap::new();
        for (name, value) in PAIRS {
            map.insert(name, http::HeaderValue::from_static(value));
        }
        map
    }
}

mod names {
    use super::*;

    #[test]
    fn names_count_in_any_case() {
        assert_proven(&named(
            "Webhook-Id",
            "Webhook-Timestamp",
            "Webhook-Signature",
        ));
        assert_proven(&named(
            "WEBHOOK-ID",
            "webhook-TIMESTAMP",
            "wEbHoOk-sIgNaTuRe",
        ));
    }

    #[test]
    fn the_names_of_a_cgi_environment_are_understood() {
        assert_proven(&named(
            "HTTP_WEBHOOK_ID",
            "HTTP_WEBHOOK_TIMESTAMP",
            "HTTP_WEBHOOK_SIGNATURE",
        ));
    }

    #[test]
    fn names_that_only_look_alike_are_passed_over() {
        for id in [
            "svix-id",
            "webhook_id",
            "http_webhook_id",
            "WEBHOOK_ID",
            "HTTP-WEBHOOK-ID",
            " webhook-id",
            "webhook-id:",
            "x-webhook-id",
            "",
        ] {
            assert_eq!(
                verdict(&named(id, "webhook-timestamp", "webhook-signature")),
                Err(VerificationError::MissingHeader { name: WEBHOOK_ID }),
                "{id}"
            );
        }
    }

    #[test]
    fn other_headers_do_not_matter() {
        let others = [
            ("host", "example.com"),
            ("svix-id", "other"),
            ("webhook-id-2", "other"),
            ("", ""),
        ];
        assert_proven(&[others.as_slice(), &PAIRS].concat());
    }

    fn named<'a>(
        id: &'a str,
        timestamp: &'a str,
        signature: &'a str,
    ) -> [(&'a str, &'static str); 3] {
        [(id, ID), (timestamp, TIMESTAMP), (signature, SIGNATURE)]
    }
}

mod single_headers {
    use super::*;

    #[test]
    fn each_of_the_three_headers_must_be_present_and_not_empty() {
        for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
            let missing = Err(VerificationError::MissingHeader { name });
            assert_eq!(verdict(&without(name)), missing);
            for empty in ["", " ", "\t  "] {
                assert_eq!(verdict(&with(name, empty)), missing, "{empty:?}");
            }
        }
        assert_eq!(
            verdict(&[("", ""); 0]),
            Err(VerificationError::MissingHeader { name: WEBHOOK_ID })
        );
    }

    #[test]
    fn a_header_repeated_with_the_same_value_is_accepted() {
        assert_proven(&[PAIRS, PAIRS].concat());
        assert_proven(&[PAIRS.as_slice(), &[("HTTP_WEBHOOK_ID", ID)]].concat());
        assert_proven(
            &[
                PAIRS.as_slice(),
                &[("webhook-id", "  wh_685342e6c53c8190a1be43f081506c52\t")],
            ]
            .concat(),
        );
    }

    #[test]
    fn an_id_or_a_time_repeated_with_another_value_is_refused_in_either_order() {
        for (name, other) in [
            (WEBHOOK_ID, "wh_other"),
            (WEBHOOK_TIMESTAMP, "1750287079"),
            (WEBHOOK_ID, ""),
            (WEBHOOK_TIMESTAMP, "01750287078"),
        ] {
            let conflicting = Err(VerificationError::ConflictingHeader { name });
            assert_eq!(
                verdict(&[PAIRS.as_slice(), &[(name, other)]].concat()),
                conflicting
            );
            assert_eq!(
                verdict(&[&[(name, other)], PAIRS.as_slice()].concat()),
                conflicting
            );
        }
    }

    #[test]
    fn blanks_around_a_value_are_not_part_of_it() {
        assert_proven(&with(WEBHOOK_ID, " \twh_685342e6c53c8190a1be43f081506c52 "));
        assert_proven(&with(WEBHOOK_TIMESTAMP, "1750287078\t"));
        assert_proven(&with(
            WEBHOOK_SIGNATURE,
            " v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ= ",
        ));
    }

    #[test]
    fn an_id_that_would_make_the_signed_text_ambiguous_is_refused() {
        for id in ["wh.1", "wh 1", "wh\u{e9}", "wh\n1", "wh\u{7f}", "."] {
            let error = verdict(&with(WEBHOOK_ID, id)).unwrap_err();
            assert!(
                matches!(
                    error,
                    VerificationError::MalformedHeader {
                        name: WEBHOOK_ID,
                        ..
                    }
                ),
                "{id:?}: {error}"
            );
            assert_eq!(error.http_status(), 400);
        }
    }

    #[test]
    fn the_longest_id_is_proven_and_one_letter_more_is_refused() {
        for (length, is_proven) in [
            (WEBHOOK_ID_BYTES_MAX, true),
            (WEBHOOK_ID_BYTES_MAX + 1, false),
        ] {
            let id = "w".repeat(length);
            let signed = webhooks().sign(BODY, id.as_str(), NOW);
            assert_eq!(signed.is_ok(), is_proven);
            let headers = with(WEBHOOK_ID, &id);
            let error = verdict(&headers).unwrap_err();
            assert_eq!(
                matches!(
                    error,
                    VerificationError::MalformedHeader {
                        name: WEBHOOK_ID,
                        ..
                    }
                ),
                !is_proven
            );
            if let Ok(signed) = signed {
                assert_proven(&signed);
            }
        }
    }

    #[test]
    fn a_time_that_is_not_digits_only_is_refused() {
        for time in [
            "+1750287078",
            "-1",
            "1750287078.0",
            "1_750_287_078",
            "0x1",
            "1e9",
            "١",
            "now",
            "1750287078 ,",
            "00000000001750287078",
        ] {
            let headers = with(WEBHOOK_TIMESTAMP, time);
            assert_refused(&headers, &VerificationError::MalformedTimestamp, 400);
        }
    }

    #[test]
    fn the_text_of_the_time_is_signed_as_it_came() {
        let headers = with(WEBHOOK_TIMESTAMP, "01750287078");
        assert_refused(&headers, &VerificationError::SignatureMismatch, 401);
    }
}

mod signatures {
    use super::*;

    #[test]
    fn any_of_several_signatures_may_match_whatever_the_others_are() {
        for list in [
            format!("{SIGNATURE} {OTHER_SIGNATURE}"),
            format!("{OTHER_SIGNATURE} {SIGNATURE}"),
            format!("  {OTHER_SIGNATURE} \t {SIGNATURE}"),
            format!("v1a,ed25519 v2,later \u{e9} v1, , {SIGNATURE} v1"),
            SIGNATURE.trim_start_matches("v1,").to_owned(),
        ] {
            assert_proven(&with(WEBHOOK_SIGNATURE, &list));
        }
    }

    #[test]
    fn a_signature_that_is_not_whole_and_canonical_is_none() {
        for signature in [
            "v1",
            "v1,",
            "v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ",
            "v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZR=",
            "v1,XwQ1PfLRcS-eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=",
            "v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ==",
            "v1,v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=",
            "V1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=",
            "v2,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=",
            "v1,XwQ1PfLRcS+eF4fuKIxhTev9 LOfyGjIqIWxmTuxlVZQ=",
        ] {
            let headers = with(WEBHOOK_SIGNATURE, signature);
            assert_refused(&headers, &VerificationError::SignatureMismatch, 401);
        }
    }

    #[test]
    fn several_signature_headers_are_one_list() {
        assert_proven(
            &[
                with(WEBHOOK_SIGNATURE, OTHER_SIGNATURE).as_slice(),
                &[(WEBHOOK_SIGNATURE, SIGNATURE)],
            ]
            .concat(),
        );
        assert_proven(
            &[
                with(WEBHOOK_SIGNATURE, "").as_slice(),
                &[("HTTP_WEBHOOK_SIGNATURE", SIGNATURE)],
            ]
            .concat(),
        );
    }

    #[test]
    fn the_last_signature_allowed_may_be_the_one_that_matches() {
        assert_eq!(SIGNATURES_MAX, 32);
        let list = format!("{}{SIGNATURE}", format!("{OTHER_SIGNATURE} ").repeat(31));
        assert_proven(&with(WEBHOOK_SIGNATURE, &list));
    }

    #[test]
    fn a_signature_above_the_limit_is_refused_even_beside_a_matching_one() {
        let list = format!("{SIGNATURE} {}", "x ".repeat(32));
        let headers = with(WEBHOOK_SIGNATURE, &list);
        assert_refused(&headers, &VerificationError::TooManySignatures, 401);
    }

    #[test]
    fn signatures_are_counted_over_all_headers() {
        let with_others = |count: usize| {
            let others: Vec<String> = (0..count).map(|number| format!("other{number}")).collect();
            let mut headers = PAIRS.to_vec();
            headers.extend(
                others
                    .iter()
                    .map(|other| (WEBHOOK_SIGNATURE, other.as_str())),
            );
            verdict(&headers)
        };
        assert_eq!(with_others(31), Ok(()));
        for count in [32, 33, 34, 1000] {
            assert_eq!(
                with_others(count),
                Err(VerificationError::TooManySignatures),
                "{count}"
            );
        }
    }
}

fn webhooks() -> Webhooks {
    Webhooks::new(SECRET).unwrap()
}

fn verdict(headers: &(impl HeadersLike + ?Sized)) -> Result<(), VerificationError> {
    webhooks().verify_signature_at(BODY, headers, NOW).map(drop)
}

#[track_caller]
fn assert_proven(headers: &(impl HeadersLike + ?Sized)) {
    assert_eq!(verdict(headers), Ok(()));
}

#[track_caller]
fn assert_refused(headers: &[(&str, &str)], expected: &VerificationError, status: u16) {
    let error = verdict(headers).unwrap_err();
    assert_eq!(&error, expected, "{headers:?}");
    assert_eq!(error.http_status(), status);
}

/// The good headers, with this one replaced.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut headers = without(name);
    headers.push((name, value));
    headers
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    PAIRS
        .into_iter()
        .filter(|(other, _)| *other != name)
        .collect()
}
