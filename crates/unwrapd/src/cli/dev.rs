//! `unwrapd dev`: an end-to-end demo on this machine, without configuration, that prints each step.

mod app;
mod tour;

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use openai_webhooks::{OPENAI_WEBHOOK_SECRET, Secret, Webhooks};
use tokio::net::TcpListener;

use super::failure::Failure;
use super::format::outln;
use super::stop_signals::StopSignals;
use super::webhook::secret::generate;
use super::webhook::trigger::Sender;
use crate::config::{Config, DestinationSettings, EndpointSettings, StoreUrl};
use crate::destinations::Kind;
use crate::destinations::http::HttpSettings;
use crate::gateway::Gateway;
use crate::settings_file::typed_url;
use tour::Tour;

/// The usual address to listen on.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Longest time of an attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Name of the endpoint.
const ENDPOINT: &str = "dev";

#[derive(Args)]
#[command(
    after_help = "The secret of the endpoint and the application is OPENAI_WEBHOOK_SECRET, else a new one."
)]
pub(super) struct Arguments {
    /// Deliver to your application instead of the built-in one
    #[arg(long, value_name = "URL", value_parser = typed_url)]
    forward_to: Option<reqwest::Url>,
    /// End after the demo, with exit code 0 if everything was delivered, else 1
    #[arg(long)]
    once: bool,
    /// Address to listen on [default: 127.0.0.1:8080, or another port if in use]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// SQLite file for the messages [default: a new one, removed at the end]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    let temporary = tempfile::Builder::new()
        .prefix("unwrapd-dev-")
        // Set explicitly, because the umask may allow others to read: the files in the folder hold
        // payloads.
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("cannot create a temporary folder")?;
    let db = arguments
        .db
        .clone()
        .unwrap_or_else(|| temporary.path().join("unwrapd-dev.db"));
    let (secret, is_ours) = secret()?;
    let webhooks = Webhooks::from(&secret);

    let (app, told) = app::start(webhooks.clone()).await?;
    let to = arguments.forward_to.clone().unwrap_or(app);
    let mut http = HttpSettings::new(to.clone(), webhooks.clone());
    // A developer's URL may name any host on purpose.
    http.allow_private = true;
    let mut destination = DestinationSettings::of("app", Kind::Http(http));
    // A person waits for the output.
    destination.limits.timeout = ATTEMPT_MAX;
    let listen = match arguments.listen {
        Some(address) => address,
        None => usual_or_free().await,
    };
    let gateway = Gateway::start(Config {
        endpoints: vec![EndpointSettings::new(ENDPOINT, webhooks.clone())],
        destinations: vec![destination],
        ..Config::new(listen, StoreUrl::Sqlite(db.clone()))
    })
    .await?;
    let endpoint = format!("http://{}/webhooks/{ENDPOINT}", gateway.public());

    outln!("unwrapd dev: receive, verify, store, acknowledge, deliver, all on this machine\n")?;
    outln!("  endpoint     {endpoint}    OpenAI would post here")?;
    outln!("  store        {}", db.display())?;
    let what = match arguments.forward_to {
        Some(_) => "your application",
        None => "an application in this process; it unwraps with the library",
    };
    outln!("  destination  {to}    {what}")?;
    let ours = is_ours.then(|| secret.expose());
    match &ours {
        Some(ours) => outln!("  secret       {}    made for this run", ours.as_str())?,
        None => outln!("  secret       from {OPENAI_WEBHOOK_SECRET}")?,
    }

    let sender = Sender::new(webhooks, endpoint.parse().context("our own address")?)?;
    let mut tour = Tour::new(gateway.events().subscribe(), sender, told);
    let walked = tokio::select! {
        walked = tour.walk() => walked?,
        () = signals.next() => {
            gateway.stop().await;
            return Ok(());
        }
    };
    if arguments.once {
        gateway.stop().await;
        if !walked {
            return Err(anyhow::anyhow!(
                "some events were not delivered: see the answers above. Is the application running, and does it have the same secret?"
            )
            .into());
        }
        return Ok(());
    }
    explain(&endpoint, ours.as_deref().map(String::as_str))?;
    tokio::select! {
        stayed = tour.stay() => stayed?,
        () = signals.next() => {}
    }
    gateway.stop().await;
    Ok(())
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or(USUAL.port());
        let example = SocketAddr::new(USUAL.ip(), port);
        format!("this must be an IP address and a port, such as {example}")
    })
}

/// The secret, and whether it was generated here.
fn secret() -> Result<(Secret, bool), Failure> {
    match Secret::from_env() {
        Ok(secret) => Ok((secret, false)),
        Err(openai_webhooks::SecretError::NotInEnvironment) => Ok((generate()?, true)),
        Err(error) => Err(Failure::Usage(error.into())),
    }
}

/// The usual address if its port is free, else a port that the system chooses.
async fn usual_or_free() -> SocketAddr {
    match TcpListener::bind(USUAL).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            SocketAddr::new(USUAL.ip(), 0)
        }
        _ => USUAL,
    }
}

fn explain(endpoint: &str, ours: Option<&str>) -> anyhow::Result<()> {
    // unwrapd may not be on the PATH: `cargo run` does not put it there.
    let unwrapd = std::env::current_exe()?;
    let unwrapd = unwrapd.display();
    outln!("\nTo send more, in another terminal:")?;
    let secret = ours.unwrap_or("…    # the same as here");
    outln!("  export {OPENAI_WEBHOOK_SECRET}={secret}")?;
    outln!("  {unwrapd} trigger response.completed --to {endpoint}")?;
    outln!("or any payload with curl:")?;
    outln!("  {unwrapd} sign event.json > headers.txt")?;
    outln!("  curl -i -H 'content-type: application/json' -H @headers.txt \\")?;
    outln!("    --data-binary @event.json {endpoint}")?;
    outln!("To deliver to your own application, started with the same {OPENAI_WEBHOOK_SECRET}:")?;
    outln!("  {unwrapd} dev --forward-to http://127.0.0.1:3000/webhook")?;
    outln!("\nWaiting for webhooks. Press Ctrl-C to stop.\n")?;
    Ok(())
}
