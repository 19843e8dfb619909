//! Settings of the parts, as a configuration gives them, at the start and at each reload.

use std::net::SocketAddr;
use std::time::Duration;

use openai_webhooks::Webhooks;

use crate::config::{Config, EndpointSettings};
use crate::destinations::{self, Registry};
use crate::intake::{Endpoint, Rules};
use crate::metrics::Metrics;
use crate::observe::warnings::Warnings;
use crate::receive::warn_of_shared_secrets;

const ADMIN_WITHOUT_TLS: &str = "the admin port can be reached from other machines and has no TLS: \
    its token and all payloads can be read on the way; add [server.admin_tls] with `certificate` \
    and `key`, or listen on 127.0.0.1";

/// Warns of settings that are valid and probably wrong.
pub(super) fn warn_doubts(config: &Config, public: SocketAddr, warnings: &Warnings) {
    destinations::warn_doubts(&config.destinations, public);
    warn_of_shared_secrets(&config.endpoints);
    if let Some(address) = config.admin
        && !address.ip().is_loopback()
        && config.server.admin_tls.is_none()
    {
        warnings.begin("admin-port-without-tls", ADMIN_WITHOUT_TLS);
    }
}

/// Maximum number of concurrent requests of each endpoint.
pub(super) fn requests_max(config: &Config) -> impl Iterator<Item = (String, usize)> {
    config
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.name.clone(), endpoint.requests_max))
}

/// Begins the series of all endpoints and destinations.
pub(super) fn begin_series(config: &Config, metrics: Option<&Metrics>) {
    if let Some(metrics) = metrics {
        let endpoints = config.endpoints.iter().map(|endpoint| &*endpoint.name);
        let destinations = config.destinations.iter().map(|settings| &*settings.name);
        metrics.begin_series(endpoints, destinations);
    }
}

/// Time without a webhook after which each endpoint is silent, as far as it is configured.
pub(super) fn silence(config: &Config) -> impl Iterator<Item = (String, Duration)> {
    let endpoints = config.endpoints.iter();
    endpoints.filter_map(|endpoint| Some((endpoint.name.clone(), endpoint.silent_after?)))
}

/// The rules of this configuration. Endpoints that were there `before` keep their record.
pub(super) fn rules(config: &Config, registry: &Registry, before: Option<&Rules>) -> Rules {
    let endpoint = |name: &str, webhooks: Webhooks| match before
        .and_then(|before| before.endpoints.get(name))
    {
        Some(before) => before.reconfigured(webhooks),
        None => Endpoint::new(webhooks),
    };
    Rules {
        endpoints: config
            .endpoints
            .iter()
            .map(|EndpointSettings { name, webhooks, .. }| {
                (name.clone(), endpoint(name, webhooks.clone()))
            })
            .collect(),
        destinations: config
            .destinations
            .iter()
            .map(|settings| (registry.of(&settings.name), settings.events.clone()))
            .collect(),
    }
}
