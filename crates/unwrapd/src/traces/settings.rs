//! The table `[traces]` of the configuration.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;

use crate::settings_file::{
    Key, Keys, Mistake, Mistakes, SecretSource, Table, checked_url, differing, missing,
};

/// Path of traces below the URL of a collector
/// ([OTLP](https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp)).
const PATH: &str = "/v1/traces";
/// Most headers. A service needs a token and perhaps the name of a tenant.
const HEADERS_MAX: usize = 16;
/// Headers that the gateway, or its client, sets itself.
const OWN_HEADERS: [&str; 6] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
];

const URL_WITH_USER: &str = "a URL is shown and logged, so it must not have a user or a password: \
    write `headers = { authorization = { env = \"NAME\" } }`, or { file = \"PATH\" }";

/// Settings of the traces.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// The URL to which the gateway posts spans, with the path of traces.
    pub url: Url,
    /// Headers of these requests. Their values are secret.
    pub headers: HeaderMap,
    /// The part of all webhooks that is traced, from 0 to 1.
    pub sample: f64,
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings").finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
struct TracesKeys {
    url: Key<String>,
    headers: Key<BTreeMap<String, Spanned<SecretSource>>>,
    sample: Key<f64>,
}

impl Keys for TracesKeys {}

impl TraceSettings {
    /// All webhooks, to the collector at this URL, with or without the path of traces.
    #[must_use]
    pub fn new(mut url: Url) -> Self {
        let path = url.path().trim_end_matches('/');
        if !path.ends_with(PATH) {
            let path = format!("{path}{PATH}");
            url.set_path(&path);
        }
        Self {
            url,
            headers: HeaderMap::new(),
            sample: 1.0,
        }
    }

    /// `None`: there are no traces.
    pub(crate) fn read(mut table: Table<'_>) -> Result<Option<Self>, Mistakes> {
        let TracesKeys {
            url,
            headers,
            sample,
        } = table.take();
        let has_others = headers.is_some() || sample.is_some();
        if url.is_none() && has_others && !table.location().is_broken("url") {
            let span = table.location().span();
            table.keep(Err::<(), _>(missing(span, "url")));
        }
        let url = url.and_then(|url| {
            let checked = checked_url(url.get_ref(), URL_WITH_USER);
            table.keep(checked.map_err(|problem| Mistake::new(url.span(), problem)))
        });
        let headers = headers.and_then(|headers| table.keep(checked_headers(headers)));
        let sample = table.keep_number("sample", sample, 0.0..=1.0);
        table.end()?;
        Ok(url.map(|url| {
            let usual = Self::new(url);
            Self {
                headers: headers.unwrap_or_default(),
                sample: sample.unwrap_or(usual.sample),
                ..usual
            }
        }))
    }

    /// The server of the collector, for a log line.
    pub(crate) fn place(&self) -> String {
        let origin = self.url.origin();
        origin.ascii_serialization()
    }

    /// The keys in which the settings differ. All take effect only after a restart.
    pub(crate) fn changed_keys(
        before: Option<&Self>,
        after: Option<&Self>,
    ) -> impl Iterator<Item = &'static str> {
        let differs = |is_other: fn(&Self, &Self) -> bool| match (before, after) {
            (Some(before), Some(after)) => is_other(before, after),
            _ => false,
        };
        differing([
            (
                "[traces] url",
                before.is_some() != after.is_some() || differs(|a, b| a.url != b.url),
            ),
            ("[traces] headers", differs(|a, b| a.headers != b.headers)),
            (
                "[traces] sample",
                differs(|a, b| a.sample.to_bits() != b.sample.to_bits()),
            ),
        ])
    }
}

fn checked_headers(
    headers: Spanned<BTreeMap<String, Spanned<SecretSource>>>,
) -> Result<HeaderMap, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut checked = HeaderMap::new();
    if headers.get_ref().len() > HEADERS_MAX {
        mistakes.add(Mistake::new(
            headers.span(),
            format!("there are more than {HEADERS_MAX} headers: remove some"),
        ));
    }
    for (name, source) in headers.into_inner() {
        let header = header(&name, &source, &checked);
        let header = header.map_err(|problem| Mistake::new(source.span(), problem));
        checked.extend(mistakes.keep(header));
    }
    mistakes.check()?;
    Ok(checked)
}

/// The header of this name. The error shows neither the name nor the value.
fn header(
    name: &str,
    source: &Spanned<SecretSource>,
    others: &HeaderMap,
) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "this is not the name of a header, such as `authorization`")?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("the gateway sets this header itself: remove it".into());
    }
    if others.contains_key(&name) {
        return Err("there is a header of this name already: remove one".into());
    }
    let source = source.get_ref();
    let text = source.read_text()?;
    let mut value = HeaderValue::from_str(text.trim())
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("{source}: this is empty, or no value of a header: correct it"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_added_to_the_url_of_a_collector() {
        for (url, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            (
                "https://example.com/otlp/?tenant=a",
                "https://example.com/otlp/v1/traces?tenant=a",
            ),
            (
                "https://example.com/otlp/v1/traces",
                "https://example.com/otlp/v1/traces",
            ),
        ] {
            let settings = TraceSettings::new(url.parse().unwrap());
            assert_eq!(settings.url.as_str(), expected);
        }
        let settings = TraceSettings::new("https://example.com/otlp?token=hidden".parse().unwrap());
        assert_eq!(settings.place(), "https://example.com");
    }
}
