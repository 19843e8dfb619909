//! What was measured, and the gates it has to pass.

use std::fmt::Display;

/// A bound, and where we want to be.
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
    what: String,
    value: f64,
    unit: &'static str,
    gate: Option<Gate>,
    is_binding: bool,
}

impl Report {
    /// A number that is shown.
    pub fn fact(&mut self, what: impl Into<String>, value: impl Display) {
        self.facts.push((what.into(), value.to_string()));
    }

    /// A number that is shown beside those with gates.
    pub fn ratio(&mut self, what: impl Into<String>, value: f64) {
        self.verdicts.push(Verdict {
            what: what.into(),
            value,
            unit: "",
            gate: None,
            is_binding: false,
        });
    }

    /// A number with a gate.
    pub fn gate(&mut self, what: impl Into<String>, value: f64, unit: &'static str, gate: Gate) {
        self.verdicts.push(Verdict {
            what: what.into(),
            value,
            unit,
            gate: Some(gate),
            is_binding: true,
        });
    }

    /// A number that ought to pass, and fails nothing: it differs too much from run to run.
    pub fn wish(&mut self, what: impl Into<String>, value: f64, unit: &'static str, gate: Gate) {
        self.verdicts.push(Verdict {
            what: what.into(),
            value,
            unit,
            gate: Some(gate),
            is_binding: false,
        });
    }

    /// Prints both tables, and says whether every gate was passed. Without `judged`, numbers are
    /// too small to be held against gates.
    pub fn print(&self, judged: bool) -> bool {
        if !self.facts.is_empty() {
            println!("| measured | |");
            println!("|---|--:|");
            for (what, value) in &self.facts {
                println!("| {what} | {value} |");
            }
            println!();
        }
        println!("| with its gate (aim) | | |");
        println!("|---|--:|---|");
        let mut has_passed = true;
        for verdict in &self.verdicts {
            println!("{}", verdict.line(judged));
            has_passed &= verdict.has_passed() || !verdict.is_binding;
        }
        has_passed || !judged
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

    fn line(&self, judged: bool) -> String {
        let Self {
            what, value, unit, ..
        } = self;
        let value = short(*value);
        match self.gate {
            None => format!("| {what} | {value}{unit} | |"),
            Some(gate) => {
                let (sign, bound, aim) = match gate {
                    Gate::AtLeast(bound, aim) => ("≥", bound, aim),
                    Gate::AtMost(bound, aim) => ("≤", bound, aim),
                };
                let verdict = match (judged, self.has_passed(), self.is_binding) {
                    (false, ..) => "",
                    (true, true, _) => "PASS",
                    (true, false, true) => "FAIL",
                    (true, false, false) => "missed, no gate",
                };
                format!("| {what} | {value} {sign} {bound}{unit} ({aim}) | {verdict} |")
            }
        }
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
