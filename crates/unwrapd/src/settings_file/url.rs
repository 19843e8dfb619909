//! Checks the URLs of a configuration or a command line before anything runs. A URL that cannot
//! work would otherwise fail at each attempt, or lead to a wrong server.
//!
//! No error holds any part of the URL, because a URL may hold a password.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;
use reqwest::header::HeaderValue;

/// Longest URL, in bytes. Servers refuse request lines that are much longer.
const URL_BYTES_MAX: usize = 4096;
/// Longest host name and longest part of one between two dots, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Texts that programs write in place of a value that is missing.
const MISSING_VALUES: [&str; 6] = ["undefined", "null", "none", "nil", "nan", "object"];

const NO_URL: &str = "this must be a URL, such as \"http://127.0.0.1:3000/webhook\"";
const NO_SCHEME: &str =
    "the URL must begin with http:// or https://, such as \"http://127.0.0.1:3000/webhook\"";
const NO_HOST: &str = "the URL names no host: write it after the two slashes, such as \"http://127.0.0.1:3000/webhook\"";
const NO_PORT: &str =
    "no port follows the colon after the host: write the port, or remove the colon";
const WRONG_PORT: &str = "the port must be 1 to 65535";
const TWO_SCHEMES: &str = "the URL has http:// or https:// twice: remove one";
const PLACEHOLDER: &str = "the URL has a placeholder such as ${NAME}, {name} or <name>: write the \
    value itself, since placeholders are not replaced";
const PERCENT: &str = "a % in a URL must be followed by two hexadecimal digits: write %25 for the \
    character itself, and the value for a placeholder such as %NAME%";
const DOLLAR: &str = "the URL has text that looks like a variable, $NAME: write the value itself, \
    since variables are not replaced, or %24 for the character $";
const WHITE_SPACE: &str =
    "the URL has white space or an invisible character: remove it, or write it as %20 in a path";
const WRONG_CHARACTER: &str =
    "the URL has a character that is not allowed in URLs: write it percent-encoded, such as %22";
const NUMBER_HOST: &str = "the host is a number, which is no usable address: write the host before \
    the port, such as \"http://127.0.0.1:3000/\", or an IPv4 address as four decimal numbers";
const WRONG_HOST: &str = "the host of the URL is not a host name: a host name has letters, digits, \
    `-`, `_` and single dots, with 1 to 63 characters between dots";
const MISSING_VALUE: &str =
    "the URL holds `undefined`, `null` or the like where a value is missing: write the value";
const EVERYWHERE: &str = "the URL names the address that servers listen on to be reached by every \
    address, which is none to connect to: write 127.0.0.1 for this machine, or the server's own \
    address";
const LINK_LOCAL: &str = "an IPv6 address that begins with fe80, or has a zone behind a %, is one \
    of a network interface, which a URL cannot name: write a name or another address of the server";
const NO_SERVER: &str = "the URL names a multicast or broadcast address, where no HTTP server can be: write the address of the server";
const FRAGMENT: &str = "a part after `#` is never sent to a server: remove it from the URL, or write %23 for the character itself";
const USER: &str = "a URL is shown and logged, so it must not have a user or a password: remove \
    them; the application verifies the signature instead";

/// A URL to post to, from a configuration. The error does not show the URL.
pub(crate) fn http_url(text: &str) -> Result<Url, String> {
    checked(text, USER).map_err(String::from)
}

/// A URL as typed on a command line. Without a scheme it is http, and a port alone means this
/// machine. The error does not show the URL.
pub(crate) fn typed_url(text: &str) -> Result<Url, String> {
    let port_first = text.strip_prefix(':').unwrap_or(text);
    let digits = port_first.bytes().take_while(u8::is_ascii_digit).count();
    let (port, rest) = port_first.split_at(digits);
    if digits > 0 && (rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
        if !matches!(port.parse(), Ok(1..=u16::MAX)) {
            return Err(WRONG_PORT.into());
        }
        return http_url(&format!("http://{}:{port}{rest}", Ipv4Addr::LOCALHOST));
    }
    if text.starts_with('/') && !text.starts_with("//") {
        return Err(
            "this is a path without a server: write the port of this machine before it, such as \
             3000/webhook, or a whole URL, such as http://127.0.0.1:3000/webhook"
                .into(),
        );
    }
    if text.contains("://") {
        return http_url(text);
    }
    http_url(&format!("http://{text}"))
}

/// The URL in `text`, or the problem that it has. `user` is the problem of a URL with a user name
/// or a password.
pub(crate) fn checked(text: &str, user: &'static str) -> Result<Url, &'static str> {
    if text.is_empty() {
        return Err(NO_URL);
    }
    if text.len() > URL_BYTES_MAX {
        return Err("the URL is longer than 4096 bytes: servers refuse such a request");
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        check_characters(text)?;
        return Err(NO_URL);
    };
    let authority_ends = |text: &str| text.find(['/', '?', '#', '\\']).unwrap_or(text.len());
    let behind_slashes = rest.strip_prefix("//").unwrap_or(rest);
    let authority = &behind_slashes[..authority_ends(behind_slashes)];
    if authority.contains('@') {
        return Err(user);
    }
    if authority.starts_with('[') && authority.contains('%') {
        return Err(LINK_LOCAL);
    }
    check_characters(text)?;
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return Err(NO_SCHEME);
    }
    // With too many or too few slashes the parser would take the first part of the path for the
    // host.
    if !rest.starts_with("//") {
        return Err(NO_SCHEME);
    }
    if authority.is_empty() || authority.starts_with(':') && !authority.starts_with("::") {
        return Err(NO_HOST);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if ["http", "https"]
        .iter()
        .any(|scheme| host.eq_ignore_ascii_case(scheme))
    {
        return Err(TWO_SCHEMES);
    }
    match port {
        Some("") => return Err(NO_PORT),
        Some(port) if !matches!(port.parse(), Ok(1..=u16::MAX)) => {
            let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
            return Err(if is_number {
                WRONG_PORT
            } else {
                port_problem(port)
            });
        }
        _ => {}
    }
    if !host.starts_with('[') && host.contains(':') {
        return Err(
            "an IPv6 address in a URL must be in brackets, such as \"http://[::1]:3000/webhook\", and only one port may follow",
        );
    }
    if rest.contains('#') {
        return Err(FRAGMENT);
    }
    check_missing_values(text)?;
    let url: Url = text.parse().map_err(|_| {
        if looks_like_number(host) {
            NUMBER_HOST
        } else {
            WRONG_HOST
        }
    })?;
    check_host(&url, host)?;
    // No request can carry such a URL. The parser of URLs accepts more than the HTTP client does.
    if url.as_str().parse::<http::Uri>().is_err() || HeaderValue::from_str(url.as_str()).is_err() {
        return Err(NO_URL);
    }
    Ok(url)
}

fn port_problem(port: &str) -> &'static str {
    if port.starts_with('$') {
        DOLLAR
    } else {
        WRONG_PORT
    }
}

/// Refuses characters that RFC 3986 allows nowhere in a URL. The parser would encode or drop them.
fn check_characters(text: &str) -> Result<(), &'static str> {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let has_pair = |open: char, close: char| {
        text.find(open)
            .is_some_and(|start| text[start..].contains(close))
    };
    if has(&["${", "$(", "{{", "}}", "{%", "<%"]) || has_pair('{', '}') || has_pair('<', '>') {
        return Err(PLACEHOLDER);
    }
    if text
        .chars()
        .any(|letter| letter.is_whitespace() || letter.is_control() || is_invisible(letter))
    {
        return Err(WHITE_SPACE);
    }
    let is_wrong = |letter: char| {
        matches!(
            letter,
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'
            // Quotation marks and dots of a word processor, and replacement characters.
            | '\u{2010}'..='\u{2027}' | '\u{fffc}' | '\u{fffd}'
        )
    };
    if text.contains(is_wrong) {
        return Err(WRONG_CHARACTER);
    }
    check_percents(text)?;
    check_path_characters(text)
}

fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
    )
}

fn check_percents(text: &str) -> Result<(), &'static str> {
    let is_escape = |rest: &str| {
        let mut digits = rest.bytes();
        let mut is_digit = || digits.next().is_some_and(|digit| digit.is_ascii_hexdigit());
        is_digit() && is_digit()
    };
    if text.split('%').skip(1).all(is_escape) {
        return Ok(());
    }
    Err(PERCENT)
}

fn check_path_characters(text: &str) -> Result<(), &'static str> {
    for rest in text.split('$').skip(1) {
        let name = rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let name = name.into_iter().next().unwrap_or_default();
        let is_variable = name
            .starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
            && !name.contains(|letter: char| letter.is_ascii_lowercase());
        if is_variable {
            return Err(DOLLAR);
        }
    }
    let behind_authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let path = behind_authority
        .find('/')
        .map_or("", |start| &behind_authority[start..]);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if path.contains(['[', ']']) {
        return Err(PLACEHOLDER);
    }
    let is_parameter = |segment: &str| {
        segment
            .strip_prefix(':')
            .is_some_and(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
    };
    if path.split('/').any(is_parameter) {
        return Err(PLACEHOLDER);
    }
    Ok(())
}

fn check_missing_values(text: &str) -> Result<(), &'static str> {
    let behind = text.split_once("://").map_or(text, |(_, rest)| rest);
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = path.split_once('/').unwrap_or((path, ""));
    let host = authority.split(':').next().unwrap_or_default();
    let is_missing = MISSING_VALUES
        .iter()
        .any(|missing| host.eq_ignore_ascii_case(missing))
        || path
            .split('/')
            .any(|segment| matches!(segment, "undefined" | "null"));
    if is_missing {
        Err(MISSING_VALUE)
    } else {
        Ok(())
    }
}

fn looks_like_number(host: &str) -> bool {
    host.bytes()
        .all(|letter| letter.is_ascii_digit() || letter == b'.')
}

fn check_host(url: &Url, written: &str) -> Result<(), &'static str> {
    let host = url.host_str().ok_or(NO_HOST)?;
    let bare = host.trim_matches(['[', ']']);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        // The parser also takes `3000`, `127.1`, `0x7f000001` and `010.0.0.1` for addresses.
        if ip.is_ipv4() && written != bare {
            return Err(NUMBER_HOST);
        }
        return check_address(ip.to_canonical());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_'))
    };
    if name.len() > HOST_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(if host.contains('$') {
            DOLLAR
        } else {
            WRONG_HOST
        });
    }
    Ok(())
}

fn check_address(ip: IpAddr) -> Result<(), &'static str> {
    if ip.is_unspecified() {
        return Err(EVERYWHERE);
    }
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // No address of 0.0.0.0/8 is that of a host (RFC 1122, section 3.2.1.3).
    let is_of_no_network = matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0);
    if ip.is_multicast() || is_broadcast {
        return Err(NO_SERVER);
    }
    // Without its interface the system connects to none.
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(LINK_LOCAL);
    }
    if is_of_no_network {
        Err(NUMBER_HOST)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these texts is refused for its cause.
    #[track_caller]
    fn assert_refused(read: fn(&str) -> Result<Url, String>, wrong: &[(&str, &str)]) {
        for (text, cause) in wrong {
            assert_eq!(read(text), Err((*cause).to_owned()), "{text}");
        }
    }

    #[test]
    fn urls_that_can_work_are_taken_as_they_are() {
        for good in [
            "http://127.0.0.1:3000/webhook",
            "HTTPS://App.Example/h?tenant=7&x=$y",
            "http://localhost",
            "http://app:8080/a/b_c/~d/(e)/f;g=1,2/'h'/*/!",
            "http://[::1]:3000/",
            "https://app.example.:8443/%7Btenant%7D/a%20b",
            "http://b\u{fc}cher.example/stra\u{df}e",
            "http://my_app.internal/$metadata/v1:run",
            "http://10.0.0.1/",
            "http://app/a@b",
            "http://1password.example/",
        ] {
            assert!(http_url(good).is_ok(), "{good}: {:?}", http_url(good));
        }
    }

    #[test]
    fn urls_that_cannot_work_are_refused_with_the_cause() {
        let wrong = [
            ("", NO_URL),
            ("app", NO_URL),
            ("/webhook", NO_URL),
            ("localhost:3000/h", NO_SCHEME),
            ("ftp://app/h", NO_SCHEME),
            ("http:/app/h", NO_SCHEME),
            ("http:app/h", NO_SCHEME),
            ("http:///h", NO_HOST),
            ("http://", NO_HOST),
            ("http://:3000/h", NO_HOST),
            ("http://?x", NO_HOST),
            ("http://app:/h", NO_PORT),
            ("http://app:0/h", WRONG_PORT),
            ("http://app:65536/h", WRONG_PORT),
            ("http://app:-1/h", WRONG_PORT),
            ("http://app:$PORT/h", DOLLAR),
            ("http://http://app/h", TWO_SCHEMES),
            ("https://http:/app/h", TWO_SCHEMES),
            ("http://${APP_HOST}:3000/h", PLACEHOLDER),
            ("http://app/${TENANT}/h", PLACEHOLDER),
            ("http://{{x}}/h", PLACEHOLDER),
            ("http://app/{tenant}/h", PLACEHOLDER),
            ("http://app/[tenant]/h", PLACEHOLDER),
            ("http://app/:tenant/h", PLACEHOLDER),
            ("http://<host>/h", PLACEHOLDER),
            ("http://app/<tenant>", PLACEHOLDER),
            ("<http://app/h>", PLACEHOLDER),
            ("http://$(hostname)/h", PLACEHOLDER),
            ("http://$APP_HOST/h", DOLLAR),
            ("http://app/$TENANT/h", DOLLAR),
            ("http://%APP_HOST%/h", PERCENT),
            ("http://app/%TENANT%/h", PERCENT),
            ("http://app/100%", PERCENT),
            ("http://app/%\u{e4}\u{e4}", PERCENT),
            ("http://app/a b", WHITE_SPACE),
            (" http://app/h", WHITE_SPACE),
            ("http://app/h\n", WHITE_SPACE),
            ("http://a\tpp/h", WHITE_SPACE),
            ("http://app\u{a0}/h", WHITE_SPACE),
            ("\u{feff}http://app/h", WHITE_SPACE),
            ("http://app/\u{200b}h", WHITE_SPACE),
            ("http:\\\\app\\h", WRONG_CHARACTER),
            ("\"http://app/h\"", WRONG_CHARACTER),
            ("\u{201c}http://app/h\u{201d}", WRONG_CHARACTER),
            ("http://\u{2026}/h", WRONG_CHARACTER),
            ("http://3000/h", NUMBER_HOST),
            ("http://0/h", NUMBER_HOST),
            ("http://127.1/h", NUMBER_HOST),
            ("http://0x7f000001/h", NUMBER_HOST),
            ("http://127.0.0.010/h", NUMBER_HOST),
            ("http://0.0.11.184/h", NUMBER_HOST),
            ("http://1.2.3.4.5/h", NUMBER_HOST),
            ("http://99999999999/h", NUMBER_HOST),
            ("http://0.0.0.0:3000/h", EVERYWHERE),
            ("http://[::]:3000/h", EVERYWHERE),
            ("http://[::ffff:0.0.0.0]/h", EVERYWHERE),
            ("http://255.255.255.255/h", NO_SERVER),
            ("http://224.0.0.1/h", NO_SERVER),
            ("http://[ff02::1]/h", NO_SERVER),
            ("http://[fe80::1]:3000/h", LINK_LOCAL),
            ("http://[FEBF::1]/h", LINK_LOCAL),
            ("http://[fe80::1%eth0]:3000/h", LINK_LOCAL),
            ("http://[fe80::1%25eth0]:3000/h", LINK_LOCAL),
            ("http://.../h", WRONG_HOST),
            ("http://app..example/h", WRONG_HOST),
            ("http://app*/h", WRONG_HOST),
            ("http://[nonsense]/h", WRONG_HOST),
            ("http://undefined:3000/h", MISSING_VALUE),
            ("http://app/undefined/h", MISSING_VALUE),
            ("http://app/h#top", FRAGMENT),
            ("http://app#", FRAGMENT),
            ("http://me:hunter2@app/h", USER),
            ("http://me:hunter2@${HOST}/h", USER),
            ("me:hunter2@app/h", USER),
            ("http://me@app", USER),
        ];
        assert_refused(http_url, &wrong);
        assert!(
            http_url("http://::1/h")
                .unwrap_err()
                .contains("in brackets")
        );
        assert!(http_url(&format!("http://app/{}", "x".repeat(5000))).is_err());
    }

    #[test]
    fn a_typed_url_may_omit_the_scheme_and_the_local_host() {
        for (typed, meant) in [
            ("3000", "http://127.0.0.1:3000/"),
            (":3000", "http://127.0.0.1:3000/"),
            ("3000/webhook", "http://127.0.0.1:3000/webhook"),
            (":3000/webhook?a=b", "http://127.0.0.1:3000/webhook?a=b"),
            ("localhost:3000/x", "http://localhost:3000/x"),
            ("localhost", "http://localhost/"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000/"),
            ("[::1]:3000", "http://[::1]:3000/"),
            ("app.example/x", "http://app.example/x"),
            ("https://app.example", "https://app.example/"),
        ] {
            assert_eq!(typed_url(typed).unwrap().as_str(), meant, "{typed}");
        }
        let wrong = [
            ("0", WRONG_PORT),
            ("65536", WRONG_PORT),
            (":0/h", WRONG_PORT),
            ("127.1", NUMBER_HOST),
            ("3000:3000", NUMBER_HOST),
            ("0.0.0.0:3000", EVERYWHERE),
            ("me:hunter2@localhost:3000", USER),
            ("http:3000", TWO_SCHEMES),
            ("//app/h", NO_HOST),
            ("", NO_HOST),
            (":", NO_HOST),
        ];
        assert_refused(typed_url, &wrong);
        assert!(
            typed_url("/webhook")
                .unwrap_err()
                .contains("a path without a server")
        );
    }
}
