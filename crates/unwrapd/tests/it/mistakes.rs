//! All mistakes in a configuration are reported in one run, and its paths are relative to its
//! folder.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use unwrapd::config::Config;
use unwrapd::destinations::Kind;
use unwrapd::destinations::jsonl::JsonLinesSettings;

use crate::support::process::{Serving, checked, unwrapd};
use crate::support::{APP_SECRET, OPENAI_SECRET};

fn with_secrets(command: &mut Command) -> &mut Command {
    command
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
}

fn serve_in(folder: &Path, config: &[u8], arguments: &[&str]) -> Output {
    let file = folder.join("unwrapd.toml");
    std::fs::write(&file, config).unwrap();
    with_secrets(&mut unwrapd())
        .args(["serve", "--config"])
        .arg(file)
        .args(arguments)
        .output()
        .unwrap()
}

/// The lines of the configuration that the refusal names, in its order, and its text.
fn refused(config: &str) -> (Vec<usize>, String) {
    let folder = TempDir::new().unwrap();
    let output = serve_in(folder.path(), config.as_bytes(), &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    let place = format!("{}:", folder.path().join("unwrapd.toml").display());
    let lines = told
        .lines()
        .filter_map(|line| line.split_once(&place)?.1.split_once(':')?.0.parse().ok());
    (lines.collect(), told)
}

#[test]
fn mistakes_of_every_table_and_kind_are_told_in_the_order_of_the_file() {
    let (lines, told) = refused(
        r#"[server]
lisen = "127.0.0.1:0"
admin = "localhost"
drain_seconds = "many"
connections_max = 1
[store]
url = "mysql://x"
dedupe_days = 1
[[endpoint]]
name = "One"
secrets = [{ env = "NO_SUCH_1" }, "whsec_in_the_file", { env = "NO_SUCH_2" }]
requests_max = 0
[[endpoint]]
requests_max = 1
[[destination]]
name = "app"
url = "ftp://x"
secret = { env = "NO_SUCH_3" }
events = ["resp*", "response.*", "a b"]
concurrency = 0
rate = -1
[[destination]]
name = "app"
command = []
allow_private = true
[[destination]]
name = 5
jsonl = ""
timeout_seconds = 0
retry_first_seconds = 0
[surplus]
"#,
    );
    let expected = [
        2, 3, 4, 5, 7, 8, 10, 11, 11, 11, 12, 13, 13, 17, 18, 19, 19, 20, 21, 23, 24, 25, 27, 28,
        29, 30, 31,
    ];
    assert_eq!(lines, expected, "{told}");
    for text in [
        "did you mean `listen`?",
        "an IP address and a port",
        "this must be a whole number",
        "this number is negative, or too large",
        "NO_SUCH_1 is not set",
        "NO_SUCH_2 is not set",
        "the key `secrets` is missing here",
        "the name `app` is already used",
        "`allow_private` is only for a `url`",
        "there is no key `surplus` here",
    ] {
        assert!(told.contains(text), "{text}: {told}");
    }
    assert!(!told.contains("in_the_file"), "{told}");
}

#[test]
fn a_secret_is_repeated_wherever_it_got_lost_in_no_message() {
    let endpoint = "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n";
    let secrets = [
        "whsec_hunter2hunter2hunter2",
        "sk-proj-hunter2",
        "-----BEGIN PRIVATE KEY-----\\nhunter2",
    ];
    for secret in secrets {
        for place in [
            "[server.tls]\ncertificate = \"SECRET\"\nkey = \"/none\"\n",
            "[server.tls]\ncertificate = \"/none\"\nkey = \"SECRET\"\n",
            "[server]\nadmin_token = { file = \"SECRET\" }\n",
            "[store]\nurl = \"sqlite:SECRET\"\n",
            "[[destination]]\nname = \"b\"\njsonl = \"SECRET\"\n",
            "[[destination]]\nname = \"b\"\njsonl = \"-\"\nevents = [\"SECRET\"]\n",
            "[[destination]]\nname = \"b\"\ncommand = [\"x\", \"Bearer SECRET\"]\n",
            "[[destination]]\nname = \"b\"\njsonl = \"-\"\n\"SECRET\" = 1\n",
            "[\"SECRET\"]\n",
        ] {
            let place = place.replace("SECRET", secret);
            let (lines, told) = refused(&format!("{endpoint}{place}"));
            assert!(
                !lines.is_empty() && !told.contains("hunter2"),
                "{place}: {told}"
            );
        }
    }
    for key in ["k".repeat(1000), "my key".into(), "\\u001b[2J".into()] {
        let (lines, told) = refused(&format!("{endpoint}\"{key}\" = 1\n"));
        assert_eq!(lines, [4], "{told}");
        assert!(
            told.contains("this key does not exist here (known: name"),
            "{told}"
        );
    }
}

#[test]
fn lists_that_each_webhook_is_held_against_have_a_bound() {
    let (lines, told) = refused(&format!(
        "[[endpoint]]\nname = \"a\"\nsecrets = [{}]\n[[destination]]\nname = \"b\"\njsonl = \"-\"\nevents = [{}]\n",
        "{ env = \"OPENAI_WEBHOOK_SECRET\" },".repeat(17),
        "\"x.y\",".repeat(257),
    ));
    assert_eq!(lines, [3, 7], "{told}");
    assert!(told.len() < 1000, "{told}");
}

#[test]
fn both_keys_of_a_certificate_are_told_and_only_what_is_wrong_with_them() {
    let (lines, told) = refused(
        r#"[server.tls]
[server.admin_tls]
certificate = 5
key = "/no/such/key"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    );
    assert_eq!(lines, [1, 1, 3], "{told}");
    assert_eq!(told.matches("is missing here").count(), 2, "{told}");
    let (lines, told) = refused(
        r#"[server.tls]
certificate = "/no/such/chain"
key = "/no/such/key"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    );
    assert_eq!(lines, [2, 3], "{told}");
}

#[test]
fn text_that_is_no_toml_is_told_as_such() {
    for text in [
        "{\"server\": 1}",
        "a = \"\"\"hunter2",
        "a = 1.2.hunter2",
        "a = 'hunter2",
    ] {
        let (_, told) = refused(text);
        assert!(told.contains("this cannot be read as TOML: "), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn what_is_no_toml_hides_no_other_mistake() {
    let (lines, told) = refused(
        r#"[server]
listen = 127.0.0.1:8080
drain_seconds = 1000
[store]
dedupe_days = 1
dedupe_days = 2
[[endpoint]]
name = production
secrets = [{ env = "NO_SUCH" }]
[[destination]]
name = "app"
url = "http://app:0/"
secret = { env = "APP_WEBHOOK_SECRET" }
rate
"#,
    );
    assert_eq!(lines, [2, 3, 5, 6, 8, 9, 12, 14], "{told}");
    // A key in a line that cannot be parsed is not missing.
    assert!(!told.contains("is missing"), "{told}");
}

#[test]
fn a_key_outside_of_all_tables_is_told_where_it_belongs() {
    let (lines, told) = refused(
        "listen = \"127.0.0.1:0\"\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n",
    );
    assert_eq!(lines, [1], "{told}");
    assert!(told.contains("above all tables"), "{told}");
}

#[test]
fn a_text_that_ends_early_is_told_once_and_nothing_in_it_is_missing() {
    let destination = "[[destination]]\nname = \"b\"\njsonl = \"-\"\nrate = 0\n";
    for text in [
        "[server]\nlisten = \"\"\"127.0.0.1:0\n[[endpoint]]\nname = \"a\"\n",
        "server = { listen = \"127.0.0.1:0\"\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n",
        &format!(
            "[[endpoint]]\nname = \"a\"\nsecrets = [{{ env = \"OPENAI_WEBHOOK_SECRET\" }}\n{destination}"
        ),
        &format!(
            "[[endpoint]]\nname = \"a\"\nsecrets = [{{ env = \"OPENAI_WEBHOOK_SECRET\" ]\n{destination}"
        ),
        "[server]\nlisten = \"127.0.0.1:0\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n",
        "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }\n",
        "[[endpoint]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n",
        "[server\nlisten = \"127.0.0.1:0\"\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n",
        "[server]\nlisten =\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n",
    ] {
        let (lines, told) = refused(text);
        assert_eq!(lines.len(), 1, "{told}");
        assert!(told.contains("this cannot be read as TOML"), "{told}");
    }
}

#[test]
fn what_is_wrong_with_the_store_is_told_with_the_mistakes_of_the_file() {
    let (lines, told) = refused(
        "[store]\nurl = \"sqlite:no/such/folder/u.db\"\n[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"NO_SUCH\" }]\n",
    );
    assert_eq!(lines, [5], "{told}");
    assert!(told.contains("no/such/folder does not exist"), "{told}");
}

#[test]
fn two_ports_at_one_address_are_refused() {
    let endpoint = "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n";
    for (listen, admin) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::1]:8080", "[::]:8080"),
    ] {
        let token = "admin_token = { env = \"APP_WEBHOOK_SECRET\" }";
        let (lines, told) = refused(&format!(
            "[server]\nlisten = \"{listen}\"\nadmin = \"{admin}\"\n{token}\n{endpoint}"
        ));
        assert_eq!(lines, [3], "{told}");
        assert!(told.contains("name the same port"), "{told}");
    }
    let folder = TempDir::new().unwrap();
    let config =
        format!("[server]\nlisten = \"127.0.0.1:8080\"\nadmin = \"127.0.0.2:8080\"\n{endpoint}");
    let output = serve_in(folder.path(), config.as_bytes(), &["--check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_secret_file_that_is_missing_is_told_with_the_way_to_make_it() {
    let (lines, told) = refused("[[endpoint]]\nname = \"a\"\nsecrets = [{ file = \"no-such\" }]\n");
    assert_eq!(lines, [3], "{told}");
    assert!(
        told.contains("no-such cannot be read: there is no such file"),
        "{told}"
    );
    assert!(
        told.contains("(umask 077; unwrapd secret > FILE)"),
        "{told}"
    );
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
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {told}");
        assert!(!told.contains("hunter2"), "{line}: {told}");
        assert!(told.contains("unwrapd.toml:"), "{line}: {told}");
    }
}

#[test]
fn a_value_that_cannot_be_read_is_not_told_as_missing_too() {
    let (lines, told) = refused(
        r#"[server]
admin = "0.0.0.0:1"
admin_token = 5
[[endpoint]]
name = "a"
secrets = [5]
[[destination]]
name = "app"
url = 5
secret = { env = 5 }
[[destination]]
name = "other"
url = "http://127.0.0.1:1"
secrets = [true]
events = [1]
"#,
    );
    assert_eq!(lines, [3, 6, 9, 10, 14, 15], "{told}");
}

#[test]
fn a_key_that_is_missing_in_a_table_hides_no_other_mistake() {
    let (lines, told) = refused(
        r#"[server]
listen = "x"
drain_seconds = 1000
[server.tls]
certificate = "no.pem"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET", file = "x" }, { }]
"#,
    );
    assert!(told.contains("the key `key` is missing here"), "{told}");
    assert_eq!(lines, [2, 3, 4, 8, 8], "{told}");
}

#[test]
fn a_table_in_the_wrong_brackets_is_told_with_the_others() {
    let (lines, told) = refused("[endpoint]\nname = \"a\"\n[[server]]\nlisten = \"x\"\n");
    assert_eq!(lines, [1, 3], "{told}");
    assert!(told.contains("write [[endpoint]]"), "{told}");
    assert!(!told.contains("there is no [[endpoint]]"), "{told}");
}

#[test]
fn a_file_that_is_no_configuration_is_named_for_what_it_is() {
    let folder = TempDir::new().unwrap();
    let utf16: Vec<u8> = "\u{FEFF}[server]\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (config, problem) in [
        (&utf16[..], "it is UTF-16"),
        (&utf16[2..], "it is UTF-16"),
        (
            b"[server]\nlisten = \"\xE9\"\n",
            "it is not UTF-8 text (line 2)",
        ),
    ] {
        let output = serve_in(folder.path(), config, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(problem), "{told}");
    }
    for (path, problem) in [
        ("/dev/zero", "it is a device"),
        (folder.path().to_str().unwrap(), "it is a folder"),
    ] {
        let output = unwrapd()
            .args(["serve", "--config", path])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(problem), "{told}");
    }
}

#[test]
fn a_byte_order_mark_does_no_harm_in_a_configuration_or_a_secret() {
    let folder = TempDir::new().unwrap();
    let marked = format!("\u{FEFF}{OPENAI_SECRET}\r\n");
    std::fs::write(folder.path().join("secret"), marked).unwrap();
    let config = "\u{FEFF}[[endpoint]]\nname = \"a\"\nsecrets = [{ file = \"secret\" }]\n";
    let output = serve_in(folder.path(), config.as_bytes(), &["--check"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
}

#[test]
fn what_is_no_small_file_is_not_read_as_a_secret_or_a_certificate() {
    let folder = TempDir::new().unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, vec![b'a'; 8 * 1024 * 1024]).unwrap();
    let large = large.to_str().unwrap();
    for (path, problem) in [
        ("/dev/zero", "it is a device"),
        (folder.path().to_str().unwrap(), "it is a folder"),
        (large, "it has more than"),
    ] {
        let (lines, told) = refused(&format!(
            "[server.tls]\ncertificate = \"{path}\"\nkey = \"x\"\n[[endpoint]]\nname = \"a\"\n\
             secrets = [{{ file = \"{path}\" }}]\n"
        ));
        assert_eq!(lines, [2, 3, 6], "{told}");
        assert_eq!(told.matches(problem).count(), 2, "{told}");
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
    let config = "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n";
    let file = folder.path().join("unwrapd.toml");
    std::fs::write(&file, config).unwrap();
    for (mode, is_warned) in [(0o666, true), (0o644, false), (0o660, false)] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let (code, told) = checked(folder.path());
        assert_eq!(code, Some(0), "{told}");
        let warning = format!("chmod o-w {}", file.display());
        assert_eq!(told.contains(&warning), is_warned, "{mode:o}: {told}");
    }
}

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
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success(), "{arguments:?}: {told}");
        assert!(!told.contains("hunter2"), "{arguments:?}: {told}");
    }
}

/// The folder of a pipe belongs to the system, and a store there would be lost.
#[test]
fn paths_of_a_configuration_from_a_pipe_count_from_the_current_folder() {
    let folder = TempDir::new().unwrap();
    let config = "[[endpoint]]\nname = \"a\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]\n";
    let file = folder.path().join("unwrapd.toml");
    std::fs::write(&file, config).unwrap();
    for run in [
        "cat unwrapd.toml | \"$0\" serve --check --config /dev/stdin",
        "\"$0\" serve --check --config /dev/stdin < unwrapd.toml",
    ] {
        let output = with_secrets(&mut Command::new("sh"))
            .args(["-c", run, env!("CARGO_BIN_EXE_unwrapd")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let store = folder.path().join("unwrapd.db");
        assert!(told.contains(&store.display().to_string()), "{run}: {told}");
    }
}

#[test]
fn paths_that_a_shell_would_change_are_refused() {
    let (lines, told) = refused(
        "[store]\nurl = \"sqlite:${DATA}/u.db\"\n[[endpoint]]\nname = \"a\"\n\
         secrets = [{ file = \"~/secret\" }]\n[[destination]]\nname = \"l\"\njsonl = \"$(pwd)/x\"\n",
    );
    assert_eq!(lines, [2, 5, 8], "{told}");
    assert!(told.contains("variables are not replaced"), "{told}");
    assert!(told.contains("`~` is not replaced"), "{told}");
}
