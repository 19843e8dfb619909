//! The arrows of ARCHITECTURE.md: which module may use which.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module, with the modules of the crate that it may use. An unlisted module is a leaf and may
/// use none.
pub(crate) const ARROWS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "api",
            "config",
            "delivery",
            "destinations",
            "diagnosis",
            "pipeline_events",
            "gateway",
            "message",
            "quarantine",
            "receive",
            "route",
            "settings_file",
            "store",
            "telemetry",
        ],
    ),
    (
        "gateway",
        &[
            "admin",
            "alerts",
            "bulk",
            "config",
            "delivery",
            "destinations",
            "dispatch",
            "pipeline_events",
            "intake",
            "listen",
            "metrics",
            "quarantine",
            "prune",
            "receive",
            "store",
            "tls",
            "trace_context",
            "traces",
        ],
    ),
    (
        "receive",
        &[
            "crash",
            "pipeline_events",
            "intake",
            "message",
            "evicting_limiter",
            "quarantine",
            "settings_file",
            "store",
        ],
    ),
    (
        "quarantine",
        &[
            "intake",
            "message",
            "pipeline_events",
            "store",
            "token_bucket",
        ],
    ),
    (
        "intake",
        &[
            "delivery",
            "destinations",
            "pipeline_events",
            "message",
            "route",
            "store",
        ],
    ),
    (
        "dispatch",
        &[
            "crash",
            "delivery",
            "destinations",
            "pipeline_events",
            "handoff",
            "store",
            "trace_context",
        ],
    ),
    (
        "admin",
        &[
            "api",
            "bulk",
            "delivery",
            "destinations",
            "diagnosis",
            "intake",
            "message",
            "metrics",
            "pipeline_events",
            "quarantine",
            "route",
            "settings_file",
            "store",
        ],
    ),
    (
        "alerts",
        &["delivery", "intake", "message", "pipeline_events", "route"],
    ),
    ("metrics", &["delivery", "pipeline_events", "store"]),
    ("api", &["store"]),
    ("bulk", &["destinations", "store"]),
    ("prune", &["pipeline_events", "store"]),
    (
        "listen",
        &["evicting_limiter", "receive", "settings_file", "tls"],
    ),
    (
        "destinations",
        &[
            "delivery",
            "handoff",
            "message",
            "pipeline_events",
            "route",
            "settings_file",
            "store",
            "trace_context",
        ],
    ),
    (
        "store",
        &["crash", "delivery", "handoff", "message", "route"],
    ),
    (
        "config",
        &[
            "admin",
            "api",
            "destinations",
            "listen",
            "receive",
            "settings_file",
            "store",
            "telemetry",
            "traces",
        ],
    ),
    ("telemetry", &["pipeline_events", "settings_file"]),
    ("observe", &["message"]),
    (
        "pipeline_events",
        &["delivery", "message", "store", "trace_context", "traffic"],
    ),
    (
        "traces",
        &[
            "delivery",
            "destinations",
            "pipeline_events",
            "settings_file",
            "store",
            "trace_context",
        ],
    ),
    ("traffic", &["store"]),
    ("delivery", &["message", "token_bucket"]),
    ("handoff", &["delivery"]),
];

/// Leaves that every module with input or output may use.
pub(crate) const FOR_ALL: &[&str] = &[
    "VERSION",
    "certificates",
    "clock",
    "files",
    "observe",
    "printable",
];

/// Pure modules: they await nothing, read no clock and do no I/O.
const PURE: &[&str] = &[
    "clock/history.rs",
    "clock/line.rs",
    "clock/state.rs",
    "diagnosis.rs",
    "diagnosis/body.rs",
    "diagnosis/cause.rs",
    "diagnosis/header.rs",
    "diagnosis/json.rs",
    "diagnosis/key_order.rs",
    "diagnosis/spelling.rs",
    "diagnosis/spelling/writer.rs",
    "diagnosis/trials.rs",
    "message.rs",
    "route.rs",
    "trace_context.rs",
    "delivery.rs",
    "delivery/breaker.rs",
    "delivery/limits.rs",
    "delivery/rate_limiter.rs",
    "token_bucket.rs",
    "delivery/retry.rs",
    "store/bounds.rs",
    "store/filter.rs",
    "store/filter/when.rs",
    "store/operate/replay_batch.rs",
    "store/operate/replay_record.rs",
    "store/replay.rs",
    "store/retention.rs",
    "store/views.rs",
    "delivery/response_excerpt.rs",
    "delivery/limit_share.rs",
];

#[test]
fn each_module_names_only_the_modules_it_may() {
    for (path, text) in sources() {
        let module = path.split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let allowed = ARROWS
            .iter()
            .find(|(name, _)| *name == module)
            .map_or(&[][..], |(_, allowed)| allowed);
        for named in named_modules(&text) {
            assert!(
                named == module
                    || allowed.contains(&named.as_str())
                    || FOR_ALL.contains(&named.as_str()),
                "{path} names `{named}`, which {module} may not"
            );
        }
    }
}

/// Otherwise arrows would be hidden: `super::super` does not name the module.
#[test]
fn modules_outside_the_command_line_do_not_climb_above_their_parent() {
    for (path, text) in sources() {
        let climbs = text.contains("super::super");
        assert!(!climbs || path.starts_with("cli/dev/"), "{path}");
    }
}

#[test]
fn no_allowed_arrow_is_left_over() {
    let sources = sources();
    for (module, allowed) in ARROWS {
        let named: BTreeSet<String> = sources
            .iter()
            .filter(|(path, _)| path.split(['/', '.']).next() == Some(module))
            .flat_map(|(_, text)| named_modules(text))
            .collect();
        for arrow in *allowed {
            assert!(
                named.contains(*arrow),
                "{module} may name `{arrow}` and does not"
            );
        }
    }
}

#[test]
fn the_pure_row_awaits_nothing_and_reads_no_clock() {
    for (path, text) in sources() {
        if PURE.contains(&path.as_str()) {
            // Tests may, because they need some instant to begin with.
            let text = text.split("#[cfg(test)]").next().unwrap();
            for impure in [
                "async ", ".await", "::now()", "std::fs", "std::net", "fastrand",
            ] {
                assert!(!text.contains(impure), "{path} holds `{impure}`");
            }
        }
    }
}

#[test]
fn every_pure_file_is_there() {
    let sources = sources();
    for pure in PURE {
        assert!(sources.iter().any(|(path, _)| path == pure), "{pure}");
    }
}

/// Dependencies that a crate must not have.
#[test]
fn each_crate_depends_only_on_what_its_purpose_needs() {
    let runtimes = ["tokio", "async-std", "smol"];
    let http = ["axum", "http", "hyper", "reqwest"];
    let databases = ["rusqlite", "tokio-postgres"];
    for (name, forbidden) in [
        (
            "openai-webhooks",
            [&runtimes[..], &["hyper", "reqwest"], &databases].concat(),
        ),
        ("unwrapd-core", [&http[..], &databases].concat()),
        ("unwrapd-store", http.to_vec()),
        ("unwrapd", databases.to_vec()),
        (
            "unwrapd-mock",
            [
                &["unwrapd", "unwrapd-core", "unwrapd-store"][..],
                &databases,
            ]
            .concat(),
        ),
    ] {
        let dependencies = dependencies(name);
        for dependency in forbidden {
            assert!(
                !dependencies.contains(dependency),
                "{name} depends on {dependency}"
            );
        }
    }
}

/// The mock plays OpenAI. A gateway that knew it would be tested against itself.
#[test]
fn only_its_command_names_the_mock() {
    for (path, text) in sources() {
        let is_command = path == "cli/mock.rs";
        assert_eq!(text.contains("unwrapd_mock::"), is_command, "{path}");
    }
}

/// The names of the dependencies of a crate.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(folder(name).join("../Cargo.toml")).unwrap();
    let section = manifest
        .split("[dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .unwrap();
    let lines = section.lines().filter(|line| !line.trim().is_empty());
    lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .map(str::to_owned)
        .collect()
}

/// Crates of the gateway, and the module that each is to the others.
const CRATES: &[(&str, &str)] = &[
    ("unwrapd", ""),
    ("unwrapd-store", "store"),
    ("unwrapd-core", ""),
];

/// The source folder of a crate.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
        .join("src")
}

/// Every source file: its path below `src`, with its crate's module before it, and its text.
pub(crate) fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    for (name, module) in CRATES {
        let folder = folder(name);
        let mut files = Vec::new();
        walk(&folder, &folder, &mut files);
        assert!(!files.is_empty(), "{name}");
        found.extend(files.into_iter().map(|(path, text)| match *module {
            "" => (path, text),
            module if path == "lib.rs" => (format!("{module}.rs"), as_module(&text, module)),
            module => (format!("{module}/{path}"), as_module(&text, module)),
        }));
    }
    found
}

/// The text with the paths that it would have as a module of one crate.
fn as_module(text: &str, module: &str) -> String {
    text.replace("crate::", &format!("crate::{module}::"))
        .replace("unwrapd_core::", "crate::")
}

/// The modules behind each `crate::` in the code.
fn named_modules(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split_once("};").map_or(list, |(list, _)| list);
                named.extend(list.split(',').map(first_name));
            }
            None => {
                named.insert(first_name(rest));
            }
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

fn first_name(text: &str) -> String {
    text.trim()
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}
