//! CPU time of processes, from `/proc/PID/stat`; see proc(5).

use std::fs::read_to_string;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// CPU time of one process, without its children.
pub fn used_by(pid: u32) -> anyhow::Result<Duration> {
    Ok(time(Stat::read(Path::new(&format!("/proc/{pid}")))?.own))
}

/// CPU time of a process and all its children, including those that have ended.
pub fn used_by_family(pid: u32) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for process in Path::new("/proc").read_dir()? {
        let process = process?;
        let is_process = process.file_name().as_encoded_bytes()[0].is_ascii_digit();
        // The process may have ended since the folder was read.
        if let Some(stat) = is_process
            .then(|| Stat::read(&process.path()).ok())
            .flatten()
        {
            if process.file_name() == *pid.to_string() {
                ticks += stat.own + stat.of_ended_children;
            } else if stat.parent == pid {
                ticks += stat.own;
            }
        }
    }
    ensure!(ticks > 0, "process {pid} has ended");
    Ok(time(ticks))
}

struct Stat {
    parent: u32,
    own: u64,
    of_ended_children: u64,
}

impl Stat {
    fn read(process: &Path) -> anyhow::Result<Self> {
        let text = read_to_string(process.join("stat"))?;
        // The process name stands in parentheses and may contain any characters.
        let (_, rest) = text
            .rsplit_once(')')
            .context("/proc/PID/stat has no process name")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| -> anyhow::Result<u64> {
            let field = fields
                .get(at)
                .context("/proc/PID/stat has too few fields")?;
            Ok(field.parse()?)
        };
        Ok(Self {
            parent: ticks(1)?.try_into()?,
            own: ticks(11)? + ticks(12)?,
            of_ended_children: ticks(13)? + ticks(14)?,
        })
    }
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs(ticks).div_f64(rustix::param::clock_ticks_per_second() as f64)
}
