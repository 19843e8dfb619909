//! The table, and the gates it has to pass.

use crate::contestants::Who;
use crate::rounds::Times;

enum Gate {
    AtMost([f64; 3]),
    AtLeast([f64; 3]),
}

/// How many times longer the first takes than the second.
const RATIOS: [(Who, Who, Gate); 7] = [
    (Who::OursVerify, Who::Sha256, Gate::AtMost([2.4, 1.7, 1.08])),
    (Who::Ours, Who::Sha256, Gate::AtMost([4.0, 4.2, 3.0])),
    (Who::AsyncOpenai, Who::Ours, Gate::AtLeast([2.0, 2.1, 2.2])),
    (Who::Svix, Who::Ours, Gate::AtLeast([3.8, 3.8, 4.2])),
    (
        Who::StandardWebhooks,
        Who::Ours,
        Gate::AtLeast([3.8, 3.8, 4.2]),
    ),
    (Who::Node, Who::Ours, Gate::AtLeast([50.0, 30.0, 4.5])),
    (Who::Python, Who::Ours, Gate::AtLeast([50.0, 35.0, 14.0])),
];

const ALLOCATIONS: Gate = Gate::AtMost([2.0, 5.0, 5.0]);

/// Says whether every gate was passed.
pub fn print(times: &[Times], allocations: [f64; 3]) -> bool {
    println!("| nanoseconds a call | small | medium | large |");
    println!("|---|--:|--:|--:|");
    for times in times {
        let [small, medium, large] = times.medians();
        println!(
            "| {} | {small:.0} | {medium:.0} | {large:.0} |",
            name(times.who)
        );
    }

    println!();
    println!("| with its gate | small | medium | large | |");
    println!("|---|--:|--:|--:|---|");
    let of = |who| {
        let is_asked = |times: &&Times| times.who == who;
        times.iter().find(is_asked).expect("all were measured")
    };
    let mut has_passed = true;
    for (slow, fast, gate) in RATIOS {
        let what = format!("{} / {}", name(slow), name(fast));
        has_passed &= judge(&what, of(slow).ratios_to(of(fast)), gate);
    }
    has_passed & judge("openai-webhooks: allocations", allocations, ALLOCATIONS)
}

fn judge(what: &str, measured: [f64; 3], gate: Gate) -> bool {
    let (sign, bounds) = match gate {
        Gate::AtMost(bounds) => ("≤", bounds),
        Gate::AtLeast(bounds) => ("≥", bounds),
    };
    let mut has_passed = true;
    print!("| {what} |");
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

fn name(who: Who) -> &'static str {
    match who {
        Who::Sha256 => "SHA-256 alone",
        Who::SerdeJsonWalk => "serde_json alone, keeping nothing",
        Who::OursVerify => "openai-webhooks, verify only",
        Who::Ours => "openai-webhooks",
        Who::AsyncOpenai => "async-openai 0.43.0",
        Who::Svix => "svix 2.9.1 + serde_json",
        Who::StandardWebhooks => "standardwebhooks 1.0.1 + serde_json",
        Who::Node => "openai 7.59.0 for Node",
        Who::Python => "openai 3.57.0 for Python",
    }
}
