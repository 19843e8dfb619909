//! `unwrapd verify` recognises the spellings that Python and Node really write.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use openai_webhooks::EventType;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::unwrapd;
use crate::support::{OPENAI_SECRET, openai, unix_now};

/// Everything that serialisers write differently.
const ODD: &str = r#"{"type":"response.completed","id":"evt_é😀日\u2028\u007f\u0001\"'\\/<>&+","data":{"list":[],"of":{},"n":[1,-2,true,null],"\u00fc":"\ud83d\ude00"},"object":"event"}"#;

/// The event in each spelling of a program, in its order, under the name of the call.
fn spellings(program: &str, event: &str) -> Vec<(String, String)> {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/peers/bin/{program}"));
    assert!(program.exists(), "run scripts/peers first");
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(event.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_body_that_one_serialiser_wrote_again_after_another_is_named_with_both() {
    let folder = TempDir::new().unwrap();
    let samples = [
        EventType::ResponseCompleted,
        EventType::RealtimeCallIncoming,
    ];
    for event in samples.map(EventType::sample).into_iter().chain([ODD]) {
        let all = [
            spellings("node-serialise", event),
            spellings("python-serialise", event),
        ]
        .concat();
        assert!(all.len() >= 14, "{all:?}");
        // Several calls may write one text, and more of them if its keys are sorted already.
        let sorted = all.iter().find(|(name, _)| name.contains("sort_keys"));
        let (_, sorted) = sorted.unwrap();
        let of_sorted = [
            spellings("node-serialise", sorted),
            spellings("python-serialise", sorted),
        ];
        let writes = |name: &str, text: &str| {
            let mut all = all.iter().chain(of_sorted.iter().flatten());
            all.any(|(other, written)| other == name && written == text)
        };
        let mut command = unwrapd();
        command
            .args(["verify", "--output", "json"])
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET);
        let mut expected = Vec::new();
        for (signed_by, signed) in &all {
            let headers = openai().sign(signed, "wh_1", unix_now()).unwrap();
            for (arrived_by, arrived) in &all {
                let mut request: String = headers
                    .pairs()
                    .map(|(name, value)| format!("{name}: {value}\n"))
                    .concat();
                request += "\n";
                request += arrived;
                let file = folder.path().join(format!("{}", expected.len()));
                std::fs::write(&file, request).unwrap();
                command.arg(file);
                expected.push((signed, arrived, format!("{signed_by}, then {arrived_by}")));
            }
        }
        let output = command.output().unwrap();
        let reports = String::from_utf8(output.stdout).unwrap();
        assert_eq!(reports.lines().count(), expected.len());
        for (line, (signed, arrived, case)) in reports.lines().zip(expected) {
            let report: Value = serde_json::from_str(line).unwrap();
            assert_eq!(report["authentic"], signed == arrived, "{case}: {line}");
            // The order of keys that are sorted is found only for text on one line, or for that of
            // the documentation.
            let is_lost = event == ODD
                && signed.contains('\n')
                && case.contains(", then json.dumps(event, sort_keys");
            if signed == arrived || is_lost {
                continue;
            }
            assert_eq!(report["cause"], "body_reserialised", "{case}: {line}");
            let finding = report["checks"][2]["finding"].as_str().unwrap();
            let named: Vec<&str> = finding.split('`').collect();
            let [_, arrived_name, _, signed_name, _] = named[..] else {
                panic!("{case}: {finding}");
            };
            assert!(writes(arrived_name, arrived), "{case}: {finding}");
            assert!(writes(signed_name, signed), "{case}: {finding}");
        }
    }
}
