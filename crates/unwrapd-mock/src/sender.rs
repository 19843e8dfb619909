//! The client that posts webhooks.

use std::sync::LazyLock;
use std::time::Duration;

use openai_webhooks::Webhooks;
use reqwest::{Client, Request, Url, redirect};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

/// Most webhooks under way.
const SENDS_MAX: usize = 64;

/// The authorities of the system, beside those of Mozilla.
static TLS: LazyLock<ClientConfig> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
});

pub(crate) struct Sender {
    client: Client,
    permits: Semaphore,
    answer_timeout: Duration,
}

impl Sender {
    pub(crate) fn new(answer_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            // OpenAI takes a redirect for a failure.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(answer_timeout)
            .tls_backend_preconfigured(TLS.clone())
            .build()?;
        Ok(Self {
            client,
            permits: Semaphore::new(SENDS_MAX),
            answer_timeout,
        })
    }

    /// Posts a webhook, signed at real time: receivers check the timestamp by their own clocks.
    /// Returns the status of the answer, or why there is none.
    pub(crate) async fn send(
        &self,
        url: &Url,
        signer: &Webhooks,
        webhook_id: &str,
        payload: &str,
    ) -> Result<u16, String> {
        let _permit = self.permits.acquire().await;
        let request = sign(url, signer, webhook_id, payload)?;
        let response = self.client.execute(request).await;
        response
            .map(|response| response.status().as_u16())
            .map_err(|error| self.describe(&error))
    }

    fn describe(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} s", self.answer_timeout.as_secs_f32());
        }
        if error.is_connect() {
            return "cannot connect".into();
        }
        "the connection was closed before an answer".into()
    }
}

fn sign(url: &Url, signer: &Webhooks, webhook_id: &str, payload: &str) -> Result<Request, String> {
    let headers = signer.sign_now(payload, webhook_id);
    let headers = headers.map_err(|error| error.to_string())?;
    let request = headers.request(url.as_str(), payload.to_owned());
    let request = request.map_err(|error| error.to_string())?;
    Request::try_from(request).map_err(|error| error.without_url().to_string())
}
