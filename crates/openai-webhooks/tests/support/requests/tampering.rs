//! A bit that changes in transit.

use proptest::prelude::*;
use proptest::sample::Index;

use super::Request;

/// A change of a request in transit.
#[derive(Clone, Debug)]
pub(super) enum Tampering {
    None,
    Header(Index, Index, u8),
    Body(Index, u8),
    Secret(Index),
}

pub(super) fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        24 => Just(Tampering::None),
        1 => (any::<Index>(), any::<Index>(), 0..8_u8).prop_map(|(header, at, bit)| Tampering::Header(header, at, bit)),
        1 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Tampering::Body(at, bit)),
        1 => any::<Index>().prop_map(Tampering::Secret),
    ]
}

impl Tampering {
    pub(super) fn apply_to(&self, request: &mut Request) {
        match self {
            Self::None => {}
            Self::Header(header, at, bit) => {
                let header = header.index(request.headers.len());
                let value = &mut request.headers[header].1;
                if !value.is_empty() {
                    let at = at.index(value.len());
                    let changed = value[at] ^ (1 << bit);
                    if !b"\0\r\n".contains(&changed) {
                        value[at] = changed;
                    }
                }
            }
            Self::Body(at, bit) => {
                if !request.body.is_empty() {
                    let at = at.index(request.body.len());
                    request.body[at] ^= 1 << bit;
                }
            }
            Self::Secret(at) => {
                let mut letters: Vec<char> = request.secret.chars().collect();
                if !letters.is_empty() {
                    let at = at.index(letters.len());
                    letters[at] = if letters[at] == 'x' { 'y' } else { 'x' };
                    request.secret = letters.into_iter().collect();
                }
            }
        }
    }
}
