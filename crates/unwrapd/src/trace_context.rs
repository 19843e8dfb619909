//! Ids of traces and spans, as in [W3C Trace Context](https://www.w3.org/TR/trace-context/).
//!
//! An id is a hash of ids that the store has anyway. So nothing is stored for a trace, and an
//! attempt after a restart, or at another gateway, belongs to the trace of its webhook.

use sha2::{Digest as _, Sha256};

/// Number of bits of a trace id that decide whether it is sampled: the last ones.
const SAMPLED_BITS: u32 = 56;

/// The trace of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its id.
    pub id: u128,
    /// Id of the span of the request that brought the webhook. All other spans are below it.
    pub root: u64,
    /// Whether its spans are exported.
    pub is_sampled: bool,
}

impl Trace {
    /// The trace of the webhook with this `webhook-id` at this endpoint. Its id and its root are
    /// the first bytes of SHA-256 over `ENDPOINT/WEBHOOK-ID`. The name of an endpoint has no slash.
    #[must_use]
    pub fn of(endpoint: &str, webhook_id: &str, sampler: Sampler) -> Self {
        let hash = hash([endpoint.as_bytes(), b"/", webhook_id.as_bytes()]);
        let (id, root) = (first(hash), next(hash));
        Self {
            id,
            root,
            is_sampled: sampler.takes(id),
        }
    }

    /// Id of the span of this name below the span `above`.
    #[must_use]
    pub fn span(&self, above: u64, name: &str) -> u64 {
        next(hash([
            &self.id.to_be_bytes(),
            &above.to_be_bytes(),
            name.as_bytes(),
        ]))
    }

    /// The attempt of this number, from 1, to deliver the webhook to this destination.
    #[must_use]
    pub fn attempt(self, destination: &str, number: u32) -> AttemptTrace {
        AttemptTrace {
            // The name of a destination has no slash.
            span: self.span(self.root, &format!("{destination}/{number}")),
            trace: self,
        }
    }
}

/// An attempt as a part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptTrace {
    /// The trace of its webhook.
    pub trace: Trace,
    /// Id of the span of the attempt.
    pub span: u64,
}

impl AttemptTrace {
    /// The value of [`traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header) for
    /// the destination, whose spans are below that of the attempt.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let Trace { id, is_sampled, .. } = self.trace;
        format!(
            "00-{id:032x}-{:016x}-{:02x}",
            self.span,
            u8::from(is_sampled)
        )
    }
}

/// Selects the traces that are exported by their ids. So all gateways select the same ones, and
/// each trace is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Smallest number in the last bits of an id that is selected.
    threshold: u64,
}

impl Sampler {
    /// Selects this part of all traces, from 0 to 1, by the rule of
    /// [OpenTelemetry](https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number from 0 to a power of two"
    )]
    pub fn of(part: f64) -> Self {
        let all = (1_u64 << SAMPLED_BITS) as f64;
        Self {
            threshold: ((1.0 - part.clamp(0.0, 1.0)) * all) as u64,
        }
    }

    fn takes(self, id: u128) -> bool {
        let mask = (1 << SAMPLED_BITS) - 1;
        id & mask >= u128::from(self.threshold)
    }
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The first 16 bytes of a hash.
fn first(hash: [u8; 32]) -> u128 {
    u128::from_be_bytes(*hash.first_chunk().expect("there are 32"))
}

/// The 8 bytes after them.
fn next(hash: [u8; 32]) -> u64 {
    u64::from_be_bytes(*hash[16..].first_chunk().expect("there are 16 more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Sampler {
        Sampler::of(1.0)
    }

    /// `printf %s production/wh_1 | sha256sum`, as in `docs/guide/traces.md`.
    #[test]
    fn the_id_can_be_computed_with_usual_tools() {
        let trace = Trace::of("production", "wh_1", all());
        assert_eq!(
            format!("{:032x}", trace.id),
            "81129918204465b21796d7c400dd7278"
        );
        assert_eq!(format!("{:016x}", trace.root), "874d7065e2ae79bb");
        let attempt = trace.attempt("app", 2);
        assert_eq!(
            attempt.traceparent(),
            format!("00-{:032x}-{:016x}-01", trace.id, attempt.span)
        );
    }

    #[test]
    fn ids_differ_by_endpoint_webhook_destination_and_number() {
        let trace = Trace::of("a", "b", all());
        for (endpoint, id) in [("b", "b"), ("a", "a"), ("ab", ""), ("", "ab")] {
            assert_ne!(trace.id, Trace::of(endpoint, id, all()).id);
        }
        let attempt = trace.attempt("app", 1);
        for (destination, number) in [("app", 2), ("ap", 1), ("app1", 1)] {
            assert_ne!(attempt.span, trace.attempt(destination, number).span);
        }
        let other = Trace::of("a", "c", all());
        assert_ne!(attempt.span, other.attempt("app", 1).span);
    }

    #[test]
    fn a_part_of_all_traces_is_sampled_and_a_larger_part_has_the_same_ones() {
        let sampled = |part: f64| -> Vec<bool> {
            let ids = 0..1000;
            ids.map(|id| Trace::of("a", &id.to_string(), Sampler::of(part)).is_sampled)
                .collect()
        };
        let count = |part: f64| sampled(part).iter().filter(|one| **one).count();
        assert_eq!((count(0.0), count(1.0)), (0, 1000));
        assert!((150..250).contains(&count(0.2)), "{}", count(0.2));
        let (few, more) = (sampled(0.2), sampled(0.6));
        assert!(few.iter().zip(&more).all(|(few, more)| !few || *more));
        let unsampled = Trace::of("a", "b", Sampler::of(0.0));
        assert!(unsampled.attempt("app", 1).traceparent().ends_with("-00"));
    }
}
