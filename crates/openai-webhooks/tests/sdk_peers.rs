//! The official SDKs for Python and Node beside the library, with the same requests. Run
//! `scripts/peers` first.

#[path = "support/peers.rs"]
mod peers;
#[path = "support/property.rs"]
mod property;
#[path = "support/requests/mod.rs"]
mod requests;
#[path = "support/rulings.rs"]
mod rulings;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use openai_webhooks::{EventType, UnwrapError, Webhooks};
use peers::{Judge, Op};
use property::holds;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use requests::{Request, bodies, requests, sender, unknown_events};
use rulings::{WIDER, is_beyond, is_stricter};

/// Number of differences that each ruling explained.
type Differences = BTreeMap<&'static str, u32>;

#[test]
fn the_library_differs_from_the_official_sdks_only_where_a_ruling_says_so() {
    let judges = Judge::both();
    let differences = RefCell::new(Differences::new());
    let agreements = RefCell::new(BTreeMap::from([(true, 0), (false, 0)]));
    let bodies = prop_oneof![30 => bodies(), 1 => bodies_beyond_python()];
    holds(3000, requests(bodies), |request| {
        for judge in &judges {
            for op in [Op::Verify, Op::Unwrap] {
                // `unwrap` of the Python SDK takes no tolerance.
                if op == Op::Unwrap && request.tolerance.is_some() {
                    continue;
                }
                let found = compare(judge, op, &request)?;
                if found.is_empty() {
                    let is_accepted = ours(op, &request).is_ok();
                    *agreements.borrow_mut().entry(is_accepted).or_default() += 1;
                }
                for name in found {
                    *differences.borrow_mut().entry(name).or_default() += 1;
                }
            }
        }
        Ok(())
    });

    // The requests are useful: many are good, many are bad, and every ruling that accepts more was
    // needed.
    let (differences, agreements) = (differences.into_inner(), agreements.into_inner());
    println!("agreements {agreements:#?}\ndifferences {differences:#?}");
    if std::env::var_os("PROPTEST_CASES").is_none() {
        assert!(agreements.values().all(|&times| times > 1500));
        for ruling in WIDER {
            assert!(differences.contains_key(ruling.name), "{}", ruling.name);
        }
    }
}

#[test]
fn the_official_sdks_unwrap_every_request_that_the_library_signs() {
    let judges = Judge::both();
    let event = prop_oneof![
        select(EventType::ALL).prop_map(|kind| kind.sample().to_owned()),
        unknown_events()
    ];
    let values = (
        vec(vec(any::<u8>(), 24..=64), 1..4),
        "[!-\\-/-~]{1,256}",
        0..=i64::from(u32::MAX),
        event,
    );
    holds(500, values, |(keys, id, now, event)| {
        let (secrets, signer) = sender(keys);
        let headers = signer.sign(&event, id, now).unwrap();
        for secret in &secrets {
            let request = Request {
                secret: secret.expose().to_string(),
                headers: headers
                    .pairs()
                    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                    .to_vec(),
                body: event.clone().into_bytes(),
                now,
                tolerance: None,
            };
            for judge in &judges {
                let verdict = judge.ask(Op::Unwrap, &request);
                prop_assert!(verdict.is_ok(), "{:?} {verdict}: {request:?}", judge.peer);
            }
        }
        Ok(())
    });
}

#[test]
fn every_documented_payload_is_unwrapped_by_the_library_and_the_official_sdks() {
    let judges = Judge::both();
    let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    for &kind in EventType::ALL {
        let headers = Webhooks::new(secret)
            .unwrap()
            .sign(kind.sample(), "wh_1", 1_750_287_078)
            .unwrap();
        let request = Request {
            secret: secret.to_owned(),
            headers: headers
                .pairs()
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .to_vec(),
            body: kind.sample().as_bytes().to_vec(),
            now: 1_750_287_078,
            tolerance: None,
        };
        assert_eq!(ours(Op::Unwrap, &request), Ok(()), "{kind}");
        for judge in &judges {
            let verdict = judge.ask(Op::Unwrap, &request);
            assert!(verdict.is_ok(), "{kind}: {:?} {verdict}", judge.peer);
        }
    }
}

/// The rulings that explain the difference between our answer and the SDK's. Empty if there is no
/// difference; a failure if no ruling explains it.
fn compare(judge: &Judge, op: Op, request: &Request) -> Result<Vec<&'static str>, TestCaseError> {
    let ours = ours(op, request);
    let theirs = judge.ask(op, request);
    match (ours, theirs.is_ok()) {
        (Ok(()), true) | (Err(_), false) => Ok(Vec::new()),
        (Err(refusal), true) => match is_stricter(judge.peer, request, refusal.as_ref()) {
            Some(ruling) => Ok(vec![ruling]),
            None => Err(TestCaseError::fail(format!(
                "{op:?}: {:?} accepts it, and we refuse it ({refusal:?}) without a ruling",
                judge.peer
            ))),
        },
        (Ok(()), false) => {
            if let Some(ruling) = is_beyond(judge.peer, op, request) {
                return Ok(vec![ruling]);
            }
            let mut rewritten = request.clone();
            let mut rulings = Vec::new();
            for ruling in WIDER {
                if ruling.peers.contains(&judge.peer) {
                    let before = format!("{rewritten:?}");
                    (ruling.rewrite)(&mut rewritten);
                    if format!("{rewritten:?}") != before {
                        rulings.push(ruling.name);
                    }
                }
            }
            let again = judge.ask(op, &rewritten);
            if !rulings.is_empty() && again.is_ok() {
                return Ok(rulings);
            }
            Err(TestCaseError::fail(format!(
                "{op:?}: we accept it, {:?} {theirs}; {again} after {rulings:?}",
                judge.peer
            )))
        }
    }
}

/// Our answer; `Err(None)` if the secret is refused.
fn ours(op: Op, request: &Request) -> Result<(), Option<UnwrapError>> {
    let webhooks = Webhooks::new(&request.secret).map_err(|_| None)?;
    let webhooks = match request.tolerance {
        None => webhooks,
        Some(seconds) => webhooks.tolerance(Duration::from_secs(seconds)),
    };
    let Request {
        body, headers, now, ..
    } = request;
    match op {
        Op::Verify => webhooks
            .verify_signature_at(body, headers, *now)
            .map(drop)
            .map_err(|error| Some(error.into())),
        Op::Unwrap => webhooks
            .unwrap_at(body, headers, *now)
            .map(drop)
            .map_err(Some),
    }
}

/// Events with an unknown field that Python or its SDK cannot handle.
fn bodies_beyond_python() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        select(vec![4299, 4300, 4301, 10_000])
            .prop_map(|digits| format!("\"x\":{}", "7".repeat(digits))),
        select(vec![120, 800, 900, 1000, 20_000]).prop_map(|depth| format!(
            "\"x\":{}{}",
            "[".repeat(depth),
            "]".repeat(depth)
        )),
        Just("\"_fields_set\":7".to_owned()),
    ];
    let kind = prop_oneof![
        select(EventType::ALL).prop_map(|kind| kind.sample().to_owned()),
        Just("{\"id\":\"evt_1\",\"type\":\"note.taken\"}".to_owned()),
    ];
    (field, kind).prop_map(|(field, event)| format!("{{{field},{}", &event[1..]).into_bytes())
}
