//! Paths in a configuration start at its folder.

use std::process::Command;

use tempfile::TempDir;
use unwrapd::config::Config;
use unwrapd::destinations::Kind;
use unwrapd::destinations::jsonl::JsonLinesSettings;

use super::{ENDPOINT, with_secrets, write};
use crate::support::OPENAI_SECRET;
use crate::support::process::{Serving, unwrapd};

#[test]
fn relative_paths_count_from_the_folder_of_the_configuration() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("secret"), OPENAI_SECRET).unwrap();
    let config = "[store]\nurl = \"sqlite:data/u.db\"\n[[endpoint]]\nname = \"a\"\n\
        secrets = [{ file = \"secret\" }]\n\
        [[destination]]\nname = \"c\"\ncommand = [\"./notify\"]\n\
        [[destination]]\nname = \"d\"\ncommand = [\"notify\"]\n\
        [[destination]]\nname = \"l\"\njsonl = \"events.jsonl\"\n";
    let file = folder.path().join("unwrapd.toml");
    std::fs::write(&file, config).unwrap();
    let config = Config::read(&file).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(
        config.store.url.to_string(),
        format!("sqlite:{}", at("data/u.db"))
    );
    let programs = ["c", "d"].map(|name| {
        let destination = config.destinations.iter().find(|one| one.name == name);
        match &destination.unwrap().kind {
            Kind::Command(command) => command.program.clone(),
            _ => panic!("{name} is a command"),
        }
    });
    assert_eq!(programs, [at("notify"), "notify".into()]);
    match &config.destinations[2].kind {
        Kind::JsonLines(JsonLinesSettings::File(path)) => {
            assert_eq!(path.display().to_string(), at("events.jsonl"));
        }
        _ => panic!("it is a file"),
    }
}

#[test]
fn the_default_store_is_beside_the_configuration_whatever_the_folder_of_the_process() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n\
        [server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
    std::fs::write(folder.path().join("unwrapd.toml"), config).unwrap();
    let mut serving = Serving::start_in(elsewhere.path(), folder.path());
    let store = folder.path().join("unwrapd.db");
    serving.said(&format!("store sqlite:{} (new)", store.display()));
    let (status, _) = serving.terminate();
    assert!(status.success());
    assert!(store.exists());
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    let mut serving = Serving::start_in(elsewhere.path(), folder.path());
    serving.said(&format!("store sqlite:{} (found)", store.display()));
    // Other commands that take the configuration use the same file.
    let checked = unwrapd()
        .args(["db", "check", "--config"])
        .arg(folder.path().join("unwrapd.toml"))
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert!(checked.status.success());
}

/// The folder of a pipe belongs to the system, and a store there would be lost.
#[test]
fn paths_of_a_configuration_from_a_pipe_count_from_the_current_folder() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), ENDPOINT);
    for run in [
        "cat unwrapd.toml | \"$0\" serve --check --config /dev/stdin",
        "\"$0\" serve --check --config /dev/stdin < unwrapd.toml",
    ] {
        let output = with_secrets(&mut Command::new("sh"))
            .args(["-c", run])
            .arg(crate::support::process::program())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let store = folder.path().join("unwrapd.db");
        assert!(told.contains(&store.display().to_string()), "{run}: {told}");
    }
}
