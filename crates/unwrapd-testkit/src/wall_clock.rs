//! A wall clock for a process that a test starts, without changes to the process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A library that shifts the wall clock of the C library, and a file with the shift.
pub struct WallClock {
    folder: PathBuf,
}

impl WallClock {
    /// Puts the library and the file into the folder. The clock is right at first.
    pub fn new(folder: &Path) -> Self {
        let clock = Self {
            folder: folder.to_owned(),
        };
        let source = folder.join("wall_clock.c");
        std::fs::write(&source, include_str!("wall_clock.c")).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.join("wall_clock.so"))
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("a C compiler");
        assert!(built.success());
        clock.jump_to(0);
        clock
    }

    /// Shifts the clock by this number of seconds.
    pub fn jump_to(&self, seconds: i64) {
        let (new, file) = (self.folder.join("shift.new"), self.folder.join("shift"));
        std::fs::write(&new, (seconds * 1000).to_string()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// The environment variables for a process with this clock.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", path("wall_clock.so")),
            ("CLOCK_SHIFT", path("shift")),
        ]
    }
}
