//! The share of a gateway in the limits of a destination. Pure: every gateway computes the same
//! shares, so none has to distribute them.

use super::limits::Limits;

/// The rank of this gateway among those on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitShare {
    /// The gateway has a share.
    Of {
        /// Rank of the gateway, from 0.
        place: usize,
        /// Number of gateways.
        gateways: usize,
    },
    /// Some peers do not list this gateway yet. It makes only attempts without a shared limit:
    /// calls, unless there is a rate.
    Joining,
    /// The others may have declared this gateway dead, and taken over its deliveries.
    Nothing,
}

impl LimitShare {
    /// The share of a single gateway.
    pub const ALONE: Self = Self::Of {
        place: 0,
        gateways: 1,
    };

    /// The share of `ours` beside these others at `destination`. The order of gateways depends on
    /// the destination, so that remainders go to different gateways.
    pub fn beside(destination: &str, ours: i64, others: impl IntoIterator<Item = i64>) -> Self {
        let ours = (mixed(destination, ours), ours);
        let (mut place, mut gateways) = (0, 1);
        for other in others {
            gateways += 1;
            if (mixed(destination, other), other) < ours {
                place += 1;
            }
        }
        Self::Of { place, gateways }
    }

    /// This gateway's share of `limits`. If a limit is smaller than the number of gateways, the
    /// first gateways get one each, and the others none. The sum of the shares is exactly `limits`.
    ///
    /// A gateway that counts fewer peers never gets less. So while each gateway counts at least all
    /// that have a share, the shares never exceed `limits` in total.
    #[must_use]
    pub fn of(self, limits: &Limits) -> Limits {
        let (concurrency, rate) = match self {
            Self::Of { place, gateways } => {
                let rate = limits.rate.map(|rate| rate as usize);
                let sharing = gateways.min(limits.concurrency);
                let sharing = rate.map_or(sharing, |rate| sharing.min(rate));
                let part = |whole: usize| {
                    if place < sharing {
                        (whole - place).div_ceil(sharing)
                    } else {
                        0
                    }
                };
                (part(limits.concurrency), rate.map(part))
            }
            Self::Joining => (0, limits.rate.map(|_| 0)),
            Self::Nothing => (0, Some(0)),
        };
        Limits {
            concurrency,
            rate: rate.map(|rate| u32::try_from(rate).unwrap_or(u32::MAX)),
            ..limits.clone()
        }
    }
}

/// FNV-1a, whose result is fixed across versions: gateways of two versions may share a store.
fn mixed(destination: &str, gateway: i64) -> u64 {
    let bytes = destination.bytes().chain(gateway.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::Lane;

    fn limits(concurrency: usize, rate: Option<u32>) -> Limits {
        Limits {
            concurrency,
            rate,
            ..Limits::default()
        }
    }

    fn parts(limits: &Limits, gateways: usize) -> Vec<(usize, Option<u32>)> {
        let share = |place| LimitShare::Of { place, gateways }.of(limits);
        let parts = (0..gateways).map(share);
        parts.map(|part| (part.concurrency, part.rate)).collect()
    }

    #[test]
    fn a_gateway_alone_has_the_whole_limit() {
        assert_eq!(
            LimitShare::ALONE.of(&limits(16, Some(5))),
            limits(16, Some(5))
        );
        assert_eq!(LimitShare::beside("app", 7, []), LimitShare::ALONE);
    }

    #[test]
    fn the_remainder_of_a_limit_goes_to_the_first_gateways() {
        let with = |concurrency, rate| parts(&limits(concurrency, rate), 3);
        assert_eq!(with(5, None), [(2, None), (2, None), (1, None)]);
        assert_eq!(with(1, None), [(1, None), (0, None), (0, None)]);
        assert_eq!(
            with(4, Some(2)),
            [(2, Some(1)), (2, Some(1)), (0, Some(0))],
            "who may begin none needs no place for any"
        );
    }

    #[test]
    fn calls_wait_for_a_share_only_where_there_is_a_rate() {
        let calls = |share: LimitShare, rate| share.of(&limits(8, rate)).of(Lane::Call).concurrency;
        assert_eq!(calls(LimitShare::Joining, None), 16);
        assert_eq!(calls(LimitShare::Joining, Some(5)), 0);
        assert_eq!(calls(LimitShare::Nothing, None), 0);
        assert_eq!(LimitShare::Joining.of(&limits(8, None)).concurrency, 0);
    }

    proptest! {
        #[test]
        fn the_shares_of_all_gateways_add_up_to_the_limit(
            concurrency in 1_usize..100,
            rate in prop::option::of(1_u32..100),
            gateways in 1_usize..20,
        ) {
            let parts = parts(&limits(concurrency, rate), gateways);
            prop_assert_eq!(parts.iter().map(|part| part.0).sum::<usize>(), concurrency);
            prop_assert_eq!(rate, rate.map(|_| parts.iter().filter_map(|part| part.1).sum()));
            // A gateway with concurrency has a rate, and the reverse.
            prop_assert!(parts.iter().all(|part| part.1.is_none_or(|rate| (rate > 0) == (part.0 > 0))));
        }

        /// While gateways join and leave, each may count peers that are gone or not yet joined.
        #[test]
        fn the_shares_of_gateways_that_count_every_participant_never_exceed_the_limit(
            concurrency in 1_usize..40,
            rate in prop::option::of(1_u32..40),
            all in prop::collection::btree_set(any::<i64>(), 1..12),
            taking_part in prop::collection::vec(any::<bool>(), 12),
            counted in prop::collection::vec(prop::collection::vec(any::<bool>(), 12), 12),
        ) {
            let limits = limits(concurrency, rate);
            let all: Vec<i64> = all.into_iter().collect();
            let (mut under_way, mut begun) = (0, 0);
            for (us, counted) in all.iter().zip(&counted).zip(&taking_part).filter_map(|(us, takes)| takes.then_some(us)) {
                let others = all.iter().zip(counted).zip(&taking_part)
                    .filter(|((other, counts), takes)| other != &us && (**counts || **takes))
                    .map(|((other, _), _)| *other);
                let part = LimitShare::beside("app", *us, others).of(&limits);
                under_way += part.concurrency;
                begun += part.rate.unwrap_or_default();
            }
            prop_assert!(under_way <= concurrency);
            prop_assert!(rate.is_none_or(|rate| begun <= rate));
        }
    }
}
