//! A wall clock of its own for a process that a test starts, without a word of that to the process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A library that shifts what the C library says of the wall clock, and a file with the shift.
pub struct WallClock {
    folder: PathBuf,
}

impl WallClock {
    /// Puts both into the folder. The clock is right.
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

    /// From now on the clock is off by so many seconds.
    pub fn jump_to(&self, seconds: i64) {
        let (new, file) = (self.folder.join("shift.new"), self.folder.join("shift"));
        std::fs::write(&new, (seconds * 1000).to_string()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// What a process needs in its environment to go by it.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", path("wall_clock.so")),
            ("CLOCK_SHIFT", path("shift")),
        ]
    }
}
