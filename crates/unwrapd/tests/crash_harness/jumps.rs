//! Wall clocks that jump: ahead and back, by hours and by years, for milliseconds or for the lives
//! of several processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::gateway::CLOCK;
use crate::openai::Wall;

/// Time for which a clock stays unchanged, in milliseconds.
const STAYS_MS: std::ops::Range<u64> = 20..1_500;
/// Smallest jump in hours. A delivery that was put off by less is attempted within the longest
/// back-off, for which no run waits.
const HOURS_MIN: f64 = 2.0;
/// Largest jump in hours: about ten years.
const HOURS_MAX: f64 = 1e5;

/// Makes the clock of the gateways in this folder jump. Dropping it sets the clock right.
pub(crate) struct Jumps {
    file: PathBuf,
    wall: Wall,
    jumping: JoinHandle<()>,
}

impl Jumps {
    pub(crate) fn start(folder: &Path, wall: Wall, mut rng: Rng) -> Self {
        let file = folder.join(CLOCK);
        let jumping = {
            let (file, wall) = (file.clone(), wall.clone());
            tokio::spawn(async move {
                loop {
                    sleep(Duration::from_millis(rng.u64(STAYS_MS))).await;
                    jump(&file, &wall, draw(&mut rng));
                }
            })
        };
        Self {
            file,
            wall,
            jumping,
        }
    }
}

impl Drop for Jumps {
    fn drop(&mut self) {
        self.jumping.abort();
        jump(&self.file, &self.wall, 0);
    }
}

/// A shift in seconds. Half of the shifts are zero.
fn draw(rng: &mut Rng) -> i64 {
    if rng.bool() {
        return 0;
    }
    let hours = HOURS_MIN * (HOURS_MAX / HOURS_MIN).powf(rng.f64());
    #[allow(clippy::cast_possible_truncation, reason = "some ten years")]
    let seconds = (hours * 3600.0) as i64;
    if rng.bool() { seconds } else { -seconds }
}

fn jump(file: &Path, wall: &Wall, seconds: i64) {
    // A request sent after this may be checked against either time.
    wall.is_off_by(seconds);
    let new = file.with_extension("new");
    std::fs::write(&new, (seconds * 1000).to_string()).unwrap();
    std::fs::rename(new, file).unwrap();
    wall.is_off_by(seconds);
}
