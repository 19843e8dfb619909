//! Latency of one fdatasync of 4 KiB. No durable acknowledgement can be faster.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::statistics::percentile;

const BLOCK: [u8; 4096] = [7; 4096];
/// Blocks of the file. All of them are allocated before the measurement, which overwrites them, as
/// SQLite overwrites a reused log.
const BLOCKS: u64 = 64;
const CALLS: u64 = 500;
/// Approximate time between two commits of the gateway's writer at half load.
const PAUSE: Duration = Duration::from_micros(200);

/// Median latency of [`CALLS`] calls without pauses.
pub fn fdatasync(folder: &Folder) -> anyhow::Result<Duration> {
    let file = Blocks::new(folder)?;
    let times: Vec<_> = (0..CALLS)
        .map(|call| file.write_and_sync(call))
        .collect::<anyhow::Result<_>>()?;
    Ok(percentile(&times, 0.5))
}

/// Median latency of calls with a [`PAUSE`] after each, until `is_over`. The pause stands for the
/// work of a writer between two commits.
pub fn fdatasync_until(folder: &Folder, is_over: &AtomicBool) -> anyhow::Result<Duration> {
    let file = Blocks::new(folder)?;
    let mut times = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        times.push(file.write_and_sync(times.len() as u64)?);
        std::thread::sleep(PAUSE);
    }
    Ok(percentile(&times, 0.5))
}

struct Blocks(File);

impl Blocks {
    fn new(folder: &Folder) -> anyhow::Result<Self> {
        let file = File::create(folder.file("fdatasync"))?;
        for block in 0..BLOCKS {
            file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
        }
        file.sync_all()?;
        Ok(Self(file))
    }

    fn write_and_sync(&self, call: u64) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.0
            .write_all_at(&BLOCK, call % BLOCKS * BLOCK.len() as u64)?;
        self.0.sync_data()?;
        Ok(start.elapsed())
    }
}
