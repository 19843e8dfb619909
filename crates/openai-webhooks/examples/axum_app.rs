//! An axum server that verifies each webhook, answers at once, and works in the background. It
//! prints a request to try.
//!
//! ```sh
//! OPENAI_WEBHOOK_SECRET=whsec_… cargo run -p openai-webhooks --example axum_app --features axum
//! ```

#![expect(clippy::print_stdout, reason = "shows what it does")]

#[path = "support/request_to_try.rs"]
mod request_to_try;

use std::collections::HashSet;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::StatusCode;
use axum::routing::post;
use openai_webhooks::axum::Webhook;
use openai_webhooks::{UnwrapWebhookEvent, Webhooks};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// OpenAI's webhooks have a few hundred bytes; those with the SIP headers of a call, a few
/// thousand.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of webhooks that wait for the worker. Beyond it we answer 503, and OpenAI
/// retries.
const QUEUE_MAX: usize = 1000;

#[derive(Clone)]
struct App {
    webhooks: Webhooks,
    queue: mpsc::Sender<Webhook>,
}

/// Gives the extractor its secret; axum's feature `macros` can derive this.
impl FromRef<App> for Webhooks {
    fn from_ref(app: &App) -> Self {
        app.webhooks.clone()
    }
}

/// Runs only for a verified request; the extractor answers every other.
async fn receive(State(app): State<App>, webhook: Webhook) -> StatusCode {
    // OpenAI waits only a few seconds, so no work is done here. The queue is lost when the program
    // dies. If that matters, write `webhook_id` and `payload` to your database before you answer
    // 200.
    match app.queue.try_send(webhook) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn work(mut queue: mpsc::Receiver<Webhook>) {
    // A webhook can arrive more than once, always with the same `webhook-id`. A real program has a
    // unique column in its database instead, and keeps the ids longer than the 72 hours of OpenAI's
    // retries.
    let mut done = HashSet::new();
    while let Some(webhook) = queue.recv().await {
        if !done.insert(webhook.webhook_id.clone()) {
            println!("{} is a duplicate", webhook.webhook_id);
            continue;
        }
        match webhook.event {
            Ok(UnwrapWebhookEvent::ResponseCompleted(event)) => {
                println!("{} is complete: fetch it from the API", event.data.id);
            }
            Ok(event) => println!("{} {}: not ours", event.kind(), event.id()),
            Err(error) => println!("{}: {error}", webhook.webhook_id),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let webhooks = Webhooks::from_env()?;
    let (queue, queued) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(work(queued));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    request_to_try::print(&webhooks)?;
    let app = Router::new()
        .route("/webhook", post(receive))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(App { webhooks, queue });
    axum::serve(listener, app).await?;
    Ok(())
}
