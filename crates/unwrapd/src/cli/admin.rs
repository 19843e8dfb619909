//! Asks a running gateway, over its port for operators.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Failure, parse_url, usage};
use crate::config::{SecretSource, admin_access};

/// Where the port is, unless something says otherwise.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// Longest wait for an answer: a test of a destination takes as long as an attempt may.
const ANSWER_MAX: Duration = Duration::from_secs(630);

#[derive(Args)]
pub(super) struct AdminArguments {
    /// Where the running gateway answers operators [default: as the configuration says, else 127.0.0.1:8081]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    admin: Option<reqwest::Url>,
    /// Environment variable with the token of that port, if it asks for one [default: as the configuration says]
    #[arg(long, value_name = "NAME")]
    admin_token_env: Option<String>,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
}

/// A gateway that runs.
pub(super) struct AdminClient {
    client: reqwest::Client,
    base: reqwest::Url,
    token: Option<Zeroizing<String>>,
}

impl AdminArguments {
    pub(super) fn client(&self) -> Result<AdminClient, Failure> {
        // What the file names counts only for the gateway that runs on it.
        let (address, source) = match &self.admin {
            Some(_) => (None, None),
            None => admin_access(&self.config)?,
        };
        let source = match &self.admin_token_env {
            Some(name) => Some(SecretSource::Env(name.clone())),
            None => source,
        };
        let token = match source {
            Some(source) => Some(source.read().map_err(usage)?.expose()),
            None => None,
        };
        let base = match &self.admin {
            Some(url) => url.clone(),
            None => format!("http://{}", reachable(address.unwrap_or(USUAL))).parse()?,
        };
        Ok(AdminClient {
            client: crate::destination::client().timeout(ANSWER_MAX).build()?,
            base,
            token,
        })
    }
}

/// An address to connect to, for one that may mean "any" to who listens.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl AdminClient {
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &[&str], body: Option<&Value>) -> Result<Value, Failure> {
        self.ask(Method::POST, path, body).await
    }

    /// `path` in its parts below `/api/v1`, so that a name cannot lead elsewhere.
    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| usage("the URL of the gateway cannot have a path"))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let base = &self.base;
        let response = request.send().await.map_err(|error| {
            anyhow::anyhow!(
                "{}; does `unwrapd serve` run, with `admin` in [server], and is that at {base}?",
                crate::destination::describe(&error.without_url())
            )
        })?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(reqwest::Error::without_url)?;
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            return Ok(value.with_context(|| format!("{base} is no gateway's port for operators"))?);
        }
        let problem = value
            .as_ref()
            .and_then(|value| value["error"].as_str())
            .map_or_else(
                || anyhow::anyhow!("{base} answered HTTP {}", status.as_u16()),
                |text| anyhow::anyhow!("{text}"),
            );
        Err(match (status.as_u16(), value) {
            (404, Some(_)) => Failure::NotFound(problem),
            (400, _) => Failure::Usage(problem),
            _ => Failure::Failed(problem),
        })
    }
}
