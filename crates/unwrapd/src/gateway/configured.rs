//! Settings of the parts, as a configuration gives them, at the start and at each reload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openai_webhooks::Webhooks;
use reqwest::Url;

use crate::config::{Config, EndpointSettings};
use crate::destinations::{self, Kind, Registry};
use crate::intake::{Endpoint, Rules};
use crate::metrics::Metrics;
use crate::observe::warnings::Warnings;
use crate::receive::{RefusalCodes, warn_of_shared_secrets};

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

/// Begins the series of all endpoints and destinations at zero. Otherwise the first event of a series
/// would be no increase for Prometheus.
pub(super) fn begin_series(config: &Config, metrics: Option<&Metrics>) {
    if let Some(metrics) = metrics {
        let endpoints = config.endpoints.iter().map(|endpoint| &*endpoint.name);
        let destinations = config.destinations.iter().map(|settings| &*settings.name);
        let RefusalCodes {
            at_endpoints,
            elsewhere,
        } = RefusalCodes::all();
        metrics.begin_refusals(None, &elsewhere);
        for endpoint in endpoints {
            metrics.begin_endpoint(endpoint);
            metrics.begin_refusals(Some(endpoint), &at_endpoints);
        }
        for destination in destinations {
            metrics.begin_destination(destination);
        }
    }
}

/// The URL of the first page of the admin port, without the last slash: that of the configuration,
/// or the address of the port if it is one of its own for other machines. An address on loopback is
/// another machine for most readers of an alert.
pub(super) fn pages(config: &Config, admin: Option<SocketAddr>) -> Option<Arc<str>> {
    let (url, base_path) = (config.admin_url.clone(), &config.admin_base_path);
    url.or_else(|| page_at(admin?, config.server.admin_tls.is_some(), base_path))
}

fn page_at(admin: SocketAddr, is_tls: bool, base_path: &str) -> Option<Arc<str>> {
    if admin.ip().is_loopback() || admin.ip().is_unspecified() {
        return None;
    }
    let scheme = if is_tls { "https" } else { "http" };
    Some(format!("{scheme}://{admin}{base_path}").into())
}

/// Time without a webhook after which each endpoint is silent, as far as it is configured.
pub(super) fn silence(config: &Config) -> impl Iterator<Item = (String, Duration)> {
    let endpoints = config.endpoints.iter();
    endpoints.filter_map(|endpoint| Some((endpoint.name.clone(), endpoint.silent_after?)))
}

/// Destinations that have a URL, with their URLs.
pub(super) fn urls(config: &Config) -> impl Iterator<Item = (String, &Url)> {
    let destinations = config.destinations.iter();
    destinations.filter_map(|settings| match &settings.kind {
        Kind::Http(http) => Some((settings.name.clone(), &http.url)),
        _ => None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_url_of_a_page_if_other_machines_can_reach_it() {
        let page = |address: &str, is_tls| page_at(address.parse().unwrap(), is_tls, "/unwrapd");
        assert_eq!(
            page("10.0.0.1:8081", false).as_deref(),
            Some("http://10.0.0.1:8081/unwrapd")
        );
        assert_eq!(
            page("[fd00::1]:443", true).as_deref(),
            Some("https://[fd00::1]:443/unwrapd")
        );
        for elsewhere in ["127.0.0.1:8081", "[::1]:8081", "0.0.0.0:8081", "[::]:8081"] {
            assert_eq!(page(elsewhere, false), None, "{elsewhere}");
        }
    }
}
