//! Parts that the tests share: a gateway in this process or as a process of its own, the sides of
//! OpenAI and of an application, servers, and a store in memory. [`crash`] has the load, the ledger
//! and the verdict of the tests that kill or damage a gateway.
#![cfg(not(windows))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![allow(
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::new_without_default,
    clippy::missing_fields_in_debug,
    reason = "the callers are tests"
)]

pub mod application;
pub mod balancer;
pub mod crash;
mod keeper;
pub mod memory_store;
pub mod openapi;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod relay;
pub mod stuck_store;
pub mod tally;
pub mod tls_server;
pub mod wall_clock;
pub mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use openai_webhooks::{EventType, Secret, UnwrapWebhookEvent, WebhookHeaders, Webhooks};
use serde_json::Value;
use tempfile::TempDir;
use unwrapd::config::{Config, DestinationSettings, EndpointSettings, ServerSettings, StoreUrl};
use unwrapd::gateway::Gateway;
use unwrapd::store::{Bounds, StoreSettings, waiting};

use application::{Answer, Application};

/// The secret shared by OpenAI and the gateway.
pub const OPENAI_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
/// The secret shared by the gateway and an application.
pub const APP_SECRET: &str = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
/// Time after which a test that waits fails. Nothing is expected to take that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Interval between checks of a condition.
const POLL: Duration = Duration::from_millis(10);

pub fn openai() -> Webhooks {
    Webhooks::new(OPENAI_SECRET).unwrap()
}

/// A gateway in this process, on a free port, with an endpoint `production` and its own store.
pub struct TestGateway {
    pub gateway: Gateway,
    pub folder: TempDir,
    client: reqwest::Client,
}

impl TestGateway {
    pub async fn start(destinations: Vec<DestinationSettings>) -> Self {
        Self::start_in(TempDir::new().unwrap(), destinations).await
    }

    /// Starts with a destination `app`, and the application behind it, which answers so.
    pub async fn with_app(answers: impl IntoIterator<Item = Answer>) -> (Application, Self) {
        let app = Application::start(answers).await;
        let test = Self::start(vec![destination("app", &app.url)]).await;
        (app, test)
    }

    /// Starts on the store in `folder`, if there is one.
    pub async fn start_in(folder: TempDir, destinations: Vec<DestinationSettings>) -> Self {
        Self::start_proving(openai(), folder, destinations).await
    }

    /// Starts with settings of its ports that `change` has changed.
    pub async fn served(change: impl FnOnce(&mut ServerSettings)) -> Self {
        Self::configured(vec![], |config| change(&mut config.server)).await
    }

    /// Starts with settings of its ports in which no time-out ends a connection during a test,
    /// except one that `change` has changed.
    pub async fn patient(change: impl FnOnce(&mut ServerSettings)) -> Self {
        const LONG: Duration = Duration::from_secs(300);
        Self::served(|server| {
            server.head_timeout = LONG;
            server.body_timeout = LONG;
            server.idle_timeout = LONG;
            change(server);
        })
        .await
    }

    /// Starts with `webhooks` for verification at `production`.
    pub async fn start_proving(
        webhooks: Webhooks,
        folder: TempDir,
        destinations: Vec<DestinationSettings>,
    ) -> Self {
        let store = StoreUrl::Sqlite(folder.path().join("unwrapd.db"));
        Self::start_with(webhooks, folder, store, destinations).await
    }

    /// Starts on a store that other gateways may share.
    pub async fn start_on(store: StoreUrl, destinations: Vec<DestinationSettings>) -> Self {
        let folder = TempDir::new().unwrap();
        Self::start_with(openai(), folder, store, destinations).await
    }

    /// Starts on the store in `folder`, with these limits.
    pub async fn start_within(
        folder: TempDir,
        bounds: Bounds,
        destinations: Vec<DestinationSettings>,
    ) -> Self {
        let store = StoreSettings {
            url: StoreUrl::Sqlite(folder.path().join("unwrapd.db")),
            bounds,
        };
        Self::start_with(openai(), folder, store, destinations).await
    }

    async fn start_with(
        webhooks: Webhooks,
        folder: TempDir,
        store: impl Into<StoreSettings>,
        destinations: Vec<DestinationSettings>,
    ) -> Self {
        Self::run(folder, config(webhooks, store, destinations)).await
    }

    /// Starts with a configuration that `change` has changed.
    pub async fn configured(
        destinations: Vec<DestinationSettings>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::configured_in(TempDir::new().unwrap(), destinations, change).await
    }

    /// Does the same on the store in `folder`, if there is one.
    pub async fn configured_in(
        folder: TempDir,
        destinations: Vec<DestinationSettings>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let store = StoreUrl::Sqlite(folder.path().join("unwrapd.db"));
        let mut config = config(openai(), store, destinations);
        change(&mut config);
        Self::run(folder, config).await
    }

    async fn run(folder: TempDir, config: Config) -> Self {
        Self {
            gateway: Gateway::start(config).await.unwrap(),
            folder,
            client: client(),
        }
    }

    pub fn url(&self, endpoint: &str) -> String {
        format!("http://{}/webhooks/{endpoint}", self.gateway.public())
    }

    /// Posts a webhook as OpenAI does, and returns the status of the response.
    pub async fn post(&self, webhook: &Webhook) -> u16 {
        self.post_to("production", webhook).await.status().as_u16()
    }

    /// Posts these webhooks one after the other. Each must be answered with its status.
    pub async fn post_each(&self, webhooks: &[(&Webhook, u16)]) {
        for (webhook, status) in webhooks {
            assert_eq!(self.post(webhook).await, *status);
        }
    }

    pub async fn post_to(&self, endpoint: &str, webhook: &Webhook) -> reqwest::Response {
        webhook
            .request(&self.client, &self.url(endpoint))
            .send()
            .await
            .unwrap()
    }

    /// Posts a sample of this type, which must be accepted.
    pub async fn receive(&self, id: &str, event_type: EventType) {
        assert_eq!(self.post(&Webhook::new(id, event_type)).await, 200);
    }

    /// The URL of the admin port.
    pub fn admin(&self) -> String {
        format!("http://{}", self.gateway.admin().unwrap())
    }

    /// Posts a JSON body to a path of the admin API.
    pub async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        ask(&self.admin(), path, body).await
    }

    /// Has the admin API `pause` or `resume` the destination `app`.
    pub async fn switch_app(&self, verb: &str) {
        let url = format!("{}/api/v1/destinations/app/{verb}", self.admin());
        let response = self.client.post(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{verb}");
    }

    /// Waits until no delivery waits.
    pub async fn settled(&self) {
        let mut events = self.gateway.events().subscribe();
        while !waiting(&**self.gateway.store()).await.unwrap().is_empty() {
            tokio::time::timeout(PATIENCE, events.recv())
                .await
                .unwrap()
                .unwrap();
        }
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Stops the gateway and returns its folder.
    pub async fn stop(self) -> TempDir {
        self.gateway.stop().await;
        self.folder
    }
}

fn config(
    webhooks: Webhooks,
    store: impl Into<StoreSettings>,
    destinations: Vec<DestinationSettings>,
) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        admin: Some(any),
        endpoints: vec![
            EndpointSettings::new("production", webhooks),
            EndpointSettings::new("staging", openai()),
        ],
        destinations,
        ..Config::new(any, store)
    }
}

/// Waits until the condition holds. The test fails with `what` if it does not in time.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Posts a JSON body to a path of the admin API at this address.
pub async fn ask(admin: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = client()
        .post(format!("{admin}/api/v1/{path}"))
        .header("content-type", "application/json")
        .body(body.to_string());
    let (status, body) = described_answer(request).await;
    (status, serde_json::from_slice(&body).unwrap())
}

/// Sends a request to the admin port. Its answer must be as the OpenAPI document describes it.
pub async fn described_answer(request: reqwest::RequestBuilder) -> (u16, Vec<u8>) {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.unwrap();
    let status = response.status().as_u16();
    let media_type = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let body = response.bytes().await.unwrap().to_vec();
    openapi::described().check(method.as_str(), &path, status, &media_type, &body);
    (status, body)
}

pub fn client() -> reqwest::Client {
    client_that_waits(PATIENCE)
}

/// A client that follows no redirects, so that a test sees each answer. It takes any certificate.
pub fn client_that_stays() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap()
}

/// A client with this time-out.
pub fn client_that_waits(longest: Duration) -> reqwest::Client {
    // A client needs a TLS provider, although these tests use no TLS.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(longest).build().unwrap()
}

/// A signed request from OpenAI.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub headers: WebhookHeaders,
    pub payload: String,
}

impl Webhook {
    pub fn new(id: &str, event_type: EventType) -> Self {
        Self::with_payload(
            id,
            UnwrapWebhookEvent::sample(event_type, format!("evt_of_{id}"), 1_750_287_018).to_json(),
        )
    }

    pub fn with_payload(id: &str, payload: impl Into<String>) -> Self {
        let payload = payload.into();
        Self {
            headers: openai().sign(&payload, id, unix_now()).unwrap(),
            payload,
        }
    }

    /// The same request with a payload that was changed after it was signed.
    pub fn forged(&self) -> Self {
        let mut forged = self.clone();
        forged.payload.push(' ');
        forged
    }

    pub fn request(&self, client: &reqwest::Client, url: &str) -> reqwest::RequestBuilder {
        let mut request = client
            .post(url)
            .header("content-type", "application/json")
            .body(self.payload.clone());
        for (name, value) in self.headers.pairs() {
            request = request.header(name, value);
        }
        request
    }
}

/// A loopback address that no other test uses, at any port.
pub fn loopback() -> Ipv4Addr {
    let [.., a, b, c] = uuid::Uuid::now_v7().into_bytes();
    // These are neither the usual addresses nor the first or last of a network.
    Ipv4Addr::new(127, 1 + a % 250, 1 + b % 250, 1 + c % 250)
}

/// The address of the server of this URL.
pub fn address_of(url: &str) -> SocketAddr {
    let url: reqwest::Url = url.parse().unwrap();
    url.socket_addrs(|| None).unwrap()[0]
}

pub fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A destination `name` at `url` with quick retries.
pub fn destination(name: &str, url: &str) -> DestinationSettings {
    let mut settings = DestinationSettings::new(
        name,
        url.parse().unwrap(),
        Secret::parse(APP_SECRET).unwrap(),
    );
    settings.limits.retry.first = Duration::from_millis(10);
    settings
}
