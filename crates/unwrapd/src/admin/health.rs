//! Health checks: `/livez` and `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::access::{has_wrong_token, may_see_details};
use super::bounds::{Bounds, retry_after};
use super::gateways::views;
use super::json::PlainText;
use super::operation::TEXT;
use super::shared_run::SharedRun;
use super::{Admin, Route};
use crate::api::GatewayView;
use crate::clock::Clock;
use crate::store::{Store, StoreError};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Maximum age at which the result of a check of the store is reused. Each check costs a commit.
const CHECK_AGE_MAX: Duration = Duration::from_secs(1);
/// Longest wait for a check. Load balancers time out after a few seconds.
const CHECK_TIME_MAX: Duration = Duration::from_secs(3);
/// Time after which a check that has not ended never will: longer than a store waits for its disk,
/// its lock, a connection or its server.
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// Beginning of the log line for a wrong token at a path that needs none.
const WRONG_TOKEN: &str = "a probe of /readyz came with a wrong token";

/// Whether the store is writable. At most one check runs at a time, and its result is reused for a
/// second: any client may request it.
#[derive(Default)]
pub struct Readiness {
    is_stopping: AtomicBool,
    last: Mutex<Option<SharedRun<()>>>,
}

impl Readiness {
    /// Reports "not ready" from this moment, so that load balancers send nothing more.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the store is writable: the result of a check that all callers share. An error if the
    /// check takes too long.
    pub(crate) async fn check(
        &self,
        store: &Arc<dyn Store>,
        clock: &Clock,
    ) -> Result<(), StoreError> {
        let (store, clock) = (Arc::clone(store), clock.clone());
        self.of(async move { store.check_writable(clock.now()).await })
            .await
    }

    /// Whether the latest check has been under way for longer than any wait of a store.
    pub(crate) fn is_silent(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .is_some_and(|check| check.is_under_way() && check.began_at().elapsed() >= SILENT_AFTER)
    }

    /// The result of the running check, or of one that ended less than a second ago. An error if
    /// the check takes longer than [`CHECK_TIME_MAX`].
    async fn of(
        &self,
        check: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut check = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match last.as_ref().filter(|check| !is_over(check)) {
                Some(check) => check.clone(),
                None => last.insert(SharedRun::begin(check)).clone(),
            }
        };
        // All requests wait for a check that hangs, each for the rest of its time, and no other
        // check begins.
        let result = check.result_within(CHECK_TIME_MAX).await;
        result.unwrap_or_else(|| {
            Err(StoreError::Unavailable(format!(
                "it has not answered for {} s: its disk or its server hangs, or another program holds a lock",
                check.began_at().elapsed().as_secs()
            )))
        })
    }
}

/// Whether the next request begins another check.
fn is_over(check: &SharedRun<()>) -> bool {
    match check.end() {
        Some(end) => end.at.elapsed() >= CHECK_AGE_MAX,
        None => !check.is_under_way(),
    }
}

/// `/livez`: the process answers. `/readyz`: whether it can store webhooks, with the reason if not,
/// and the gateways with a different configuration.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/livez", Bounds::ALIVE, async || "ok\n")
            .text("livez", "Answers while the process runs.", TEXT)
            .without_token(),
        Route::get("/readyz", Bounds::READY, ready)
            .text("readyz", "Tells whether webhooks can be stored.", TEXT)
            .without_token(),
    ]
}

async fn ready(State(admin): State<Admin>, request: Request) -> Response {
    let result = if admin.readiness.is_stopping.load(Ordering::SeqCst) {
        Err("stopping\n".into())
    } else {
        let result = admin.readiness.check(&admin.store, &admin.clock).await;
        result.map_err(|error| format!("{error}\n"))
    };
    let has_details = may_see_details(&admin, &request);
    // The token is a guess, or an old one. The response is not delayed: a health check must be in
    // time.
    if has_wrong_token(&admin, request.headers()) {
        admin.refusals.count(WRONG_TOKEN, None, || {
            "the answer had no details, as without a token: correct the token, or remove it".into()
        });
    }
    let (status, text) = match result {
        Ok(()) if has_details => (
            StatusCode::OK,
            format!(
                "ok\n{}{}",
                lines(&admin.warnings.all()),
                notices(views(&crate::store::gateways(&*admin.store)))
            ),
        ),
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(why) if has_details => (StatusCode::SERVICE_UNAVAILABLE, why),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
    };
    let mut response = (status, text).into_response();
    response.extensions_mut().insert(PlainText);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        retry_after(&mut response);
    }
    response
}

fn lines(texts: &[String]) -> String {
    texts
        .iter()
        .flat_map(|text| [text.as_str(), "\n"])
        .collect()
}

/// A line for each clock or configuration that differs.
fn notices(gateways: Vec<GatewayView>) -> String {
    let mut notices = Vec::new();
    for gateway in gateways {
        let name = gateway.name;
        if let Some(ahead_ms) = gateway.clock_ahead_ms {
            let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
            notices.push(format!(
                "the clock of {name} is {} ms {side} the database's\n",
                ahead_ms.unsigned_abs()
            ));
        }
        if !gateway.differs_in.is_empty() {
            let parts = gateway.differs_in.join(", ");
            notices.push(format!("{name} is configured differently: {parts}\n"));
        }
    }
    notices.concat()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, advance, sleep};

    use super::*;

    #[test]
    fn a_wrong_clock_is_reported_as_ahead_or_behind() {
        let said = |ahead_ms| {
            notices(vec![GatewayView {
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

    /// Counts the checks that begin, each of which takes this long.
    fn counted_check(
        count: &Arc<Semaphore>,
        takes: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let count = Arc::clone(count);
        async move {
            count.add_permits(1);
            sleep(takes).await;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probes_share_one_check_a_second() {
        let readiness = Arc::new(Readiness::default());
        let count = Arc::new(Semaphore::new(0));
        for expected in 1..=3 {
            let mut answers = JoinSet::new();
            for _ in 0..100 {
                let (readiness, count) = (Arc::clone(&readiness), Arc::clone(&count));
                answers.spawn(async move {
                    let check = counted_check(&count, Duration::from_millis(300));
                    readiness.of(check).await
                });
            }
            assert!(answers.join_all().await.iter().all(Result::is_ok));
            advance(CHECK_AGE_MAX / 2).await;
            let again = counted_check(&count, Duration::ZERO);
            readiness.of(again).await.unwrap();
            assert_eq!(count.available_permits(), expected);
            advance(CHECK_AGE_MAX).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_reported_in_time_and_no_other_is_begun() {
        let readiness = Readiness::default();
        let count = Arc::new(Semaphore::new(0));
        let began = Instant::now();
        for _ in 0..3 {
            let hangs = counted_check(&count, SILENT_AFTER * 2);
            let error = readiness.of(hangs).await.unwrap_err();
            assert!(
                error.to_string().contains("has not answered for 3 s"),
                "{error}"
            );
        }
        assert_eq!(began.elapsed(), CHECK_TIME_MAX);
        assert_eq!(count.available_permits(), 1);
        // A store may take longer than a client waits, and still answer.
        assert!(!readiness.is_silent());
        advance(SILENT_AFTER).await;
        assert!(readiness.is_silent());
        advance(SILENT_AFTER).await;
        tokio::task::yield_now().await;
        assert!(!readiness.is_silent());
        readiness
            .of(counted_check(&count, Duration::ZERO))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_check_that_panics_is_repeated() {
        let readiness = Readiness::default();
        let panics = async { panic!("for the test") };
        assert!(readiness.of(panics).await.is_err());
        readiness.of(async { Ok(()) }).await.unwrap();
    }
}
