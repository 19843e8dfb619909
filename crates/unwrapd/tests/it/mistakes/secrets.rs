//! A secret in a wrong place is not repeated, and files of secrets are checked.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::{ENDPOINT, check, serve_in, with_secrets, write};
use crate::support::OPENAI_SECRET;
use crate::support::process::{checked, told, unwrapd};

/// Files with a secret in a wrong place, marked as in [`table`](super::table).
const PLACES: [&str; 9] = [
    "[server.tls]\ncertificate = \"SECRET\" #! where the path of a file belongs\nkey = \"/none\" #! /none",
    "[server.tls]\ncertificate = \"/none\" #! /none\nkey = \"SECRET\" #! where the path of a file belongs",
    "[server]\nadmin_token = { file = \"SECRET\" } #! where the path of a file belongs",
    "[store]\nurl = \"sqlite:SECRET\" #! where the path of a file belongs",
    "[[destination]]\nname = \"b\"\njsonl = \"SECRET\" #! where the path of a file belongs",
    "[[destination]]\nname = \"b\"\njsonl = \"-\"\nevents = [\"SECRET\"] #! where an event pattern belongs",
    "[[destination]]\nname = \"b\"\ncommand = [\"x\", \"Bearer SECRET\"] #! can see the arguments of a command",
    "[[destination]]\nname = \"b\"\njsonl = \"-\"\n\"SECRET\" = 1 #! where a key belongs",
    "[\"SECRET\"] #! where a key belongs",
];

#[test]
fn no_message_repeats_a_misplaced_secret() {
    for secret in [
        "whsec_hunter2hunter2hunter2",
        "sk-proj-hunter2",
        "-----BEGIN PRIVATE KEY-----\\nhunter2",
    ] {
        for place in PLACES {
            check(&place.replace("SECRET", secret));
        }
    }
    for key in ["k".repeat(1000), "my key".into(), "\\u001b[2J".into()] {
        check(&format!(
            "{ENDPOINT}\"{key}\" = 1 #! this key does not exist here (known: name"
        ));
    }
}

#[test]
fn a_device_a_folder_or_a_large_file_is_no_secret_and_no_certificate() {
    let folder = TempDir::new().unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, vec![b'a'; 8 * 1024 * 1024]).unwrap();
    let large = large.to_str().unwrap();
    for (path, problem) in [
        ("/dev/zero", "it is a device"),
        (folder.path().to_str().unwrap(), "it is a folder"),
        (large, "it has more than"),
    ] {
        check(&format!(
            "[server.tls]\ncertificate = \"{path}\" #! {problem}\nkey = \"x\" #! x\n\
             [[endpoint]]\nname = \"a\"\nsecrets = [{{ file = \"{path}\" }}] #! {problem}\n"
        ));
    }
}

/// The certificate of the server, which such a command trusts.
#[test]
fn a_command_repeats_no_secret_that_stands_where_its_configuration_has_a_path() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("unwrapd.toml");
    for line in [
        "[server.admin_tls]\ncertificate = \"whsec_hunter2\"\nkey = \"k\"\n",
        "[server.tls]\ncertificate = \"-----BEGIN KEY-----\\nhunter2\"\nkey = \"k\"\n",
        "admin_token = { file = \"sk-proj-hunter2\" }\n",
    ] {
        let config = format!("[server]\nadmin = \"0.0.0.0:1\"\n{line}");
        std::fs::write(&file, config).unwrap();
        let output = unwrapd()
            .args(["events", "ls", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {told}");
        assert!(!told.contains("hunter2"), "{line}: {told}");
        assert!(told.contains("unwrapd.toml:"), "{line}: {told}");
    }
}

#[test]
fn a_url_or_a_secret_in_the_place_of_a_path_is_not_repeated() {
    for arguments in [
        &["db", "check", "Postgres://me:hunter2@db/x"][..],
        &["db", "check", "mysql://me:hunter2@db/x"],
        &[
            "db",
            "backup",
            "x.db",
            "--store",
            "postgres://me:hunter2@db/x",
        ],
        &[
            "db",
            "copy",
            "--to",
            "http://me:hunter2@db/x",
            "--from",
            "sqlite:a",
        ],
        &["verify", "http://me:hunter2@host/"],
        &["sign", "whsec_hunter2"],
        &["sign", "/dev/null", "--secret-env", "whsec_hunter2"],
        &["sign", "/dev/null", "--secret-file", "whsec_hunter2"],
        &[
            "sign",
            "/dev/null",
            "--secret-file",
            "http://me:hunter2@host/",
        ],
        &["serve", "--config", "whsec_hunter2"],
        &["serve", "--config", "http://me:hunter2@host/"],
        &["db", "check", "--config", "whsec_hunter2"],
        &[
            "events",
            "ls",
            "--admin",
            "https://127.0.0.1:1",
            "--admin-ca",
            "http://me:hunter2@host/",
        ],
        &["trigger", "http://me:hunter2@host/", "--to", "1"],
        &["trigger", "whsec_hunter2", "--to", "1"],
        &["events", "ls", "--admin", "1", "--type", "whsec_hunter2"],
        &[
            "events",
            "ls",
            "--admin",
            "1",
            "--type",
            "http://me:hunter2@host/",
        ],
    ] {
        let output = with_secrets(&mut unwrapd())
            .args(arguments)
            .output()
            .unwrap();
        let told = told(&output);
        assert!(!output.status.success(), "{arguments:?}: {told}");
        assert!(!told.contains("hunter2"), "{arguments:?}: {told}");
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, OPENAI_SECRET).unwrap();
    let config = "[[endpoint]]\nname = \"a\"\nsecrets = [{ file = \"secret\" }]\n";
    for (mode, is_warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
        let output = serve_in(folder.path(), config.as_bytes(), &["--check"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        let warning = format!("chmod o-r {}", secret.display());
        assert_eq!(told.contains(&warning), is_warned, "{mode:o}: {told}");
    }
}

#[test]
fn a_configuration_that_everybody_may_change_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let file = write(folder.path(), ENDPOINT);
    for (mode, is_warned) in [(0o666, true), (0o644, false), (0o660, false)] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let (code, told) = checked(folder.path());
        assert_eq!(code, Some(0), "{told}");
        let warning = format!("chmod o-w {}", file.display());
        assert_eq!(told.contains(&warning), is_warned, "{mode:o}: {told}");
    }
}
