//! An actix-web server that verifies each webhook, answers at once, and works in the background. It
//! prints a request to try.
//!
//! ```sh
//! OPENAI_WEBHOOK_SECRET=whsec_… cargo run -p openai-webhooks --example actix_app
//! ```

#![expect(clippy::print_stdout, reason = "shows what it does")]

#[path = "support/request_to_try.rs"]
mod request_to_try;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt, web};
use openai_webhooks::{UnwrapWebhookEvent, Webhooks};

/// OpenAI's webhooks have a few hundred bytes; those with the SIP headers of a call, a few
/// thousand.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// `web::Bytes` is the exact body, over which the signature is. `web::Json` would lose it.
async fn receive(
    webhooks: web::Data<Webhooks>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    // actix-web has its own header map; any list of pairs works.
    let headers: Vec<(&str, &[u8])> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();

    let verified = match webhooks.verify_signature(&body, &headers) {
        Ok(verified) => verified,
        Err(error) => {
            let status = StatusCode::from_u16(error.http_status());
            return HttpResponse::build(status.unwrap_or(StatusCode::UNAUTHORIZED))
                .body(error.to_string());
        }
    };
    // A webhook can arrive more than once, always with the same `webhook-id`. If repeated work does
    // harm, insert the id into a unique column of your database first, and answer 200 at once if it
    // is already there.
    println!("verified: {}", verified.webhook_id());
    match verified.event() {
        // OpenAI waits only a few seconds for the answer, so the work comes after it.
        Ok(event) => drop(rt::spawn(work(event))),
        // Authentic but not an event: a person should look at it, and OpenAI need not retry.
        Err(error) => println!("parked {}: {error}", error.webhook_id()),
    }
    HttpResponse::Ok().finish()
}

#[expect(clippy::unused_async, reason = "fetching awaits")]
async fn work(event: UnwrapWebhookEvent) {
    match event {
        UnwrapWebhookEvent::ResponseCompleted(event) => {
            println!("{} is complete: fetch it from the API", event.data.id);
        }
        event => println!("{} {}: not ours", event.kind(), event.id()),
    }
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let webhooks = Webhooks::from_env()?;
    request_to_try::print(&webhooks)?;
    let webhooks = web::Data::new(webhooks);
    HttpServer::new(move || {
        App::new()
            .app_data(webhooks.clone())
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .route("/webhook", web::post().to(receive))
    })
    .bind("127.0.0.1:3000")?
    .run()
    .await?;
    Ok(())
}
