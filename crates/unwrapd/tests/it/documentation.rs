//! The documentation: every link resolves, and the reference is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use unwrapd::admin::{Bounds, Class, Route, routes};

use crate::architecture::{ARROWS, FOR_ALL};
use crate::support::process::unwrapd;

const CONFIGURATION: &str = include_str!("../../../../docs/reference/configuration.md");
const COMMANDS: &str = include_str!("../../../../docs/reference/commands.md");
const ENVIRONMENT: &str = include_str!("../../../../docs/reference/environment.md");
const ADMIN_API: &str = include_str!("../../../../docs/reference/admin-api.md");
const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");
const FULL_EXAMPLE: &str = include_str!("../../examples/gateway.full.toml");

#[test]
fn every_relative_link_resolves() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in links(&text) {
            if let Some(problem) = problem(&page, &text, &target) {
                broken.push(format!("{}: {target}: {problem}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A page that no other page links to is not found.
#[test]
fn the_index_links_every_page() {
    let docs = root().join("docs");
    let index = docs.join("README.md");
    let linked: BTreeSet<PathBuf> = links(&std::fs::read_to_string(&index).unwrap())
        .iter()
        .filter_map(|target| docs.join(target).canonicalize().ok())
        .collect();
    for page in pages() {
        let is_listed = ["guide", "reference", "internals"]
            .iter()
            .any(|part| page.starts_with(docs.join(part)));
        assert!(
            !is_listed || linked.contains(&page.canonicalize().unwrap()),
            "docs/README.md does not link {}",
            page.display()
        );
    }
}

/// The gateway lists the keys of a table when it refuses an unknown one.
#[test]
fn the_reference_has_every_key_of_the_configuration_and_no_other() {
    let documented = documented_keys();
    for (table, header) in [
        ("server", "[server]"),
        ("server.tls", "[server.tls]"),
        ("server.tls", "[server.admin_tls]"),
        ("log", "[log]"),
        ("traces", "[traces]"),
        ("store", "[store]"),
        ("endpoint", "[[endpoint]]"),
        ("destination", "[[destination]]"),
    ] {
        let mut known = known_keys(header);
        // Tables within [server] have a section of their own.
        known.retain(|key| !matches!(&**key, "tls" | "admin_tls"));
        assert_eq!(documented[table], known, "{header}");
    }
}

/// Optional keys are comments there.
#[test]
fn the_full_example_shows_every_key_of_the_reference() {
    let mut shown: BTreeMap<&str, String> = BTreeMap::new();
    let mut table = "";
    for line in FULL_EXAMPLE.lines() {
        let header = line.trim_start_matches("# ").strip_prefix('[');
        if let Some((name, _)) = header.and_then(|header| header.split_once(']')) {
            table = name.trim_start_matches('[');
        }
        let text = shown.entry(table).or_default();
        text.push_str(line);
        text.push('\n');
    }
    for (table, keys) in documented_keys() {
        for key in keys {
            assert!(
                sets(&shown[table], &key),
                "gateway.full.toml does not show `{key}` of [{table}]"
            );
        }
    }
}

#[test]
fn the_reference_has_every_command_with_its_options_and_no_other() {
    let sections: BTreeMap<&str, &str> = sections(COMMANDS).into_iter().collect();
    let mut documented: BTreeSet<&str> = sections
        .keys()
        .filter_map(|heading| heading.strip_prefix("`unwrapd ")?.strip_suffix('`'))
        .collect();
    for (command, help) in commands("") {
        assert!(
            documented.remove(&*command),
            "`unwrapd {command}` is missing"
        );
        let own = sections[&*format!("`unwrapd {command}`")];
        let mut text = own.to_owned();
        for shared in shared_sections(own, &sections) {
            text.push_str(sections[shared]);
            for shared in shared_sections(sections[shared], &sections) {
                text.push_str(sections[shared]);
            }
        }
        let documented: BTreeSet<String> = rows(&text)
            .filter_map(|cells| in_backticks(&cells[0]))
            .filter_map(|cell| Some(cell.strip_prefix("--")?.split(' ').next()?.to_owned()))
            .collect();
        assert_eq!(documented, options(&help), "unwrapd {command}");
    }
    assert!(documented.is_empty(), "no such commands: {documented:?}");
}

#[test]
fn the_reference_has_every_variable_that_the_source_names() {
    for (path, text) in crate::architecture::sources() {
        for (start, _) in text.match_indices("UNWRAPD_") {
            let name: String = text[start..]
                .chars()
                .take_while(|letter| letter.is_ascii_uppercase() || *letter == '_')
                .collect();
            assert!(
                ENVIRONMENT.contains(&format!("`{name}`")),
                "{path} names {name}"
            );
        }
    }
}

#[test]
fn the_reference_has_every_route_with_its_bounds_and_no_other() {
    let documented: BTreeSet<Vec<String>> = rows(ADMIN_API)
        .filter(|cells| cells[0].starts_with("`GET ") || cells[0].starts_with("`POST "))
        .collect();
    let routes: BTreeSet<Vec<String>> = routes().iter().map(route_row).collect();
    assert_eq!(documented, routes);
}

/// The table of ARCHITECTURE.md is that of the test that checks the code.
#[test]
fn the_architecture_shows_the_arrows_that_are_checked() {
    let (_, text) = sections(ARCHITECTURE)
        .into_iter()
        .find(|(heading, _)| *heading == "Arrows")
        .unwrap();
    let documented: BTreeMap<String, BTreeSet<String>> = rows(text)
        .filter_map(|cells| Some((in_backticks(&cells[0])?, cells[1].clone())))
        .map(|(module, allowed)| (module, all_in_backticks(&allowed)))
        .collect();
    let checked: BTreeMap<String, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(module, allowed)| {
            let allowed = allowed.iter().map(|name| (*name).to_owned());
            ((*module).to_owned(), allowed.collect())
        })
        .collect();
    assert_eq!(documented, checked);
    for leaf in FOR_ALL.iter().filter(|leaf| **leaf != "VERSION") {
        assert!(text.contains(&format!("`{leaf}`")), "{leaf}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Every page of the repository.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, pages: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Builds and packages bring pages of their own.
            if path.is_dir()
                && !name.starts_with('.')
                && !matches!(
                    &*name,
                    "target" | "node_modules" | "shared" | "venv" | "fuzz"
                )
            {
                walk(&path, pages);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let mut pages = Vec::new();
    walk(&root(), &mut pages);
    assert!(pages.len() > 30, "{pages:?}");
    pages
}

/// The targets of all links, but those in code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            continue;
        }
        for rest in part.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                links.push(target.to_owned());
            }
        }
    }
    links
}

/// Why a link does not resolve.
fn problem(page: &Path, text: &str, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = page.parent().unwrap().join(path);
    if !path.is_empty() && !file.exists() {
        return Some("there is no such file".into());
    }
    if anchor.is_empty() {
        return None;
    }
    let text = if path.is_empty() {
        text.to_owned()
    } else {
        std::fs::read_to_string(file).ok()?
    };
    let anchors: BTreeSet<String> = sections(&text)
        .iter()
        .map(|(heading, _)| slug(heading))
        .collect();
    (!anchors.contains(anchor)).then(|| format!("the page has only {anchors:?}"))
}

/// The anchor of a heading, as GitHub makes it.
fn slug(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Each heading, of any level, and the text up to the next one.
fn sections(text: &str) -> Vec<(&str, &str)> {
    let mut starts = Vec::new();
    let mut is_code = false;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code && line.starts_with('#') {
            starts.push((offset, line));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start);
    let ends = ends.chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|((start, line), end)| {
            let heading = line.trim_start_matches('#').trim();
            (heading, &text[start + line.len()..end])
        })
        .collect()
}

/// The rows of all tables, without their heads.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> + Clone + '_ {
    text.lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
}

fn in_backticks(cell: &str) -> Option<String> {
    Some(cell.strip_prefix('`')?.split_once('`')?.0.to_owned())
}

fn all_in_backticks(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The keys of each table, as the reference has them.
fn documented_keys() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut documented: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (heading, text) in sections(CONFIGURATION) {
        let keys = rows(text).filter_map(|cells| in_backticks(&cells[0]));
        for table in [
            "server",
            "log",
            "traces",
            "store",
            "endpoint",
            "destination",
        ] {
            if heading.contains(&format!("[{table}]")) {
                documented.entry(table).or_default().extend(keys.clone());
            }
        }
        if heading.contains("[server.tls]") {
            documented.entry("server.tls").or_default().extend(keys);
        } else if heading.starts_with("Keys of ") {
            documented.entry("destination").or_default().extend(keys);
        }
    }
    documented
}

/// Whether this TOML text gives the key a value, also within a comment.
fn sets(text: &str, key: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices(&format!("{key} = "))
        .any(|(start, _)| !text[..start].ends_with(is_letter))
}

/// The keys of a table, as the error for an unknown one lists them.
fn known_keys(header: &str) -> BTreeSet<String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("unwrapd.toml");
    std::fs::write(&file, format!("{header}\nunknown = 1\n")).unwrap();
    let output = unwrapd()
        .args(["serve", "--check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let (_, rest) = text
        .split_once("there is no key `unknown` here")
        .unwrap_or_else(|| panic!("{text}"));
    let (_, rest) = rest.split_once("(known: ").unwrap();
    let (keys, _) = rest.split_once(')').unwrap();
    keys.split(", ").map(str::to_owned).collect()
}

/// The commands below `above` that do something, with their help.
pub(crate) fn commands(above: &str) -> Vec<(String, String)> {
    let output = unwrapd()
        .args(above.split_whitespace())
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let Some((_, rest)) = help.split_once("\nCommands:\n") else {
        return vec![(above.to_owned(), help)];
    };
    let mut found = Vec::new();
    for line in rest.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            found.extend(commands(format!("{above} {name}").trim()));
        }
    }
    found
}

/// The long options in the help of a command.
pub(crate) fn options(help: &str) -> BTreeSet<String> {
    let options = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let option = line.strip_prefix("--").or_else(|| {
            let (short, long) = line.split_once(", --")?;
            (short.len() == 2).then_some(long)
        })?;
        let name = option.split([' ', '=', ',']).next()?;
        Some(name.to_owned())
    });
    options.filter(|name| name != "help").collect()
}

/// The sections that this text links to, of those that commands share.
fn shared_sections<'s>(text: &str, sections: &BTreeMap<&'s str, &'s str>) -> Vec<&'s str> {
    let linked = links(text);
    let is_linked = |heading: &&'s str| {
        linked
            .iter()
            .any(|target| *target == format!("#{}", slug(heading)))
    };
    sections.keys().copied().filter(is_linked).collect()
}

/// The row of a route in the reference.
fn route_row(route: &Route) -> Vec<String> {
    let Bounds {
        class,
        time,
        body_bytes_max,
    } = route.bounds();
    let class = match class {
        Class::Alive => "alive",
        Class::Ready => "ready",
        Class::Small => "small",
        Class::Heavy => "heavy",
        Class::Send => "send",
        Class::Stream => "stream",
        Class::LogIn => "login",
        Class::Page => "page",
        Class::Metrics => "metrics",
    };
    let body = match body_bytes_max {
        0 => "none".to_owned(),
        bytes => format!("{} KiB", bytes / 1024),
    };
    vec![
        format!("`{} {}`", route.method(), route.path()),
        format!("`{class}`"),
        format!("{} s", time.as_secs()),
        body,
    ]
}
