//! The built-in application of the demo. It unwraps each webhook with the library, as any
//! application would.

use axum::Router;
use axum::extract::FromRef;
use axum::extract::State;
use axum::routing::post;
use openai_webhooks::axum::Event;
use openai_webhooks::{UnwrapWebhookEvent, Webhooks};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Most events that wait to be printed.
const BACKLOG_MAX: usize = 1024;

#[derive(Clone)]
struct App {
    webhooks: Webhooks,
    told: mpsc::Sender<UnwrapWebhookEvent>,
}

impl FromRef<App> for Webhooks {
    fn from_ref(app: &App) -> Self {
        app.webhooks.clone()
    }
}

/// Starts the application on a free port, until the process ends. Returns its URL and the events
/// that it unwraps.
pub(super) async fn start(
    webhooks: Webhooks,
) -> anyhow::Result<(reqwest::Url, mpsc::Receiver<UnwrapWebhookEvent>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?).parse()?;
    let (told, events) = mpsc::channel(BACKLOG_MAX);
    let router = Router::new()
        .route("/webhook", post(webhook))
        .with_state(App { webhooks, told });
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok((url, events))
}

async fn webhook(State(app): State<App>, Event(event): Event) {
    // The receiver may be gone or full. The application has received its event in any case.
    drop(app.told.try_send(event));
}
