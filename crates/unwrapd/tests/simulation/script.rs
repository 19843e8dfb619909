//! Destinations that behave as the schedule says.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::time::sleep;
use unwrapd::delivery::response_excerpt::ResponseExcerpt;
use unwrapd::delivery::{Delivery, Outcome};
use unwrapd::destinations::Destination;
use unwrapd::trace_context::AttemptTrace;

use crate::ledger::{Came, Ledger};

/// The behaviour of a destination for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Good,
    Slow,
    /// Different each time.
    Flaky,
    Down,
    Hung,
}

impl Mood {
    pub(crate) const ALL: [Self; 5] = [Self::Good, Self::Slow, Self::Flaky, Self::Down, Self::Hung];
}

pub(crate) struct Scripted {
    pub(crate) name: String,
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) rng: Mutex<Rng>,
    pub(crate) ledger: Arc<Ledger>,
}

#[derive(Clone, Copy)]
enum Act {
    Succeed,
    Fail(Option<Duration>),
    Refuse,
    Panic,
    Hang,
}

impl Scripted {
    fn choose(&self) -> (Duration, Act) {
        let mut rng = self.rng.lock().unwrap();
        let (longest, act) = match *self.mood.lock().unwrap() {
            Mood::Good => (20, Act::Succeed),
            Mood::Slow => (3000, Act::Succeed),
            Mood::Down => (5, Act::Fail(None)),
            Mood::Hung => (0, Act::Hang),
            Mood::Flaky => match rng.u32(0..10) {
                0..4 => (500, Act::Succeed),
                4..6 => (500, Act::Fail(None)),
                6 => (50, Act::Fail(Some(Duration::from_secs(rng.u64(0..200))))),
                7 => (50, Act::Refuse),
                8 => (50, Act::Panic),
                _ => (0, Act::Hang),
            },
        };
        (Duration::from_millis(rng.u64(0..=longest)), act)
    }
}

#[async_trait]
impl Destination for Scripted {
    async fn send(&self, delivery: &Delivery, _: Option<AttemptTrace>) -> Outcome {
        let mut attempt = self.ledger.begins(&self.name, delivery);
        let (takes, act) = self.choose();
        if !takes.is_zero() {
            sleep(takes).await;
        }
        let answer = String::new();
        match act {
            Act::Succeed => {
                attempt.came_to(Came::Delivered);
                Outcome::Delivered {
                    answer,
                    status: None,
                    said: ResponseExcerpt::default(),
                }
            }
            Act::Fail(retry_after) => {
                attempt.came_to(Came::Failed);
                Outcome::Failed {
                    answer,
                    status: None,
                    said: ResponseExcerpt::default(),
                    retry_after,
                }
            }
            Act::Refuse => {
                attempt.came_to(Came::Refused);
                Outcome::Refused {
                    answer,
                    status: None,
                    said: ResponseExcerpt::default(),
                }
            }
            Act::Panic => resume_unwind(Box::new("as the schedule says")),
            Act::Hang => std::future::pending().await,
        }
    }

    fn kind(&self) -> &'static str {
        "script"
    }
}
