//! What it costs the disk to make 4 KiB durable: no acknowledgement can be faster.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::statistics::percentile;

const BLOCK: [u8; 4096] = [7; 4096];
/// Blocks of the file. They are there before the clock runs: what is measured writes over them, like a log that is used again.
const BLOCKS: u64 = 64;
const CALLS: u64 = 500;

/// The median of many calls.
pub fn fdatasync(folder: &Folder) -> anyhow::Result<Duration> {
    let file = File::create(folder.file("fdatasync"))?;
    for block in 0..BLOCKS {
        file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    for call in 0..CALLS {
        let start = Instant::now();
        file.write_all_at(&BLOCK, call % BLOCKS * BLOCK.len() as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(percentile(&times, 0.5))
}
