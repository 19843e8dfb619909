//! The test's end of `shim.c`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::PATIENCE;

/// As `enum word` of `shim.c`.
#[derive(Clone, Copy)]
enum Word {
    Armed,
    Calls,
    Files,
    Error,
    Percent,
    Skip,
    Count,
    Torn,
    Garbled,
    DelayMicroseconds,
    Hold,
    Seed,
    Lost,
    Syncs = 16,
    Held,
    Faults,
    TimesSynced,
    Words = 32,
}
const WORD_BYTES: u64 = 8;

/// As `enum call`.
pub(crate) const OPEN: u64 = 1;
pub(crate) const WRITE: u64 = 2;
pub(crate) const SYNC: u64 = 4;
pub(crate) const TRUNCATE: u64 = 8;
pub(crate) const READ: u64 = 16;

/// As `enum file`.
pub(crate) const DATABASE: u64 = 1;
pub(crate) const LOG: u64 = 2;
pub(crate) const ALL_FILES: u64 = 15;

/// What goes wrong, from being injected until it is lifted.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Which calls fail,
    pub(crate) calls: u64,
    /// on which files,
    pub(crate) files: u64,
    /// and how.
    pub(crate) error: Errno,
    /// So many calls of a hundred fail,
    pub(crate) percent: u64,
    /// but not the first ones,
    pub(crate) skip: u64,
    /// and not more than that.
    pub(crate) count: u64,
    /// Half of what is to be written is written before it fails.
    pub(crate) torn: bool,
    /// What is read is garbage, instead of an error.
    pub(crate) garbled: bool,
}

impl Fault {
    /// All these calls fail.
    pub(crate) fn new(calls: u64, error: Errno) -> Self {
        Self {
            calls,
            files: ALL_FILES,
            error,
            percent: 100,
            skip: 0,
            count: u64::MAX,
            torn: false,
            garbled: false,
        }
    }
}

/// What has happened in the shim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// Syncs that succeeded.
    pub(crate) syncs: u64,
    /// Syncs that were held up.
    pub(crate) held: u64,
    /// Calls that were made to fail.
    pub(crate) faults: u64,
    /// Syncs of a file's times as well as of its bytes.
    pub(crate) times_synced: u64,
}

/// The disk under one gateway.
pub(crate) struct Shim {
    database: String,
    images_path: String,
    control_path: String,
    control: File,
    events_path: String,
    events: UnixDatagram,
}

impl Shim {
    /// `folder` is for its own files.
    pub(crate) fn new(folder: &Path, database: &Path) -> Self {
        let path = |name| text(&folder.join(name));
        let (images_path, control_path, events_path) =
            (path("images"), path("control"), path("events"));
        std::fs::create_dir_all(&images_path).unwrap();
        let control = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&control_path)
            .unwrap();
        control.set_len(Word::Words as u64 * WORD_BYTES).unwrap();
        let shim = Self {
            database: text(database),
            images_path,
            control_path,
            control,
            events: UnixDatagram::bind(&events_path).unwrap(),
            events_path,
        };
        shim.seed(1);
        shim
    }

    /// What a process needs in its environment to have its disk here.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("LD_PRELOAD", &LIBRARY),
            ("FAULTS_CONTROL", &self.control_path),
            ("FAULTS_EVENTS", &self.events_path),
            ("FAULTS_IMAGES", &self.images_path),
            ("FAULTS_DATABASE", &self.database),
        ]
    }

    /// Where there is what a power cut would leave.
    pub(crate) fn images(&self) -> &Path {
        Path::new(&self.images_path)
    }

    /// Decides which calls fail of those that fail now and then. Not 0.
    pub(crate) fn seed(&self, seed: u64) {
        self.write(Word::Seed, seed);
    }

    pub(crate) fn inject(&self, fault: &Fault) {
        self.lift();
        self.write(Word::Calls, fault.calls);
        self.write(Word::Files, fault.files);
        self.write(
            Word::Error,
            u64::try_from(fault.error.raw_os_error()).unwrap(),
        );
        self.write(Word::Percent, fault.percent);
        self.write(Word::Skip, fault.skip);
        self.write(Word::Count, fault.count);
        self.write(Word::Torn, fault.torn.into());
        self.write(Word::Garbled, fault.garbled.into());
        self.write(Word::Armed, 1);
    }

    /// The cause is gone.
    pub(crate) fn lift(&self) {
        self.write(Word::Armed, 0);
    }

    /// Each sync takes so much longer.
    pub(crate) fn slow_down(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_micros()).unwrap();
        self.write(Word::DelayMicroseconds, delay);
    }

    /// Syncs wait until they are let go.
    pub(crate) fn hold(&self) {
        self.write(Word::Hold, 1);
    }

    /// What earlier processes have written and not synced will never be on the disk: their syncs have failed.
    pub(crate) fn lose_what_is_not_synced(&self) {
        self.write(Word::Lost, 1);
    }

    pub(crate) fn let_go(&self) {
        self.write(Word::Hold, 0);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            syncs: self.read(Word::Syncs),
            held: self.read(Word::Held),
            faults: self.read(Word::Faults),
            times_synced: self.read(Word::TimesSynced),
        }
    }

    /// Waits until that has happened.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(Counters) -> bool) {
        let happened = async {
            while !is_so(self.counters()) {
                // Every step of a counter is followed by a byte, or by a queue full of them.
                self.events.recv(&mut [0]).await.unwrap();
            }
        };
        let waited = timeout(PATIENCE, happened).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.counters());
    }

    fn read(&self, word: Word) -> u64 {
        let mut bytes = [0; size_of::<u64>()];
        self.control
            .read_exact_at(&mut bytes, word as u64 * WORD_BYTES)
            .unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn write(&self, word: Word, value: u64) {
        self.control
            .write_all_at(&value.to_ne_bytes(), word as u64 * WORD_BYTES)
            .unwrap();
    }
}

/// Compiled when it is first needed.
static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
    // Moved into its place whole: another run may be starting a process with it.
    let new = folder.join(format!("libshim.{}.so", std::process::id()));
    let status = Command::new("cc")
        .args([
            "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o",
        ])
        .arg(&new)
        .arg(source)
        .arg("-lpthread")
        .status()
        .expect("faults are injected by a C library: install a C compiler as `cc`");
    assert!(status.success(), "{source} does not compile");
    let library = folder.join("libshim.so");
    std::fs::rename(new, &library).unwrap();
    text(&library)
});

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
