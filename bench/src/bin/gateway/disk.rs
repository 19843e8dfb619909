//! What it costs the disk to make 4 KiB durable: no acknowledgement can be faster.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::statistics::percentile;

const BLOCK: [u8; 4096] = [7; 4096];
/// Blocks of the file. They are there before the clock runs: what is measured writes over them,
/// like a log that is used again.
const BLOCKS: u64 = 64;
const CALLS: u64 = 500;
/// About what the gateway's writer does between two commits at half of its load.
const PAUSE: Duration = Duration::from_micros(200);

/// The median of many calls, one after the other.
pub fn fdatasync(folder: &Folder) -> anyhow::Result<Duration> {
    let file = Blocks::new(folder)?;
    let times: Vec<_> = (0..CALLS)
        .map(|call| file.write_and_sync(call))
        .collect::<anyhow::Result<_>>()?;
    Ok(percentile(&times, 0.5))
}

/// The median of calls made with a rest after each, as someone makes them who has something to do
/// in between, until `is_over`.
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
