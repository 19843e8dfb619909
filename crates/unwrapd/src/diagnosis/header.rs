//! Changes that proxies and programs make to the signed headers, each with the way to undo it. Pure.

use openai_webhooks::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, Webhooks};

use super::trials::SignedRequest;

/// Maximum number of values of a repeated header that are tried.
const VALUES_MAX: usize = 4;
/// Letters of a signature that was cut short, at least: 96 bits, which nobody guesses.
const CUT_LETTERS_MIN: usize = 16;

/// A change of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderChange {
    /// Its stable name.
    pub(super) name: &'static str,
    /// The change, as the end of a sentence about the value.
    pub(super) finding: &'static str,
    /// The next step, in the imperative.
    pub(super) remedy: &'static str,
}

const QUOTED: HeaderChange = changed("is in quotation marks");
const JOINED: HeaderChange = changed("stands there several times, joined by commas");
const VALUE_ADDED: HeaderChange = changed("has a second value");
const LETTERS: HeaderChange = changed("has letters in another case");
const CUT_SHORT: HeaderChange = changed("is cut short");
const MILLISECONDS: HeaderChange = HeaderChange {
    name: "timestamp_milliseconds",
    finding: "is in milliseconds, and OpenAI signed seconds",
    remedy: "pass `webhook-timestamp` on as it is, in seconds",
};

const fn changed(finding: &'static str) -> HeaderChange {
    HeaderChange {
        name: "header_changed",
        finding,
        remedy: "correct the proxy or the program that passes the header on",
    }
}

/// A change, the headers that may have it, and the way to undo it; `None`: the value does not have
/// it.
type Undo = (
    HeaderChange,
    &'static [&'static str],
    fn(&str) -> Option<String>,
);

const UNDOS: &[Undo] = &[
    (
        QUOTED,
        &[WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE],
        unquoted,
    ),
    (JOINED, &[WEBHOOK_ID, WEBHOOK_TIMESTAMP], parted),
    (LETTERS, &[WEBHOOK_ID], in_lower_case),
    (MILLISECONDS, &[WEBHOOK_TIMESTAMP], in_seconds),
];

/// Headers as they may have been before a change.
pub(super) struct Restored {
    pub(super) change: HeaderChange,
    /// The header that changes.
    pub(super) header: &'static str,
    pub(super) headers: Vec<(String, String)>,
}

/// The headers with each change undone that they may have.
pub(super) fn restored(headers: &[(String, String)]) -> impl Iterator<Item = Restored> {
    let undone = UNDOS.iter().filter_map(|(change, names, undo)| {
        let mut changed = None;
        let headers = headers.iter().map(|(name, value)| {
            let mut names = names.iter();
            let signed = names.find(|signed| signed.eq_ignore_ascii_case(name));
            let before = signed.and_then(|signed| Some((*signed, undo(value.trim())?)));
            let Some((signed, before)) = before else {
                return (name.clone(), value.clone());
            };
            changed.get_or_insert(signed);
            (name.clone(), before)
        });
        let headers = headers.collect();
        Some(Restored {
            change: *change,
            header: changed?,
            headers,
        })
    });
    let names = [WEBHOOK_ID, WEBHOOK_TIMESTAMP];
    undone.chain(names.into_iter().flat_map(|name| single(headers, name)))
}

/// The headers with each of the values of this one alone, if it has several.
fn single(headers: &[(String, String)], header: &'static str) -> Vec<Restored> {
    let is_it = |name: &str| header.eq_ignore_ascii_case(name);
    let mut values: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| is_it(name))
        .map(|(_, value)| value.trim())
        .collect();
    values.dedup();
    if !(2..=VALUES_MAX).contains(&values.len()) {
        return Vec::new();
    }
    values
        .into_iter()
        .map(|value| {
            let others = headers.iter().filter(|(name, _)| !is_it(name)).cloned();
            let only = (header.to_owned(), value.to_owned());
            Restored {
                change: VALUE_ADDED,
                header,
                headers: others.chain([only]).collect(),
            }
        })
        .collect()
}

/// The change of the signature, if it is the right one but for the case of its letters or its end.
pub(super) fn damage_of_signature(
    webhooks: &Webhooks,
    request: SignedRequest<'_>,
) -> Option<HeaderChange> {
    let id = request.value(WEBHOOK_ID)?;
    let right = webhooks.sign(request.body, id, request.sent_at()?).ok()?;
    let right = right.signature.split(' ');
    let right = right.filter_map(|item| item.strip_prefix("v1,"));
    let given = request.value(WEBHOOK_SIGNATURE)?.split([' ', ',']);
    let given = given.filter(|item| item.len() >= CUT_LETTERS_MIN);
    right
        .flat_map(|right| given.clone().map(move |given| (right, given)))
        .find_map(|(right, given)| {
            if right.eq_ignore_ascii_case(given) {
                return Some(LETTERS);
            }
            let is_beginning = right.len() > given.len() && right.starts_with(given);
            is_beginning.then_some(CUT_SHORT)
        })
}

fn unquoted(value: &str) -> Option<String> {
    let bare = value.trim_matches(['"', '\'', '`']);
    (bare.len() < value.len()).then(|| bare.to_owned())
}

fn parted(value: &str) -> Option<String> {
    let (first, others) = value.split_once(',')?;
    let is_same = others.split(',').all(|other| other.trim() == first);
    is_same.then(|| first.to_owned())
}

/// OpenAI's ids have small letters.
fn in_lower_case(value: &str) -> Option<String> {
    let lower = value.to_ascii_lowercase();
    (lower != value).then_some(lower)
}

fn in_seconds(value: &str) -> Option<String> {
    const DIGITS: usize = 13;
    const DIGITS_OF_SECONDS: usize = 10;
    let is_number = value.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && value.len() == DIGITS).then(|| value[..DIGITS_OF_SECONDS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_undone_and_a_right_value_has_none() {
        for (undo, changed, before) in [
            (unquoted as fn(&str) -> Option<String>, "\"wh_1\"", "wh_1"),
            (parted, "wh_1, wh_1", "wh_1"),
            (in_lower_case, "WH_1A", "wh_1a"),
            (in_seconds, "1750287078123", "1750287078"),
        ] {
            assert_eq!(undo(changed).as_deref(), Some(before), "{changed}");
        }
        let headers = [
            (WEBHOOK_ID, "wh_685342e6c53c8190a1be43f081506c52"),
            (WEBHOOK_TIMESTAMP, "1750287078"),
            (
                WEBHOOK_SIGNATURE,
                "v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=",
            ),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(restored(&headers).count(), 0);
    }

    #[test]
    fn each_of_several_values_is_tried_alone() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [pair("Webhook-Id", "a"), pair("webhook-id", "b")];
        let values: Vec<String> = restored(&headers)
            .map(|restored| restored.headers[0].1.clone())
            .collect();
        assert_eq!(values, ["a", "b"]);
    }
}
