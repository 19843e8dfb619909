//! A client of the admin port of a running gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::Problem;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{plain, shown_path};
use crate::cli::stderr::message;
use crate::config::{AdminAccess, admin_access};
use crate::destinations::client_config_for;
use crate::settings_file::SecretSource;
use crate::settings_file::typed_url;

/// The usual address of the admin port.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// Environment variable for the token that the documents and errors name.
const TOKEN_VARIABLE: &str = "UNWRAPD_ADMIN_TOKEN";
/// Longest wait for an answer: a test of a destination may take as long as an attempt.
const ANSWER_MAX: Duration = Duration::from_secs(630);
/// Longest wait for an answer without a message.
const SILENT_MAX: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct AdminArguments {
    /// URL of the admin port [default: from the configuration, else 127.0.0.1:8081]
    #[arg(long, value_name = "URL", value_parser = typed_url)]
    admin: Option<reqwest::Url>,
    /// Environment variable of the token [default: configuration, else `UNWRAPD_ADMIN_TOKEN`]
    #[arg(long, value_name = "NAME")]
    admin_token_env: Option<String>,
    /// PEM file with the port's certificate, or its authority's [default: from the configuration]
    #[arg(long, value_name = "FILE", env = "UNWRAPD_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
}

/// The usual source of the token.
fn usual_token() -> Option<SecretSource> {
    std::env::var_os(TOKEN_VARIABLE).map(|_| SecretSource::Env(TOKEN_VARIABLE.into()))
}

/// The admin port of a running gateway.
pub(in crate::cli) struct Admin {
    client: reqwest::Client,
    base: reqwest::Url,
    token: Option<Zeroizing<String>>,
    /// The remedy if the gateway does not answer.
    remedy: String,
}

impl AdminArguments {
    /// Whether a key press may use the configuration. One in the current folder may have come with
    /// that folder: it could have a token read from any variable or file, and sent to any machine.
    pub(in crate::cli) fn are_harmless(&self) -> bool {
        let Ok(file) = std::fs::metadata(&self.config) else {
            return true;
        };
        let is_own = [0, rustix::process::getuid().as_raw()].contains(&file.uid());
        let is_local = |access: AdminAccess| {
            let address = access.address.unwrap_or(USUAL);
            address.ip().is_loopback()
        };
        is_own && admin_access(&self.config).is_ok_and(is_local)
    }

    /// The configuration file.
    pub(in crate::cli) fn config(&self) -> &Path {
        &self.config
    }

    pub(in crate::cli) fn open(&self) -> Result<Admin, Failure> {
        // The token and the certificate of the file are used only for the gateway that runs on it.
        let AdminAccess {
            address,
            token: source,
            certificate,
        } = match &self.admin {
            Some(_) => AdminAccess::default(),
            None => admin_access(&self.config)?,
        };
        let scheme = if certificate.is_some() {
            "https"
        } else {
            "http"
        };
        let trusted = self.admin_ca.clone().or(certificate);
        let source = match &self.admin_token_env {
            Some(name) => Some(SecretSource::Env(name.clone())),
            None => source.or_else(usual_token),
        };
        let token = match source {
            Some(source) => Some(source.read().map_err(usage)?.expose()),
            None => None,
        };
        let base = match &self.admin {
            Some(url) => url.clone(),
            None => format!("{scheme}://{}", reachable(address.unwrap_or(USUAL))).parse()?,
        };
        let remedy = if self.admin.is_none() && address.is_none() && self.config.exists() {
            format!(
                "{} has no admin port: add `admin = \"{USUAL}\"` below [server] and restart the gateway",
                self.config.display()
            )
        } else {
            let certificate = if base.scheme() == "https" {
                ", or name its certificate with --admin-ca"
            } else {
                ""
            };
            format!(
                "start it with `unwrapd serve`, or name its admin port with --admin{certificate}"
            )
        };
        let mut client = crate::destinations::client().timeout(ANSWER_MAX);
        if let Some(trusted) = trusted.filter(|_| base.scheme() == "https") {
            let config = client_config_for(&trusted)
                .map_err(|problem| usage(format!("{}: {problem}", shown_path(&trusted))))?;
            client = client.tls_backend_preconfigured(config);
        }
        Ok(Admin {
            client: client.build()?,
            base,
            token,
            remedy,
        })
    }
}

/// The address to connect to for an address to listen on, which may mean "any".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Admin {
    pub(in crate::cli) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let mut url = self.at(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.ask(self.client.get(url)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = self
            .client
            .post(self.at(path)?)
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(body)?);
        self.ask(request).await
    }

    /// A request without a body.
    pub(super) async fn post_nothing<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<T, Failure> {
        self.ask(self.client.post(self.at(path)?)).await
    }

    fn at(&self, path: &[&str]) -> Result<Url, Failure> {
        // A URL with such a segment has another path.
        if path.iter().any(|segment| matches!(*segment, "." | "..")) {
            return Err(usage(
                "`.` and `..` cannot be part of a path of the admin port",
            ));
        }
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| usage("--admin: not a URL of a server"))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(&self, mut request: RequestBuilder) -> Result<T, Failure> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        let answered = async {
            let response = request.send().await?;
            let (status, needs) = (response.status(), Needs::of(response.headers()));
            Ok((status, needs, response.bytes().await?))
        };
        let answered = self.patiently(answered).await;
        let (status, needs, body) = answered.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| self.not_ours(status));
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => refused(status, needs, anyhow::Error::msg(plain(&problem.detail))),
            Err(_) => refused(
                status,
                needs,
                anyhow::Error::msg(format!("HTTP {}", status.as_u16())),
            ),
        })
    }

    /// Prints which gateway the command waits for, if that takes long.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        if let Ok(answer) = timeout(SILENT_MAX, &mut answer).await {
            return answer;
        }
        message(&format!(
            "{} has not answered for {} s; waiting, up to {} s in all\n",
            self.base,
            SILENT_MAX.as_secs(),
            ANSWER_MAX.as_secs()
        ));
        answer.await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::Failed(anyhow::anyhow!(
            "no gateway answers at {}: {} ({})",
            self.base,
            self.remedy,
            crate::destinations::describe(error)
        ))
    }

    fn not_ours(&self, status: StatusCode) -> Failure {
        Failure::Failed(anyhow::anyhow!(
            "{} answered HTTP {} with unexpected content: is this the admin port of a gateway of this version?",
            self.base,
            status.as_u16()
        ))
    }
}

/// The token that an answer asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// None in particular.
    Nothing,
    /// One with more rights than the token that was sent.
    AnotherToken,
}

impl Needs {
    /// As [RFC 6750, section 3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1), has it.
    fn of(headers: &HeaderMap) -> Self {
        let challenge = headers.get(WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|challenge| challenge.to_str().ok());
        if challenge.is_some_and(|challenge| challenge.contains("insufficient_scope")) {
            Self::AnotherToken
        } else {
            Self::Nothing
        }
    }
}

fn refused(status: StatusCode, needs: Needs, problem: anyhow::Error) -> Failure {
    match status {
        StatusCode::UNAUTHORIZED => Failure::Failed(problem.context(
            "the token is missing or wrong: put it in an environment variable and name that with \
             --admin-token-env, or use --config",
        )),
        StatusCode::FORBIDDEN if needs == Needs::AnotherToken => Failure::Failed(problem.context(
            "the token may not do this: name the variable of another one with \
                 --admin-token-env, or use --config",
        )),
        StatusCode::NOT_FOUND => Failure::NotFound(problem),
        StatusCode::SERVICE_UNAVAILABLE => Failure::TryLater(problem),
        status if status.is_client_error() => Failure::Usage(problem),
        _ => Failure::Failed(problem),
    }
}
