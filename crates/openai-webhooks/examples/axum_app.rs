//! An axum server that takes webhooks: proves each one, answers at once, and does the work in the background.
//! `OPENAI_WEBHOOK_SECRET=whsec_… cargo run -p openai-webhooks --example axum_app --features axum`; it prints a request to try.

#![expect(clippy::print_stdout, reason = "shows what it does")]

use std::collections::HashSet;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::StatusCode;
use axum::routing::post;
use openai_webhooks::axum::Webhook;
use openai_webhooks::{EventType, UnwrapWebhookEvent, Webhooks};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// OpenAI's webhooks are a few hundred bytes; those with the SIP headers of a call, some thousand.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Webhooks that wait for the worker. Beyond that we answer 503 and OpenAI sends them again.
const QUEUE_MAX: usize = 1000;

#[derive(Clone)]
struct App {
    webhooks: Webhooks,
    queue: mpsc::Sender<Webhook>,
}

/// Where the extractor finds its secret; axum's feature `macros` can derive this.
impl FromRef<App> for Webhooks {
    fn from_ref(app: &App) -> Self {
        app.webhooks.clone()
    }
}

/// Runs only for a request that is proven; the extractor answers every other.
async fn receive(State(app): State<App>, webhook: Webhook) -> StatusCode {
    // OpenAI waits only a few seconds, so no work is done here. What is in memory is lost when the program dies: where that
    // matters, write `webhook_id` and `payload` to your database before you answer 200.
    match app.queue.try_send(webhook) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn work(mut queue: mpsc::Receiver<Webhook>) {
    // A webhook can come more than once, always with the same `webhook-id`. In a real program this is a unique column in the
    // database, kept for at least the 72 hours in which OpenAI sends again.
    let mut done = HashSet::new();
    while let Some(webhook) = queue.recv().await {
        if !done.insert(webhook.webhook_id.clone()) {
            println!("{} came again", webhook.webhook_id);
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
    print_request_to_try(&webhooks)?;
    let app = Router::new()
        .route("/webhook", post(receive))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(App { webhooks, queue });
    axum::serve(listener, app).await?;
    Ok(())
}

/// Not for a real program: whoever reads this line can send the webhook for five minutes.
fn print_request_to_try(webhooks: &Webhooks) -> anyhow::Result<()> {
    let body = EventType::ResponseCompleted.sample();
    let headers = webhooks.sign_now(body, format!("wh_{}", std::process::id()))?;
    println!("listening; try:\ncurl -i http://127.0.0.1:3000/webhook -d '{body}' \\");
    println!("  -H 'content-type: application/json' \\");
    let lines = headers
        .pairs()
        .map(|(name, value)| format!("  -H '{name}: {value}'"));
    println!("{}", lines.join(" \\\n"));
    Ok(())
}
