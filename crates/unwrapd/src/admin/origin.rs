//! The origin of a request: its host, the page that sent it, and whether a browser shows its answer
//! as a page.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{ACCEPT, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method};

/// [The relation](https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site) of
/// the page that sent the request to this port. Browsers send it over TLS and to this machine, and
/// no page can choose it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// [The use](https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Dest) that the
/// browser makes of the answer. Browsers send it with the header above.
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Paths for programs. Their errors are problems, and they lead no browser to the log-in page.
const FOR_PROGRAMS: [&str; 4] = ["/api", "/livez", "/readyz", "/metrics"];

/// Protection against DNS rebinding: a web page may make its own name resolve to this machine.
pub(super) fn is_of_this_machine(request: &Request) -> bool {
    let Some(host) = host(request) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Whether a page of another site sent the request. For a change, the word of the browser decides
/// if it has one. Without it the `Origin` must be the requested host, as browsers send an `Origin`
/// with every request of a page other than plain reads.
pub(super) fn is_of_another_site(request: &Request) -> bool {
    match (request.headers().get(SEC_FETCH_SITE), request.method()) {
        // A proxy may have changed the host, so the origin is not compared with it.
        (Some(site), _) if site == "same-origin" => false,
        // The user typed the address, or opened a bookmark.
        (Some(site), &Method::POST) => site != "none",
        (Some(site), _) if site != "none" && is_part_of_a_page(request) => true,
        _ => has_other_origin(request),
    }
}

/// Whether a page loads the answer as a part of itself, and not as the page that the user goes to.
/// Another site cannot read it, but it could see whether an id is known, and occupy the permits of
/// operators.
fn is_part_of_a_page(request: &Request) -> bool {
    let use_of_it = request.headers().get(SEC_FETCH_DEST);
    use_of_it.is_some_and(|use_of_it| use_of_it != "document")
}

fn has_other_origin(request: &Request) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else {
        return false;
    };
    let host = host(request).unwrap_or_default();
    let own = [format!("http://{host}"), format!("https://{host}")];
    !own.iter().any(|own| own.as_bytes() == origin.as_bytes())
}

/// Whether the user followed a link on another site. The browser then withholds the session, whose
/// cookie is `SameSite=Strict`.
pub(super) fn is_from_a_link_elsewhere(request: &Request) -> bool {
    let site = request.headers().get(SEC_FETCH_SITE);
    site.is_some_and(|site| site == "cross-site")
}

/// Whether a browser shows the answer as a page.
pub(super) fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let is_below = |root: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let accepts = |value: &str| value.to_ascii_lowercase().contains("text/html");
    let accepted = request.headers().get_all(ACCEPT).into_iter();
    !FOR_PROGRAMS.into_iter().any(is_below)
        && accepted
            .filter_map(|value| value.to_str().ok())
            .any(accepts)
}

/// The requested host. In HTTP/2 the target contains it, and the header `host` is optional. `None`
/// also if both are present and differ, which is an attack.
fn host(request: &Request) -> Option<&str> {
    let target = request.uri().authority().map(Authority::as_str);
    match (target, text(request.headers(), &HOST)) {
        (Some(target), Some(host)) => (target == host).then_some(host),
        (target, host) => target.or(host),
    }
}

/// The value of a header, if it is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
