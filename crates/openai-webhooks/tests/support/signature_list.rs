//! The list of signatures in a header, read slowly and plainly: for the rule sheet, and for the fuzz
//! target of headers.

/// The tokens between commas, in each group between blanks.
fn groups(list: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    list.split(|byte| matches!(byte, b' ' | b'\t'))
        .map(|group| group.split(|&byte| byte == b',').collect())
}

/// At least 44 letters of base64, with padding at the end.
fn looks_like_a_signature(token: &[u8]) -> bool {
    let end = token.iter().rposition(|&byte| byte != b'=');
    let digits = &token[..end.map_or(0, |end| end + 1)];
    token.len() >= 44
        && digits
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
}

/// `v1`, `v1a`, `v2`, `V1`
fn is_version(token: &[u8]) -> bool {
    token.len() >= 2
        && token.len() <= 8
        && token[0].eq_ignore_ascii_case(&b'v')
        && token[1].is_ascii_digit()
        && token.iter().all(u8::is_ascii_alphanumeric)
}

/// Number of items. An item is a version with its signature, or a single token.
pub(crate) fn count_items(list: &[u8]) -> usize {
    groups(list)
        .map(|tokens| {
            let is_item =
                |&at: &usize| !tokens[at].is_empty() && (at == 0 || !is_version(tokens[at - 1]));
            (0..tokens.len()).filter(is_item).count()
        })
        .sum()
}

/// Whether the list contains this signature: alone, after another signature or an empty token, or
/// after a `v1` that belongs to no other version.
pub(crate) fn lists_signature(list: &[u8], good: &[u8]) -> bool {
    groups(list).any(|tokens| {
        (0..tokens.len()).any(|at| {
            let before = |by: usize| at.checked_sub(by).map(|at| tokens[at]);
            tokens[at] == good
                && match before(1) {
                    None | Some(b"") => true,
                    Some(b"v1") => !before(2).is_some_and(is_version),
                    Some(other) => looks_like_a_signature(other),
                }
        })
    })
}
