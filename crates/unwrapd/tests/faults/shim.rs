//! The test's side of `shim.c`.

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

/// Words of the control file, as in `enum word` of `shim.c`.
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

/// Calls, as in `enum call` of `shim.c`.
pub(crate) const OPEN: u64 = 1;
pub(crate) const WRITE: u64 = 2;
pub(crate) const SYNC: u64 = 4;
pub(crate) const TRUNCATE: u64 = 8;
pub(crate) const READ: u64 = 16;

/// Files, as in `enum file` of `shim.c`.
pub(crate) const DATABASE: u64 = 1;
pub(crate) const LOG: u64 = 2;
pub(crate) const ALL_FILES: u64 = 15;

/// A fault, from its injection until it is lifted.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    calls: u64,
    files: u64,
    error: Errno,
    percent: u64,
    skip: u64,
    count: u64,
    torn: bool,
    garbled: bool,
}

impl Fault {
    /// All these calls fail with this error.
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

    /// The calls fail for these files only.
    pub(crate) fn of_files(self, files: u64) -> Self {
        Self { files, ..self }
    }

    /// This percentage of the calls fails.
    pub(crate) fn at_random(self, percent: u64) -> Self {
        Self { percent, ..self }
    }

    /// This number of calls succeeds before the first failure.
    pub(crate) fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// At most this number of calls fails.
    pub(crate) fn at_most(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// Half of the bytes are written before a failure.
    pub(crate) fn torn(self) -> Self {
        Self { torn: true, ..self }
    }

    /// A read returns garbage instead of an error.
    pub(crate) fn garbled(self) -> Self {
        Self {
            garbled: true,
            ..self
        }
    }
}

/// Counters of the shim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// Successful syncs.
    pub(crate) syncs: u64,
    /// Delayed syncs.
    pub(crate) held: u64,
    /// Injected failures.
    pub(crate) faults: u64,
    /// Syncs of the times of a file as well as of its bytes.
    pub(crate) times_synced: u64,
}

/// The simulated disk of one gateway.
pub(crate) struct Shim {
    database: String,
    images_path: String,
    control_path: String,
    control: File,
    events_path: String,
    events: UnixDatagram,
}

impl Shim {
    /// The disk of the gateway whose store is in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self::new(&folder.join("shim"), &folder.join("unwrapd.db"))
    }

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

    /// The environment variables that put the disk of a process here.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("LD_PRELOAD", &LIBRARY),
            ("FAULTS_CONTROL", &self.control_path),
            ("FAULTS_EVENTS", &self.events_path),
            ("FAULTS_IMAGES", &self.images_path),
            ("FAULTS_DATABASE", &self.database),
        ]
    }

    /// The folder with the state that a power failure would leave.
    pub(crate) fn images(&self) -> &Path {
        Path::new(&self.images_path)
    }

    /// Seeds the choice of calls for faults below 100 percent. Not 0.
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

    /// Lifts the fault.
    pub(crate) fn lift(&self) {
        self.write(Word::Armed, 0);
    }

    /// Delays each sync by this time.
    pub(crate) fn slow_down(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_micros()).unwrap();
        self.write(Word::DelayMicroseconds, delay);
    }

    /// Makes syncs wait until they are released.
    pub(crate) fn hold(&self) {
        self.write(Word::Hold, 1);
    }

    /// Loses the unsynced writes of earlier processes, whose syncs have failed.
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

    /// Waits until the counters satisfy the condition.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(Counters) -> bool) {
        let happened = async {
            while !is_so(self.counters()) {
                // Every change of a counter is followed by a byte, or by a full queue of them.
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

/// The library, compiled at the first use.
static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
    // The finished file is moved into place: another run may be starting a process with the
    // library.
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
