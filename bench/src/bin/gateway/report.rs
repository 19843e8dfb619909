//! Measured values and their gates.

use std::fmt::Display;

/// A bound that must hold, and the aim.
#[derive(Clone, Copy)]
pub enum Gate {
    AtLeast(f64, f64),
    AtMost(f64, f64),
}

#[derive(Default)]
pub struct Report {
    facts: Vec<(String, String)>,
    verdicts: Vec<Verdict>,
}

struct Verdict {
    label: String,
    value: f64,
    unit: &'static str,
    gate: Option<Gate>,
    is_enforced: bool,
}

impl Report {
    /// Adds a value of the first table.
    pub fn fact(&mut self, label: impl Into<String>, value: impl Display) {
        self.facts.push((label.into(), value.to_string()));
    }

    /// Adds a ratio without a gate to the second table.
    pub fn ratio(&mut self, label: impl Into<String>, value: f64) {
        self.verdicts.push(Verdict {
            label: label.into(),
            value,
            unit: "",
            gate: None,
            is_enforced: false,
        });
    }

    /// Adds a value with a gate.
    pub fn gate(&mut self, label: impl Into<String>, value: f64, unit: &'static str, gate: Gate) {
        self.verdicts.push(Verdict {
            label: label.into(),
            value,
            unit,
            gate: Some(gate),
            is_enforced: true,
        });
    }

    /// Adds a value whose gate fails nothing, because it varies too much between runs.
    pub fn unenforced_gate(
        &mut self,
        label: impl Into<String>,
        value: f64,
        unit: &'static str,
        gate: Gate,
    ) {
        self.verdicts.push(Verdict {
            label: label.into(),
            value,
            unit,
            gate: Some(gate),
            is_enforced: false,
        });
    }

    /// Prints both tables, and returns `true` if every enforced gate passes. Without
    /// `enforce_gates` the run was too small for a comparison with gates, and the result is always
    /// `true`.
    pub fn print(&self, enforce_gates: bool) -> bool {
        if !self.facts.is_empty() {
            println!("| measured | |");
            println!("|---|--:|");
            for (label, value) in &self.facts {
                println!("| {label} | {value} |");
            }
            println!();
        }
        println!("| with its gate (aim) | | |");
        println!("|---|--:|---|");
        let mut has_passed = true;
        for verdict in &self.verdicts {
            println!("{}", verdict.line(enforce_gates));
            has_passed &= verdict.has_passed() || !verdict.is_enforced;
        }
        has_passed || !enforce_gates
    }
}

impl Verdict {
    fn has_passed(&self) -> bool {
        match self.gate {
            Some(Gate::AtLeast(bound, _)) => self.value >= bound,
            Some(Gate::AtMost(bound, _)) => self.value <= bound,
            None => true,
        }
    }

    fn line(&self, enforce_gates: bool) -> String {
        let Self {
            label, value, unit, ..
        } = self;
        let value = short(*value);
        match self.gate {
            None => format!("| {label} | {value}{unit} | |"),
            Some(gate) => {
                let (sign, bound, aim) = match gate {
                    Gate::AtLeast(bound, aim) => ("≥", bound, aim),
                    Gate::AtMost(bound, aim) => ("≤", bound, aim),
                };
                let verdict = match (enforce_gates, self.has_passed(), self.is_enforced) {
                    (false, ..) => "",
                    (true, true, _) => "PASS",
                    (true, false, true) => "FAIL",
                    (true, false, false) => "missed, no gate",
                };
                format!("| {label} | {value} {sign} {bound}{unit} ({aim}) | {verdict} |")
            }
        }
    }
}

/// The value with three significant digits.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
