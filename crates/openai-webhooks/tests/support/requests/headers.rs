//! The forms in which headers arrive.

use openai_webhooks::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

/// The form in which the headers arrive.
#[derive(Clone, Debug)]
pub(super) struct HeaderForm {
    case: usize,
    blanks_around: Option<usize>,
    missing: Option<usize>,
    repeated: Option<(usize, Repeat)>,
    others: Vec<(&'static str, &'static str)>,
    order: Vec<Index>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Repeat {
    Same,
    SameWithBlanks,
    Other,
    Empty,
}

pub(super) fn header_forms() -> impl Strategy<Value = HeaderForm> {
    let rarely =
        |frequency, which| prop_oneof![frequency => Just(None), 1 => (0..which).prop_map(Some)];
    let repeat = select(vec![
        Repeat::Same,
        Repeat::SameWithBlanks,
        Repeat::Other,
        Repeat::Empty,
    ]);
    let repeated = prop_oneof![12 => Just(None), 1 => (0..3_usize, repeat).prop_map(Some)];
    let others = subsequence(
        vec![
            ("content-type", "application/json"),
            ("Svix-Id", "msg_1"),
            ("svix-signature", "v1,AAAA"),
            ("webhook-ids", "wh_other"),
            ("x-webhook-id", "wh_other"),
            ("webhook_timestamp", "1"),
        ],
        0..=6,
    );
    (
        0..4_usize,
        rarely(12, 5_usize),
        rarely(30, 3_usize),
        repeated,
        others,
        vec(any::<Index>(), 12),
    )
        .prop_map(
            |(case, blanks_around, missing, repeated, others, order)| HeaderForm {
                case,
                blanks_around,
                missing,
                repeated,
                others,
                order,
            },
        )
}

impl HeaderForm {
    pub(super) fn headers(
        &self,
        id: &[u8],
        timestamp: &[u8],
        signatures: Vec<Vec<u8>>,
    ) -> Vec<(String, Vec<u8>)> {
        let name = |name: &str| match self.case {
            0 => name.to_owned(),
            1 => name.to_uppercase(),
            2 => name.replace("webhook", "Webhook").replace("-i", "-I"),
            _ => name.replace('o', "O"),
        };
        let mut headers = vec![
            (name(WEBHOOK_ID), id.to_vec()),
            (name(WEBHOOK_TIMESTAMP), timestamp.to_vec()),
        ];
        headers.extend(
            signatures
                .into_iter()
                .map(|value| (name(WEBHOOK_SIGNATURE), value)),
        );
        if let Some(blanks) = self.blanks_around {
            let (before, behind) =
                [(" ", ""), ("", " "), ("\t", ""), ("", "\t"), (" \t", "  ")][blanks];
            for (_, value) in &mut headers {
                *value = [before.as_bytes(), value, behind.as_bytes()].concat();
            }
        }
        if let Some((which, repeat)) = self.repeated {
            let (name, value) = headers[which].clone();
            let again = match repeat {
                Repeat::Same => value,
                Repeat::SameWithBlanks => [b" ", &value[..], b"\t"].concat(),
                Repeat::Other => [&value[..], b"0"].concat(),
                Repeat::Empty => Vec::new(),
            };
            headers.push((name.to_lowercase(), again));
        }
        if let Some(which) = self.missing {
            headers.remove(which);
        }
        headers.extend(
            self.others
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.as_bytes().to_vec())),
        );
        let mut in_order = Vec::new();
        for at in &self.order {
            if headers.is_empty() {
                break;
            }
            in_order.push(headers.swap_remove(at.index(headers.len())));
        }
        in_order.extend(headers);
        in_order
    }
}
