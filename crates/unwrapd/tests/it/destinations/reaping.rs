//! Processes that commands leave behind: those that outlive them, and zombies.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openai_webhooks::EventType;
use tempfile::TempDir;
use unwrapd::destinations::Kind;
use unwrapd::destinations::command::CommandSettings;

use super::{assert_delivered, delivery, patient, sent};
use crate::support::process::write_destinations;
use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE, Webhook, client};

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process exists and is not a zombie.
fn is_alive(process: i32) -> bool {
    state(process).is_some_and(|state| state != 'Z')
}

fn state(process: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name is in brackets and may contain anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn number_in(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Each script writes the id of a process that leaves the process group of the command to the file
/// `$0`, and hangs.
const LEAVERS: [&str; 3] = [
    // A process in its own session, whose parent waits.
    "setsid sh -c 'echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; sleep 1000' \"$0\" & sleep 1000",
    // A daemon: its parents have ended.
    "(setsid sh -c 'echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 1000' \"$0\" &) ; sleep 1000",
    // Without the environment, and its parent waits.
    "setsid env -i /bin/sh -c 'echo $$ > \"$0.new\"; /bin/mv \"$0.new\" \"$0\"; /bin/sleep 1000' \"$0\" & sleep 1000",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_left_the_group_of_a_command_is_killed_with_it() {
    for (number, script) in LEAVERS.into_iter().enumerate() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("id");
        let mut settings = patient(Kind::Command(CommandSettings {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into(), file.to_str().unwrap().into()],
        }));
        settings.limits.timeout = Duration::from_secs(2);
        let outcome = sent(&settings, &delivery("{}")).await;
        assert_eq!(
            outcome.answer(),
            "the command did not end in time, and was killed"
        );
        let left = number_in(&file).expect("it was started in time");
        tokio::task::block_in_place(|| {
            wait_until(&format!("{number}: {left} lives"), || !is_alive(left));
        });
    }
}

#[tokio::test]
async fn a_process_left_behind_on_purpose_goes_on() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("id");
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $! > \"$0\"";
    let settings = patient(Kind::Command(CommandSettings {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into(), file.to_str().unwrap().into()],
    }));
    let outcome = sent(&settings, &delivery("{}")).await;
    assert_delivered(&outcome);
    let left = number_in(&file).unwrap();
    assert!(is_alive(left));
    let process = rustix::process::Pid::from_raw(left).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// `unwrapd serve` as process 1 of a namespace, as in a container without an init.
struct FirstProcess {
    keeper: Child,
    log: std::sync::mpsc::Receiver<String>,
    url: String,
}

impl FirstProcess {
    fn start(folder: &Path) -> Self {
        // As root, or as root of a user namespace.
        let wants_users = !rustix::process::geteuid().is_root();
        let users = wants_users.then_some("--map-root-user");
        let mut keeper = Command::new("unshare")
            .args(users)
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(crate::support::process::program())
            .args(["serve", "--config"])
            .arg(folder.join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .env("APP_WEBHOOK_SECRET", APP_SECRET)
            .env("UNWRAPD_LOG", "unwrapd=debug")
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("`unshare` of util-linux is needed to be process 1");
        let stderr = BufReader::new(keeper.stderr.take().unwrap());
        let (told, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // The pipe must be read even if the receiver is gone.
                drop(told.send(line));
            }
        });
        let mut first = Self {
            keeper,
            log,
            url: String::new(),
        };
        first.url = first.told("receiving on ");
        first
    }

    fn told(&mut self, what: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no `{what}` in {seen:#?}"));
            if let Some((_, rest)) = line.split_once(what) {
                return rest.to_owned();
            }
            seen.push(line);
        }
    }

    /// Process 1 and all others of the namespace, with their states.
    fn processes(&self) -> Vec<(i32, char)> {
        let mut found = Vec::new();
        let mut parents = vec![i32::try_from(self.keeper.id()).unwrap()];
        while let Some(parent) = parents.pop() {
            let threads = fs::read_dir(format!("/proc/{parent}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let children = fs::read_to_string(thread.path().join("children"));
                for child in children.unwrap_or_default().split_whitespace() {
                    let child = child.parse().unwrap();
                    found.extend(state(child).map(|state| (child, state)));
                    parents.push(child);
                }
            }
        }
        found
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let (first, _) = self.processes()[0];
        let first = rustix::process::Pid::from_raw(first).unwrap();
        rustix::process::kill_process(first, signal).unwrap();
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

/// A configuration whose command leaves a process behind, which ends when the test ends it.
fn leaving_config(folder: &Path) {
    let file = folder.join("go");
    write_destinations(
        folder,
        &format!(
            "[[destination]]\nname = \"app\"\n\
             command = [\"sh\", \"-c\", \"(while ! test -e {0}; do sleep 0.01; done) >/dev/null 2>&1 & exit 0\"]\n",
            file.display()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_as_process_one_leaves_no_zombies_and_knows_how_its_commands_ended() {
    const COMMANDS: usize = 5;
    let folder = TempDir::new().unwrap();
    leaving_config(folder.path());
    let mut first = tokio::task::block_in_place(|| FirstProcess::start(folder.path()));
    for number in 0..COMMANDS {
        let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
        let answer = webhook.request(&client(), &first.url).send().await;
        assert_eq!(answer.unwrap().status(), 200);
        tokio::task::block_in_place(|| first.told("delivered: exit 0"));
    }
    tokio::task::block_in_place(|| {
        // The gateway, its parent, and the process that was left behind, which has a new parent.
        assert!(
            first.processes().len() > COMMANDS,
            "{:?}",
            first.processes()
        );
        fs::write(folder.path().join("go"), "").unwrap();
        wait_until("there are zombies", || {
            first.processes().len() <= 2 && first.processes().iter().all(|(_, state)| *state != 'Z')
        });
        first.signal(rustix::process::Signal::HUP);
        first.told("was reloaded");
        first.signal(rustix::process::Signal::TERM);
        first.told("stopping");
        assert_eq!(first.keeper.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn process_one_ends_as_the_gateway_ends() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("unwrapd.toml"), "nonsense").unwrap();
    let wants_users = !rustix::process::geteuid().is_root();
    let output = Command::new("unshare")
        .args(wants_users.then_some("--map-root-user"))
        .args(["--pid", "--fork", "--kill-child", "--"])
        .arg(crate::support::process::program())
        .args(["serve", "--config"])
        .arg(folder.path().join("unwrapd.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // Also without its own /proc.
    assert!(String::from_utf8_lossy(&output.stderr).contains("unwrapd.toml"));
}
