//! The baseline: an axum handler that reads the body and answers 200.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;

/// Serves until the process ends.
pub fn serve() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}/webhook", listener.local_addr()?);
        let handler = async |_body: Bytes| StatusCode::OK;
        let router = Router::new().route("/webhook", post(handler));
        Ok(axum::serve(listener, router).await?)
    })
}
