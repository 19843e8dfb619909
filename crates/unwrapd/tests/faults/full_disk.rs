//! A real disk without room: a small one in memory, filled up.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::rig::Rig;

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_106;
/// Size of the disk: enough for the content of the test.
const DISK_SIZE: &str = "size=64m";

/// A file system in a mount namespace of its own. It disappears with the last process in that
/// namespace, however the test ends.
pub(crate) struct SmallDisk {
    /// The process that mounted the disk. It ends with its input.
    keeper: Child,
    folder: PathBuf,
    /// Whether the disk is in a user namespace.
    has_users: bool,
}

impl SmallDisk {
    pub(crate) async fn mount(folder: &Path) -> Self {
        // Root may mount. Other users may mount within a user namespace.
        for unshare in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
            if let Some(keeper) = keep(folder, unshare).await {
                return Self {
                    keeper,
                    folder: folder.to_owned(),
                    has_users: unshare.contains(&"--user"),
                };
            }
        }
        panic!(
            "a full disk is tried on a tmpfs, which can be mounted neither here nor in a user namespace: be root with the capability \
             SYS_ADMIN, or allow user namespaces"
        );
    }

    /// A command for this program, run where the disk is mounted.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        if self.has_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
            .args(["--mount", "--target"])
            .arg(self.keeper.id().unwrap().to_string())
            .arg("--")
            .arg(program);
        command
    }

    /// The path of a file on the disk, as seen from outside.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.keeper.id().unwrap());
        let folder = self.folder.strip_prefix("/").unwrap();
        Path::new(&root).join(folder).join(name)
    }

    /// Fills the disk completely.
    fn fill(&self) {
        let mut ballast = File::create(self.file("ballast")).unwrap();
        let zeros = vec![0; 1 << 16];
        loop {
            match ballast.write(&zeros) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.file("ballast")).unwrap();
    }
}

/// Starts a process that mounts the disk and holds it. `None` if that is not allowed.
async fn keep(folder: &Path, unshare: &[&str]) -> Option<Child> {
    let script =
        format!("mount -t tmpfs -o {DISK_SIZE} unwrapd-faults \"$0\" && echo mounted && read -r _");
    let mut keeper = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &script])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("`unshare` and `nsenter` of util-linux are needed to try a full disk");
    let mut line = String::new();
    let stdout = keeper.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).await.unwrap();
    (line == "mounted\n").then_some(keeper)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_answered_503_and_receiving_goes_on_once_there_is_room() {
    let mut rig = Rig::before_start(SEED).await;
    rig.use_small_disk().await;
    rig.start_gateway().await.unwrap();
    rig.load();
    for _ in 0..2 {
        rig.acknowledges().await;
        rig.small_disk().fill();
        rig.refuses().await;
        rig.says_why("full").await;
        rig.small_disk().make_room();
        rig.acknowledges().await;
        rig.is_ready().await;
    }
    rig.balances().await;
}
