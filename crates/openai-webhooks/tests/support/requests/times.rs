//! Times at which a request is signed, sent and received, and spellings of its timestamp.

use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
pub(super) struct Time {
    pub(super) now: i64,
    pub(super) tolerance: Option<u64>,
    pub(super) sent: Vec<u8>,
    pub(super) signed: Vec<u8>,
}

pub(super) fn times() -> impl Strategy<Value = Time> {
    let now = prop_oneof![4 => Just(1_750_287_078), 4 => 1_000_000_000..4_200_000_000_i64, 1 => 0..700_i64];
    let tolerance = prop_oneof![6 => Just(None), 1 => select(vec![0, 1, 299, 301, 3600, u64::from(u32::MAX)]).prop_map(Some)];
    let beyond_tolerance = prop_oneof![12 => Just(None), 6 => (-2..=2_i64).prop_map(Some), 1 => (-5000..5000_i64).prop_map(Some)];
    let form = prop_oneof![14 => Just(0), 3 => 0..TIMESTAMP_FORMS.len()];
    (
        now,
        tolerance,
        beyond_tolerance,
        any::<bool>(),
        0..=100_i64,
        form,
        0..4,
    )
        .prop_map(
            |(now, tolerance, beyond, is_future, percent, form, as_number)| {
                let border = i64::try_from(tolerance.unwrap_or(300)).expect("below 2^32");
                let ago = match beyond {
                    Some(beyond) => border + beyond,
                    None => border * percent / 100,
                };
                let seconds = (if is_future { now + ago } else { now - ago }).max(0);
                let sent = TIMESTAMP_FORMS[form](seconds).into_bytes();
                // One sender in four signs the number and writes another spelling.
                let signed = if as_number == 0 {
                    seconds.to_string().into_bytes()
                } else {
                    sent.clone()
                };
                Time {
                    now,
                    tolerance,
                    sent,
                    signed,
                }
            },
        )
}

const TIMESTAMP_FORMS: &[fn(i64) -> String] = &[
    |seconds| seconds.to_string(),
    |seconds| format!("0{seconds}"),
    |seconds| format!("{seconds:019}"),
    |seconds| format!("{seconds:020}"),
    |seconds| format!("{seconds:040}"),
    |seconds| format!("+{seconds}"),
    |seconds| format!("-{seconds}"),
    |seconds| format!("{seconds}.0"),
    |seconds| format!("{seconds}.{{\"a\":1}}"),
    |seconds| format!("{seconds}e0"),
    |seconds| format!("{seconds:#x}"),
    |seconds| format!("{}_{}", seconds / 1000, seconds % 1000),
    |seconds| format!("{seconds}s"),
    |seconds| format!("{seconds} "),
    |seconds| format!("\t{seconds}"),
    |seconds| format!("\u{b}{seconds}"),
    |seconds| format!("{seconds}\u{a0}"),
    |seconds| format!("{} {}", seconds / 10, seconds % 10),
    |seconds| format!("{seconds},{seconds}"),
    |seconds| {
        seconds
            .to_string()
            .chars()
            .map(|digit| char::from_u32(u32::from(digit) - 0x30 + 0x660).expect("a digit"))
            .collect()
    },
    |_| String::new(),
    |_| "9999999999999999999".to_owned(),
    |_| "-9223372036854775808".to_owned(),
    |_| "18446744073709551616".to_owned(),
    |_| "NaN".to_owned(),
];
