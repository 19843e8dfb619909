//! The table of checks: what each one sends and expects, why that matters, and the remedy.

use serde::Serialize;

use super::attacks as send;
use super::forge::Forge;
use super::request::Step;

/// The page that describes every check, under a heading with its name.
const GUIDE: &str = "docs/guide/test-your-handler.md";

/// One check of a handler. Its name is stable: reports, options and documents use it.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) sent: &'static str,
    pub(super) expected: &'static str,
    /// The fault of a handler that fails.
    pub(super) fault: &'static str,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
    pub(super) rule: Rule,
    pub(super) steps: fn(&Forge) -> Vec<Step>,
}

impl Check {
    pub(super) fn docs(&self) -> String {
        format!("{GUIDE}#{}", self.name)
    }
}

/// Where `--effects-command` and `--effects-url` are described.
pub(super) fn effects_docs() -> String {
    format!("{GUIDE}#count-the-effects")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    Genuine,
    Forged,
    Repeated,
    Answers,
}

impl Group {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Genuine => "Genuine events are accepted",
            Self::Forged => "Forged requests are refused",
            Self::Repeated => "Repeated events are processed once",
            Self::Answers => "Answers are prompt and exact",
        }
    }
}

/// The rule by which the answers of a check are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// 2xx for each request.
    Accepted,
    /// 4xx for each request.
    Refused,
    /// 2xx for each request that is genuine, and one effect.
    Once,
    /// 2xx for the last request, and one effect. Copies before it may be told to come again.
    OnceOfCopies,
    /// The time of the genuine events of all checks.
    Prompt,
    /// The status of the genuine events of all checks.
    Exactly200,
}

/// The check that runs first, and without which no other is run.
pub(super) const GENUINE: &str = "genuine-event";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: GENUINE,
        group: Group::Genuine,
        sent: "a signed sample of the type of --type",
        expected: "2xx",
        fault: "a genuine event is refused",
        why: "OpenAI sends an event again for up to 72 hours if its answer is not 2xx. Then the event is lost.",
        remedy: "Verify the raw body with the secret of this endpoint, and answer 200.",
        rule: Rule::Accepted,
        steps: send::genuine_event,
    },
    Check {
        name: "every-event-type",
        group: Group::Genuine,
        sent: "a signed sample of each documented event type",
        expected: "2xx for each",
        fault: "events of some types are refused",
        why: "A refused event comes again for 72 hours and is then lost. An endpoint can be subscribed to more types without a release of its handler.",
        remedy: "Answer 200 for types that you do not use: end the match over the type with a default that does nothing.",
        rule: Rule::Accepted,
        steps: send::every_event_type,
    },
    Check {
        name: "unknown-type",
        group: Group::Genuine,
        sent: "a signed event of a type that no version of an SDK knows",
        expected: "2xx",
        fault: "an event of an unknown type is refused",
        why: "OpenAI adds event types. A handler that fails on a new type gets its events again for 72 hours.",
        remedy: "Answer 200 and log the type: end the match over the type with a default that does nothing.",
        rule: Rule::Accepted,
        steps: send::unknown_type,
    },
    Check {
        name: "unknown-field",
        group: Group::Genuine,
        sent: "a signed event with new fields, at the top and within data",
        expected: "2xx",
        fault: "an event with a new field is refused",
        why: "OpenAI adds fields to existing events. A strict schema then refuses every event of the type.",
        remedy: "Ignore unknown fields.\n\
            Pydantic  model_config = ConfigDict(extra=\"ignore\")\n\
            Zod       z.object({ … }), without .strict()",
        rule: Rule::Accepted,
        steps: send::unknown_field,
    },
    Check {
        name: "json-spelling",
        group: Group::Genuine,
        sent: "signed events in unusual but legal JSON: other spacing, escapes, another order of keys, a line end",
        expected: "2xx for each",
        fault: "plain samples pass, these fail: your application re-serialises the JSON",
        why: "The signature covers the bytes of the body. JSON that was parsed and written again has other bytes, and OpenAI promises no spelling.",
        remedy: "Verify the raw body, with no JSON parser before it, such as express.json() or request.json().\n\
            Express  app.use(express.text({ type: \"application/json\" }))\n\
            FastAPI  payload = await request.body()",
        rule: Rule::Accepted,
        steps: send::json_spelling,
    },
    Check {
        name: "non-ascii",
        group: Group::Genuine,
        sent: "a signed call with letters outside ASCII in a SIP header, as UTF-8",
        expected: "2xx",
        fault: "an event with letters outside ASCII is refused",
        why: "Callers choose their names, in any script.",
        remedy: "Verify the bytes of the body, or decode them as UTF-8. An application that re-serialises the JSON may fail here too: see json-spelling.",
        rule: Rule::Accepted,
        steps: send::non_ascii,
    },
    Check {
        name: "huge-sip-headers",
        group: Group::Genuine,
        sent: "signed calls with 64 KiB and 256 KiB of SIP headers",
        expected: "2xx; a refusal of 256 KiB is a warning",
        fault: "a call with large SIP headers is refused",
        why: "SIP headers come from the caller's provider, and are the largest part of any event. A refused call rings in vain.",
        remedy: "Allow bodies of 1 MiB.\n\
            Express  express.text({ type: \"application/json\", limit: \"1mb\" })\n\
            nginx    client_max_body_size 1m;",
        rule: Rule::Accepted,
        steps: send::huge_sip_headers,
    },
    Check {
        name: "two-signatures",
        group: Group::Genuine,
        sent: "events with two signatures, one of them by another secret, in both orders",
        expected: "2xx for both",
        fault: "the list of signatures is not understood",
        why: "The header webhook-signature is a list. While a secret is rotated, it may have one entry for each secret.",
        remedy: "Split webhook-signature at spaces, and accept the event if any entry matches, as the official SDKs do.",
        rule: Rule::Accepted,
        steps: send::two_signatures,
    },
    Check {
        name: "late-event",
        group: Group::Genuine,
        sent: "an event that happened 71 hours ago, signed now",
        expected: "2xx",
        fault: "an event that happened long ago is refused",
        why: "OpenAI tries for up to 72 hours. Each attempt has a new webhook-timestamp, while created_at stays.",
        remedy: "Check the age of webhook-timestamp, never that of created_at.",
        rule: Rule::Accepted,
        steps: send::late_event,
    },
    Check {
        name: "out-of-order",
        group: Group::Genuine,
        sent: "agent.session.idle, then agent.session.in_progress of the same session, created a minute before",
        expected: "2xx for both",
        fault: "an event that arrives after a newer one is refused",
        why: "OpenAI promises no order of events.",
        remedy: "Answer 200 to the older event, and keep the newer state: compare created_at, or fetch the object.",
        rule: Rule::Accepted,
        steps: send::out_of_order,
    },
    Check {
        name: "bad-signature",
        group: Group::Forged,
        sent: "events with a random signature, and with an empty one",
        expected: "4xx for each",
        fault: "an event with a wrong signature is accepted",
        why: "Anybody who knows the URL can invent events.",
        remedy: "Verify before anything else, with webhooks.unwrap(body, headers) of the official SDK, and answer 400 if that fails.",
        rule: Rule::Refused,
        steps: send::bad_signature,
    },
    Check {
        name: "wrong-secret",
        group: Group::Forged,
        sent: "an event signed with another secret",
        expected: "4xx",
        fault: "an event signed with another secret is accepted",
        why: "An attacker can sign too, with a secret of their own.",
        remedy: "Compare the signature with the one that your own secret makes. Its form alone proves nothing.",
        rule: Rule::Refused,
        steps: send::wrong_secret,
    },
    Check {
        name: "tampered-body",
        group: Group::Forged,
        sent: "an event whose body was changed after signing, by one character",
        expected: "4xx",
        fault: "an event with a changed body is accepted",
        why: "A captured event can be changed to be about another object.",
        remedy: "Compute the signature over webhook-id, webhook-timestamp and the bytes of the body, joined by dots.",
        rule: Rule::Refused,
        steps: send::tampered_body,
    },
    Check {
        name: "tampered-headers",
        group: Group::Forged,
        sent: "events whose webhook-id or webhook-timestamp was changed after signing",
        expected: "4xx for each",
        fault: "an event with a changed webhook-id or webhook-timestamp is accepted",
        why: "A captured event with a new id is no duplicate, and with a new timestamp it never grows old.",
        remedy: "Compute the signature over webhook-id, webhook-timestamp and the bytes of the body, joined by dots.",
        rule: Rule::Refused,
        steps: send::tampered_headers,
    },
    Check {
        name: "missing-header",
        group: Group::Forged,
        sent: "events without one of the three signed headers, and without all of them",
        expected: "4xx for each",
        fault: "an event without a signed header is accepted",
        why: "A handler that skips a check if its header is missing lets the sender skip it.",
        remedy: "Answer 400 if webhook-id, webhook-timestamp or webhook-signature is missing.",
        rule: Rule::Refused,
        steps: send::missing_header,
    },
    Check {
        name: "stale-timestamp",
        group: Group::Forged,
        sent: "an event that was signed ten minutes ago",
        expected: "4xx",
        fault: "an event with an old timestamp is accepted",
        why: "A captured event can be sent again at any later time.",
        remedy: "Refuse a webhook-timestamp that is more than five minutes from now, as the official SDKs do.",
        rule: Rule::Refused,
        steps: send::stale_timestamp,
    },
    Check {
        name: "future-timestamp",
        group: Group::Forged,
        sent: "an event with a webhook-timestamp ten minutes ahead",
        expected: "4xx",
        fault: "an event with a timestamp in the future is accepted",
        why: "Its signature stays valid for longer than the tolerance allows.",
        remedy: "Refuse a webhook-timestamp that is more than five minutes from now, in both directions.",
        rule: Rule::Refused,
        steps: send::future_timestamp,
    },
    Check {
        name: "duplicate",
        group: Group::Repeated,
        sent: "an event, and the same webhook-id again with a new timestamp",
        expected: "2xx for both, and one effect",
        fault: "a duplicate is refused",
        why: "OpenAI may send an event twice. A refused copy comes again for 72 hours, and without de-duplication each copy is processed.",
        remedy: "Insert webhook-id under a unique constraint, in the transaction that does the work. If it is there already, answer 200 and do nothing.",
        rule: Rule::Once,
        steps: send::duplicate,
    },
    Check {
        name: "concurrent-duplicate",
        group: Group::Repeated,
        sent: "eight copies of an event at the same time, and one more afterwards",
        expected: "2xx for the last, and one effect",
        fault: "an event that came in several copies at once is refused",
        why: "Copies may arrive together, at different processes. A look before the insert lets both pass.",
        remedy: "Let the database decide: INSERT … ON CONFLICT DO NOTHING on webhook-id, in the transaction that does the work. A set in memory, or SELECT before INSERT, is not enough.",
        rule: Rule::OnceOfCopies,
        steps: send::concurrent_duplicate,
    },
    Check {
        name: "lost-answer",
        group: Group::Repeated,
        sent: "events whose connection closes at once, half-way, or as the answer arrives; each of them again",
        expected: "2xx for the second copies, and one effect of each event",
        fault: "an event whose answer was lost is refused when it comes again",
        why: "OpenAI sends an event again if its answer was lost. Some frameworks cancel a handler when the client is gone, in the midst of its work.",
        remedy: "Write webhook-id and the work in one transaction, both or neither. Then the second copy does what the first one did not.",
        rule: Rule::Once,
        steps: send::lost_answer,
    },
    Check {
        name: "forged-first",
        group: Group::Repeated,
        sent: "a forged event, and then the genuine one with the same webhook-id",
        expected: "2xx for the genuine one, and one effect",
        fault: "a forged event makes the genuine one a duplicate",
        why: "Whoever learns a webhook-id could suppress its event.",
        remedy: "Verify the signature before you record the webhook-id.",
        rule: Rule::Once,
        steps: send::forged_first,
    },
    Check {
        name: "slow-answer",
        group: Group::Answers,
        sent: "nothing more: the time of every genuine event counts",
        expected: "an answer within the time of --answer-within",
        fault: "answers take too long",
        why: "OpenAI waits a few seconds. Then the attempt has failed, and the event comes again while the first copy is still in progress.",
        remedy: "Store the event, answer 200, and do the work afterwards, from a queue or in a background task.",
        rule: Rule::Prompt,
        steps: send::nothing,
    },
    Check {
        name: "status-200",
        group: Group::Answers,
        sent: "nothing more: the status of every accepted event counts",
        expected: "exactly 200; another 2xx is a warning",
        fault: "events are accepted with another status than 200",
        why: "OpenAI's guide takes any 2xx for success. Its reference of the events says 200.",
        remedy: "Answer exactly 200.",
        rule: Rule::Exactly200,
        steps: send::nothing,
    },
];
