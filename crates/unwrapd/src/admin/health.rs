//! For whoever watches over the process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::Mutex;

use super::Admin;
use super::gateways::{GatewayView, views};
use crate::store::StoreError;

/// One probe of the store at a time, however many ask: whoever reaches the port may, and each probe is a write.
#[derive(Default)]
pub struct Readiness {
    /// Probes begun.
    begun: AtomicU64,
    is_stopping: AtomicBool,
    last: Mutex<Probe>,
}

struct Probe {
    number: u64,
    result: Result<(), StoreError>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            number: 0,
            result: Ok(()),
        }
    }
}

impl Readiness {
    /// From now on it is not ready, so that nobody sends more here.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    /// What a probe has shown that began after the question was asked.
    async fn of(
        &self,
        probe: impl AsyncFnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number <= begun_before {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let result = probe().await;
            *last = Probe { number, result };
        }
        last.result.clone()
    }
}

/// `/livez`: the process answers. `/readyz`: it can keep what it receives, or why not; and which others are configured differently.
pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    if admin.readiness.is_stopping.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into());
    }
    let probe = async || admin.store.ready(admin.clock.now()).await;
    match admin.readiness.of(probe).await {
        Ok(()) => (
            StatusCode::OK,
            format!(
                "ok\n{}{}",
                lines(&admin.warnings.all()),
                doubts(views(&admin.store.members()))
            ),
        ),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

fn lines(texts: &[String]) -> String {
    texts
        .iter()
        .flat_map(|text| [text.as_str(), "\n"])
        .collect()
}

fn doubts(gateways: Vec<GatewayView>) -> String {
    let mut doubts = Vec::new();
    for gateway in gateways {
        let name = gateway.name;
        if let Some(ahead_ms) = gateway.clock_ahead_ms {
            let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
            doubts.push(format!(
                "the clock of {name} is {} ms {side} the database's\n",
                ahead_ms.unsigned_abs()
            ));
        }
        if !gateway.differs_in.is_empty() {
            let parts = gateway.differs_in.join(", ");
            doubts.push(format!("{name} is configured differently: {parts}\n"));
        }
    }
    doubts.concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_said_to_be_ahead_or_behind() {
        let said = |ahead_ms| {
            doubts(vec![GatewayView {
                name: "a:80".into(),
                is_this: true,
                takes_part: true,
                silent_ms: 0,
                clock_ahead_ms: Some(ahead_ms),
                differs_in: Vec::new(),
            }])
        };
        assert_eq!(
            said(900),
            "the clock of a:80 is 900 ms ahead of the database's\n"
        );
        assert_eq!(
            said(-900),
            "the clock of a:80 is 900 ms behind the database's\n"
        );
    }

    #[tokio::test]
    async fn who_asks_meanwhile_shares_the_next_probe() {
        let readiness = Arc::new(Readiness::default());
        let (held, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let mut answers = JoinSet::new();
        for asked in 0..100 {
            let readiness = Arc::clone(&readiness);
            let (held, has_begun) = (Arc::clone(&held), Arc::clone(&begun));
            answers.spawn(async move {
                readiness
                    .of(async || {
                        has_begun.add_permits(1);
                        drop(held.acquire().await);
                        Ok(())
                    })
                    .await
            });
            if asked == 0 {
                begun.acquire().await.unwrap().forget();
            }
        }
        // All of them have asked: each is polled once before this task is again.
        tokio::task::yield_now().await;
        held.add_permits(1);
        assert!(answers.join_all().await.iter().all(Result::is_ok));
        assert_eq!(begun.available_permits(), 1, "one more, for all the others");
    }
}
