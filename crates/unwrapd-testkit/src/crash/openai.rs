//! The senders: they post new webhooks, some of them as several copies or again later, and repeat
//! those that were not acknowledged.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::crash::ledger::Ledger;
use crate::crash::verdict::Wrong;
use crate::crash::webhooks;
use crate::{self as support, Webhook, unix_now};

/// Percentage of webhooks that are sent as several copies at once.
const AT_ONCE_PERCENT: u8 = 10;
const COPIES_MAX: usize = 4;
/// Percentage of webhooks after which an earlier one is sent again, acknowledged or not.
const ONCE_MORE_PERCENT: u8 = 5;

/// The address of a process that receives webhooks, or did recently.
#[derive(Clone)]
pub struct Door {
    /// The number of the process.
    pub life: u32,
    pub url: String,
    /// The clock of its machine.
    pub wall: Wall,
}

/// Time within which a gateway must notice that its clock has jumped.
const JUMP_TIME: Duration = Duration::from_millis(500);

/// A clock that may be wrong: the shift in seconds, and the time of the last jump.
#[derive(Clone, Default)]
pub struct Wall(Arc<Mutex<(i64, Option<Instant>)>>);

impl Wall {
    #[allow(dead_code, reason = "the tests of faults have no clock that jumps")]
    pub fn is_off_by(&self, seconds: i64) {
        *self.0.lock().unwrap() = (seconds, Some(Instant::now()));
    }

    fn time(&self) -> i64 {
        let (off, _) = *self.0.lock().unwrap();
        unix_now().saturating_add(off)
    }

    /// Whether the clock may have jumped since.
    fn has_jumped_since(&self, begun_at: Instant) -> bool {
        let (_, jumped_at) = *self.0.lock().unwrap();
        jumped_at.is_some_and(|jumped_at| jumped_at + JUMP_TIME >= begun_at)
    }
}

/// Posts webhooks until all are acknowledged and no new ones will come.
pub async fn send(
    ledger: Ledger,
    mut doors: watch::Receiver<Vec<Door>>,
    client: reqwest::Client,
    mut rng: Rng,
) {
    while let Some(number) = ledger.next(rng.bool()).await {
        let copies = if rng.u8(..100) < AT_ONCE_PERCENT {
            rng.usize(2..=COPIES_MAX)
        } else {
            1
        };
        post(&ledger, &mut doors, &client, number, copies).await;
        ledger.send_again(number);
        if rng.u8(..100) < ONCE_MORE_PERCENT {
            let number = rng.usize(..ledger.posted());
            post(&ledger, &mut doors, &client, number, 1).await;
        }
    }
}

/// Posts copies of a webhook at once, and records the answers. A repeated webhook goes to the next
/// address, as behind a load balancer.
pub async fn post(
    ledger: &Ledger,
    doors: &mut watch::Receiver<Vec<Door>>,
    client: &reqwest::Client,
    number: usize,
    copies: usize,
) {
    let Ok(doors) = doors
        .wait_for(|doors| !doors.is_empty())
        .await
        .map(|doors| doors.clone())
    else {
        return;
    };
    let mut answers = JoinSet::new();
    for _ in 0..copies {
        let door = doors[ledger.count_request(number) % doors.len()].clone();
        // Each copy is signed when it is sent.
        let id = webhooks::id(number);
        let mut webhook = Webhook::with_payload(&id, webhooks::payload(number));
        let begun_at = Instant::now();
        let time = door.wall.time();
        webhook.headers = support::openai().sign(&webhook.payload, &id, time).unwrap();
        let request = webhook.request(client, &door.url);
        answers.spawn(async move { (door, begun_at, request.send().await) });
    }
    while let Some(answer) = answers.join_next().await {
        let (door, begun_at, answer) = answer.unwrap();
        let life = door.life;
        // No answer: the gateway is dead or frozen.
        let Ok(answer) = answer else {
            continue;
        };
        match answer.status().as_u16() {
            200 => ledger.acknowledge(number, life),
            503 if answer.headers().contains_key("retry-after") => ledger.refuse(),
            401 if door.wall.has_jumped_since(begun_at) => {}
            status => ledger.offend(Wrong::Refused(status), webhooks::id(number), life),
        }
    }
}
