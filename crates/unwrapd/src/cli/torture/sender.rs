//! Sends the requests, each over a connection of its own, so that none depends on another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION};
use reqwest::{Client, RequestBuilder, Response, Url};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::request::{Answer, Close, Reply, Request, Sent, Silence, Step};
use crate::cli::answer_body;

/// Longest wait for an answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the body of an answer, of which only the beginning is read.
const BODY_WAIT_MAX: Duration = Duration::from_millis(500);
/// Time for the application to notice that a connection was closed, beyond the time of an answer.
const ABANDONED_WAIT: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(super) struct Sender {
    client: Client,
    url: Url,
}

impl Sender {
    pub(super) fn new(url: Url) -> anyhow::Result<Self> {
        let client = crate::destinations::client()
            .timeout(ANSWER_MAX)
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, url })
    }

    /// Takes a step. `usual` is the time of a usual answer.
    pub(super) async fn take(&self, step: Step, usual: Duration) -> Vec<Sent> {
        match step {
            Step::Send(request) => {
                let reply = self.send(&request).await;
                vec![Sent::new(request, Some(reply), true)]
            }
            Step::Together(requests) => self.send_together(requests).await,
            Step::Abandon(request, close) => {
                let sent = timeout(ANSWER_MAX, self.abandon(&request, close, usual)).await;
                let reply = match sent {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(Err(Silence::NotReached(error.to_string()))),
                    Err(_) => Some(Err(Silence::Unanswered("no answer in time".into()))),
                };
                if close != Close::AtTheAnswer {
                    // Otherwise the next copy would come while the first is in progress.
                    tokio::time::sleep(usual + ABANDONED_WAIT).await;
                }
                vec![Sent::new(request, reply, true)]
            }
        }
    }

    pub(super) async fn send(&self, request: &Request) -> Reply {
        let began = Instant::now();
        let sent = self.post(request).send().await;
        let took = began.elapsed();
        match sent {
            Ok(response) => Ok(read(response, took).await),
            Err(error) => {
                let problem = crate::destinations::describe(&error);
                Err(if error.is_connect() {
                    Silence::NotReached(problem)
                } else {
                    Silence::Unanswered(problem)
                })
            }
        }
    }

    fn post(&self, request: &Request) -> RequestBuilder {
        let mut post = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(request.body.clone());
        for (name, value) in &request.headers {
            post = post.header(*name, value);
        }
        post
    }

    async fn send_together(&self, requests: Vec<Request>) -> Vec<Sent> {
        let mut sending = JoinSet::new();
        for request in requests {
            let sender = self.clone();
            sending.spawn(async move {
                let reply = sender.send(&request).await;
                Sent::new(request, Some(reply), false)
            });
        }
        let mut sent = sending.join_all().await;
        sent.sort_by(|one, other| one.label.cmp(&other.label));
        sent
    }

    /// Sends the request completely, and closes the connection without reading the answer.
    async fn abandon(
        &self,
        request: &Request,
        close: Close,
        usual: Duration,
    ) -> std::io::Result<()> {
        let text = self.as_text(request);
        let host = self.url.host_str().unwrap_or_default();
        let bare = host.trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().unwrap_or(80);
        let stream = TcpStream::connect((bare, port)).await?;
        if self.url.scheme() == "http" {
            return write(stream, &text, close, usual).await;
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(std::io::Error::other)?;
        let config = crate::destinations::client_config(None);
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        write(stream, &text, close, usual).await
    }

    /// The request as HTTP/1.1 writes it. The client cannot tell when it has sent the last byte.
    fn as_text(&self, request: &Request) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}"));
        let query = self.url.query().map(|query| format!("?{query}"));
        let mut text = format!(
            "POST {}{} HTTP/1.1\r\nhost: {host}{}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            self.url.path(),
            query.unwrap_or_default(),
            port.unwrap_or_default(),
            request.body.len()
        );
        for (name, value) in &request.headers {
            text.extend([name, ": ", value.as_str(), "\r\n"]);
        }
        text + "\r\n" + &request.body
    }
}

async fn write(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    text: &str,
    close: Close,
    usual: Duration,
) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    match close {
        Close::AtOnce => {}
        Close::HalfWay => tokio::time::sleep(usual / 2).await,
        Close::AtTheAnswer => drop(stream.read(&mut [0]).await?),
    }
    // The application may have closed the connection already.
    drop(stream.shutdown().await);
    Ok(())
}

async fn read(mut response: Response, took: Duration) -> Answer {
    Answer {
        status: response.status().as_u16(),
        took,
        date: date(response.headers()),
        location: text(response.headers(), &LOCATION),
        body: answer_body::beginning(&mut response, BODY_WAIT_MAX).await,
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let date = httpdate::parse_http_date(text(headers, &DATE)?.trim()).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}
