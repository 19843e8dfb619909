//! The result tables and the gates.

use crate::contestants::ContestantId;
use crate::rounds::Times;

enum Gate {
    AtMost([f64; 3]),
    AtLeast([f64; 3]),
}

/// Largest times of ours divided by the time of SHA-256, for each size.
const OURS_BY_SHA256: [(ContestantId, [f64; 3]); 2] = [
    (ContestantId::OursVerify, [2.4, 1.7, 1.08]),
    (ContestantId::Ours, [4.0, 4.2, 3.0]),
];

/// Smallest times of others divided by ours, for each size.
const OTHERS_BY_OURS: [(ContestantId, [f64; 3]); 5] = [
    (ContestantId::AsyncOpenai, [2.0, 2.1, 2.2]),
    (ContestantId::Svix, [3.8, 3.8, 4.2]),
    (ContestantId::StandardWebhooks, [3.8, 3.8, 4.2]),
    (ContestantId::Node, [50.0, 30.0, 4.5]),
    (ContestantId::Python, [50.0, 35.0, 14.0]),
];

const ALLOCATIONS: Gate = Gate::AtMost([2.0, 5.0, 5.0]);

/// Prints the tables, and returns `true` if every gate passes.
pub fn print(times: &[Times], allocations: [f64; 3]) -> bool {
    println!("| nanoseconds a call | small | medium | large |");
    println!("|---|--:|--:|--:|");
    for times in times {
        let [small, medium, large] = times.medians();
        println!(
            "| {} | {small:.0} | {medium:.0} | {large:.0} |",
            name(times.id)
        );
    }

    println!();
    println!("| with its gate | small | medium | large | |");
    println!("|---|--:|--:|--:|---|");
    let of = |id| {
        let is_asked = |times: &&Times| times.id == id;
        times.iter().find(is_asked).expect("all were measured")
    };
    let mut has_passed = true;
    let of_ours =
        OURS_BY_SHA256.map(|(slow, bounds)| (slow, ContestantId::Sha256, Gate::AtMost(bounds)));
    let of_others =
        OTHERS_BY_OURS.map(|(slow, bounds)| (slow, ContestantId::Ours, Gate::AtLeast(bounds)));
    for (slow, fast, gate) in of_ours.into_iter().chain(of_others) {
        let label = format!("{} / {}", name(slow), name(fast));
        has_passed &= judge(&label, of(slow).ratios_to(of(fast)), gate);
    }
    has_passed & judge("openai-webhooks: allocations", allocations, ALLOCATIONS)
}

fn judge(label: &str, measured: [f64; 3], gate: Gate) -> bool {
    let (sign, bounds) = match gate {
        Gate::AtMost(bounds) => ("≤", bounds),
        Gate::AtLeast(bounds) => ("≥", bounds),
    };
    let mut has_passed = true;
    print!("| {label} |");
    for (value, bound) in measured.into_iter().zip(bounds) {
        has_passed &= match gate {
            Gate::AtMost(_) => value <= bound,
            Gate::AtLeast(_) => value >= bound,
        };
        print!(" {value:.2} {sign} {bound} |");
    }
    println!(" {} |", if has_passed { "PASS" } else { "FAIL" });
    has_passed
}

fn name(id: ContestantId) -> &'static str {
    match id {
        ContestantId::Sha256 => "SHA-256 alone",
        ContestantId::SerdeJsonWalk => "serde_json alone, keeping nothing",
        ContestantId::OursVerify => "openai-webhooks, verify only",
        ContestantId::Ours => "openai-webhooks",
        ContestantId::AsyncOpenai => "async-openai 0.43.0",
        ContestantId::Svix => "svix 2.9.1 + serde_json",
        ContestantId::StandardWebhooks => "standardwebhooks 1.0.1 + serde_json",
        ContestantId::Node => "openai 7.59.0 for Node",
        ContestantId::Python => "openai 3.57.0 for Python",
    }
}
