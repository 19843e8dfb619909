//! A future that ends even if its caller is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs a future in place. If it is dropped before the future ends, a task runs the rest: a task for
/// every request would cost a twentieth of its time.
pub(super) struct Completing<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

/// The future panicked. The panic hook has written the cause to the log.
#[derive(Debug)]
pub(super) struct Panicked;

impl<F: Future<Output: Send> + Send + 'static> Completing<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Completing<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut future) = self.0.take() else {
            return Poll::Ready(Err(Panicked));
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => {
                self.0 = Some(future);
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Completing<F> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_rest_of_a_dropped_future_runs_in_a_task() {
        let (go, gone) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let completing = Completing::new(async move {
            gone.await.unwrap();
            done.send(()).unwrap();
        });
        assert!(timeout(Duration::ZERO, completing).await.is_err());
        go.send(()).unwrap();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_future_that_was_never_polled_runs_in_a_task() {
        let (done, ended) = oneshot::channel();
        drop(Completing::new(async move { done.send(()).unwrap() }));
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_the_caller() {
        let panicking = Completing::new(async { assert_eq!(1, 2) });
        assert!(panicking.await.is_err());
        assert_eq!(Completing::new(async { 3 }).await.unwrap(), 3);
    }
}
