//! Recognises credentials, ids and keys of other kinds, and encrypted or encoded secrets.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::GeneralPurpose;
use zeroize::Zeroizing;

use crate::secret::{PADDING_MAY_MISS, PREFIX, SECRET_BASE64, SecretError};

/// Prefixes of API keys and tokens, of OpenAI and of others.
const API_KEYS: [&str; 24] = [
    "sess-",
    "ek_",
    "pk_live_",
    "pk_test_",
    "rk_live_",
    "rk_test_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "hf_",
    "gsk_",
    "xai-",
    "npm_",
    "pypi-",
    "dop_v1_",
];
/// Minimum length after a prefix that a password may have too.
const REST_MIN: usize = 16;

/// Names the problem of a credential or an id of another kind, or of an encrypted or encoded
/// secret.
pub(super) fn recognise(text: &str, lower: &str) -> Option<SecretError> {
    let starts = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    if is_encrypted(text, lower) {
        return Some(SecretError::Encrypted);
    }
    // The last two are keys of Ed25519 in DER and base64.
    let asymmetric = ["-----begin", "ssh-", "ecdsa-", "whpk_", "whsk_"];
    let in_der = ["MCowBQYDK2VwAyEA", "MC4CAQAwBQYDK2VwBCIE"];
    if starts(&asymmetric) || in_der.iter().any(|start| text.starts_with(start)) {
        return Some(SecretError::AsymmetricKey);
    }
    if text.starts_with("v1a,") {
        return Some(SecretError::SignaturePrefix);
    }
    if is_api_key(text) {
        return Some(SecretError::ApiKey);
    }
    if text.starts_with("whe_") {
        return Some(SecretError::EndpointId);
    }
    if is_authorization(lower) {
        return Some(SecretError::Authorization);
    }
    if is_id(text) {
        return Some(SecretError::OtherId);
    }
    if lower.starts_with("eyj") && lower.matches('.').count() == 2 {
        return Some(SecretError::WebToken);
    }
    // `whsec_` in base64 and in hexadecimal digits; the rest may be truncated.
    let is_encoded = starts(&["d2hzzwnf", "77687365635f"]) || is_encoded_secret(text);
    is_encoded.then_some(SecretError::EncodedTwice)
}

/// Whether the text, decoded from base64 or hexadecimal digits, holds `whsec_`.
pub(super) fn is_encoded_secret(text: &str) -> bool {
    const URL_SAFE_BASE64: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDING_MAY_MISS);
    let text: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
    let holds_prefix = |bytes: Vec<u8>| {
        let mut bytes = Zeroizing::new(bytes);
        // In UTF-16, as PowerShell encodes text, every second byte is zero.
        bytes.retain(|&byte| byte != 0);
        bytes
            .windows(PREFIX.len())
            .any(|part| part.eq_ignore_ascii_case(PREFIX.as_bytes()))
    };
    let from_base64 = |engine: &GeneralPurpose| engine.decode(&*text).is_ok_and(holds_prefix);
    from_base64(&SECRET_BASE64)
        || from_base64(&URL_SAFE_BASE64)
        || from_hexadecimal(&text).is_some_and(holds_prefix)
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks() else {
        return None;
    };
    let byte = |&[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    pairs.iter().map(byte).collect()
}

/// Whether the text is the output of a tool for encrypted configurations.
fn is_encrypted(text: &str, lower: &str) -> bool {
    let starts = [
        "enc[",
        "enc(",
        "ej[1:",
        "{cipher}",
        "$ansible_vault;",
        "vault:v1:",
        "-----begin pgp message",
        "-----begin age encrypted",
    ];
    // Blobs of AWS KMS in base64.
    let is_blob = text.starts_with("AQICAH") && text.len() > 100;
    is_blob || starts.iter().any(|start| lower.starts_with(start))
}

/// API keys always begin in lower case; a key of random letters rarely does.
fn is_api_key(text: &str) -> bool {
    let is_of_key = |letter: u8| letter.is_ascii_alphanumeric() || b"_-.".contains(&letter);
    let rest = API_KEYS.iter().find_map(|start| text.strip_prefix(start));
    text.starts_with("sk-")
        || text.starts_with("sk_")
        || rest.is_some_and(|rest| rest.len() >= REST_MIN && rest.bytes().all(is_of_key))
}

/// Whether the text is the header `Authorization` or its value: a scheme and exactly one word. A
/// password may be a sentence that begins with the same word.
fn is_authorization(lower: &str) -> bool {
    let value = ["bearer ", "basic ", "token "]
        .iter()
        .find_map(|scheme| lower.strip_prefix(scheme));
    lower.starts_with("authorization:")
        || value.is_some_and(|value| !value.trim().contains(char::is_whitespace))
}

/// Whether the text is the id of an OpenAI object. A password of several words may have the same
/// beginning.
fn is_id(text: &str) -> bool {
    const STARTS: [&str; 8] = [
        "wh_", "evt_", "proj_", "org-", "org_", "resp_", "batch_", "rtc_",
    ];
    const STARTS_OF_LONG: [&str; 16] = [
        "file-",
        "asst_",
        "thread_",
        "ftjob-",
        "req_",
        "user-",
        "vs_",
        "msg_",
        "conv_",
        "sess_",
        "live_",
        "evalrun_",
        "eval_",
        "video_",
        "modr-",
        "chatcmpl-",
    ];
    let is_rest = |rest: &str| rest.bytes().all(|letter| letter.is_ascii_alphanumeric());
    let rest = |starts: &[&str]| {
        let rest = starts.iter().find_map(|start| text.strip_prefix(start));
        rest.filter(|rest| is_rest(rest)).map(str::len)
    };
    rest(&STARTS).is_some() || rest(&STARTS_OF_LONG).is_some_and(|length| length >= REST_MIN)
}
