//! What the tests share: a gateway in this process or as a process of its own, OpenAI's side, and
//! an application's side.

pub(crate) mod application;
pub(crate) mod balancer;
pub(crate) mod memory_store;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod stuck_store;
pub(crate) mod tally;
pub(crate) mod tls_server;
pub(crate) mod wall_clock;
pub(crate) mod wire;

use std::net::Ipv4Addr;
use std::time::Duration;

use openai_webhooks::{EventType, Secret, UnwrapWebhookEvent, WebhookHeaders, Webhooks};
use tempfile::TempDir;
use unwrapd::config::{Config, DestinationSettings, EndpointSettings, ServerSettings, StoreUrl};
use unwrapd::gateway::Gateway;

/// The secret between OpenAI and the gateway.
pub(crate) const OPENAI_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
/// The secret between the gateway and an application.
pub(crate) const APP_SECRET: &str = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
/// Only to end a test that would hang; nothing is expected to take that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn openai() -> Webhooks {
    Webhooks::new(OPENAI_SECRET).unwrap()
}

/// A gateway in this process, on a free port, with an endpoint `production` and a store of its own.
pub(crate) struct TestGateway {
    pub(crate) gateway: Gateway,
    pub(crate) folder: TempDir,
    client: reqwest::Client,
}

impl TestGateway {
    pub(crate) async fn start(destinations: Vec<DestinationSettings>) -> Self {
        Self::start_in(TempDir::new().unwrap(), destinations).await
    }

    /// On the store that is in `folder`, if there is one.
    pub(crate) async fn start_in(folder: TempDir, destinations: Vec<DestinationSettings>) -> Self {
        Self::start_as(openai(), folder, destinations, ServerSettings::default()).await
    }

    /// With ports that are served so.
    pub(crate) async fn served(server: ServerSettings) -> Self {
        Self::start_as(openai(), TempDir::new().unwrap(), vec![], server).await
    }

    /// With `webhooks` to prove what arrives at `production`.
    pub(crate) async fn start_proving(
        webhooks: Webhooks,
        folder: TempDir,
        destinations: Vec<DestinationSettings>,
    ) -> Self {
        Self::start_as(webhooks, folder, destinations, ServerSettings::default()).await
    }

    /// On a store that others may share.
    pub(crate) async fn start_on(store: StoreUrl, destinations: Vec<DestinationSettings>) -> Self {
        let folder = TempDir::new().unwrap();
        let server = ServerSettings::default();
        Self::start_with(openai(), folder, store, destinations, server).await
    }

    async fn start_as(
        webhooks: Webhooks,
        folder: TempDir,
        destinations: Vec<DestinationSettings>,
        server: ServerSettings,
    ) -> Self {
        let store = StoreUrl::Sqlite(folder.path().join("unwrapd.db"));
        Self::start_with(webhooks, folder, store, destinations, server).await
    }

    async fn start_with(
        webhooks: Webhooks,
        folder: TempDir,
        store: StoreUrl,
        destinations: Vec<DestinationSettings>,
        server: ServerSettings,
    ) -> Self {
        let gateway = Gateway::start(Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin: Some("127.0.0.1:0".parse().unwrap()),
            server,
            admin_token: None,
            store: store.into(),
            endpoints: vec![
                EndpointSettings::new("production", webhooks),
                EndpointSettings::new("staging", openai()),
            ],
            destinations,
        })
        .await
        .unwrap();
        Self {
            gateway,
            folder,
            client: client(),
        }
    }

    pub(crate) fn url(&self, endpoint: &str) -> String {
        format!("http://{}/webhooks/{endpoint}", self.gateway.public())
    }

    /// Posts it as OpenAI does and gives the status of the answer.
    pub(crate) async fn post(&self, webhook: &Webhook) -> u16 {
        self.post_to("production", webhook).await.status().as_u16()
    }

    pub(crate) async fn post_to(&self, endpoint: &str, webhook: &Webhook) -> reqwest::Response {
        webhook
            .request(&self.client, &self.url(endpoint))
            .send()
            .await
            .unwrap()
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Stops it and gives back its folder.
    pub(crate) async fn stop(self) -> TempDir {
        self.gateway.stop().await;
        self.folder
    }
}

pub(crate) fn client() -> reqwest::Client {
    client_that_waits(PATIENCE)
}

/// One that waits so long for an answer.
pub(crate) fn client_that_waits(longest: Duration) -> reqwest::Client {
    // A client must be given a TLS to use, and these tests use none.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(longest).build().unwrap()
}

/// A signed request of OpenAI's.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) headers: WebhookHeaders,
    pub(crate) payload: String,
}

impl Webhook {
    pub(crate) fn new(id: &str, event_type: EventType) -> Self {
        Self::with_payload(
            id,
            UnwrapWebhookEvent::sample(event_type, format!("evt_of_{id}"), 1_750_287_018).to_json(),
        )
    }

    pub(crate) fn with_payload(id: &str, payload: impl Into<String>) -> Self {
        let payload = payload.into();
        Self {
            headers: openai().sign(&payload, id, unix_now()).unwrap(),
            payload,
        }
    }

    pub(crate) fn request(&self, client: &reqwest::Client, url: &str) -> reqwest::RequestBuilder {
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

/// An address of this machine that nobody else uses, whatever the port.
pub(crate) fn loopback() -> Ipv4Addr {
    let [.., a, b, c] = uuid::Uuid::now_v7().into_bytes();
    // Neither the usual ones nor the ends of a network.
    Ipv4Addr::new(127, 1 + a % 250, 1 + b % 250, 1 + c % 250)
}

pub(crate) fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A destination `name` at `url`, that is tried again quickly.
pub(crate) fn destination(name: &str, url: &str) -> DestinationSettings {
    let mut settings = DestinationSettings::new(
        name,
        url.parse().unwrap(),
        Secret::parse(APP_SECRET).unwrap(),
    );
    settings.limits.retry.first = Duration::from_millis(10);
    settings
}
