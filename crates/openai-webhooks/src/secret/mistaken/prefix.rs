//! Recognises misspelt forms of the prefix `whsec_`.

/// Beginnings that only a misspelt prefix has.
const STARTS: [&str; 8] = [
    "whsec", "wh_sec", "wh-sec", "wh sec", "whsc_", "whsecret", "hsec_", "sec_",
];
/// The letters of the prefix.
const LETTERS: &str = "whsec";
/// Minimum length of a key after a misspelt prefix, in base64 letters.
const KEY_LETTERS_MIN: usize = 24;

/// Whether the text begins with a misspelt prefix. Characters that look like the letters of the
/// prefix count as those letters.
pub(super) fn is_misspelt(text: &str) -> bool {
    let lower: String = text.chars().map(look_alike).collect();
    let lower = lower.to_lowercase();
    if STARTS.iter().any(|start| lower.starts_with(start)) {
        return true;
    }
    let is_key = |key: &str| {
        key.len() >= KEY_LETTERS_MIN
            && key
                .bytes()
                .all(|letter| letter.is_ascii_alphanumeric() || b"+/=".contains(&letter))
    };
    lower
        .split_once(['_', '-', ':', '.', ' '])
        .is_some_and(|(head, key)| is_one_slip_from(head, LETTERS) && is_key(key))
}

/// The ASCII letter that a letter of another alphabet, or of full width, resembles.
fn look_alike(letter: char) -> char {
    match letter {
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(letter) - 0xff01 + 0x21).unwrap_or(letter)
        }
        'ԝ' => 'w',
        'һ' => 'h',
        'ѕ' => 's',
        'е' => 'e',
        'с' => 'c',
        '‐' | '‑' | '–' | '—' | '−' => '-',
        '‗' => '_',
        other => other,
    }
}

/// Whether the words differ by one letter that is wrong, missing or extra, or by two swapped
/// neighbours.
fn is_one_slip_from(word: &str, other: &str) -> bool {
    let (word, other): (Vec<char>, Vec<char>) = (word.chars().collect(), other.chars().collect());
    let same = word.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (word, other) = (&word[same..], &other[same..]);
    match (word, other) {
        ([a, b, word @ ..], [c, d, other @ ..]) if (a, b) == (d, c) => word == other,
        ([_, word @ ..], [_, other @ ..]) if word == other => true,
        ([_, word @ ..], other) if word == other => true,
        (word, [_, other @ ..]) => word == other,
        _ => false,
    }
}
