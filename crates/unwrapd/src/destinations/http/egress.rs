//! Filters the addresses to which a host name resolves. The owner of a name can direct it to this
//! machine, to its network, or to the service that issues the credentials of a cloud. So each
//! address is checked when a connection is made, and the connection uses exactly that address. An
//! address in the URL itself was configured, and is not looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::HttpSettings;

/// The addresses that the name in a URL may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressPolicy {
    /// Public addresses.
    Public,
    /// Loopback addresses, for the name of this machine.
    Loopback,
    /// Any address, as configured.
    Anywhere,
}

impl AddressPolicy {
    pub(super) fn of(settings: &HttpSettings) -> Self {
        if settings.allow_private {
            Self::Anywhere
        } else if settings.url.host_str().is_some_and(is_localhost) {
            Self::Loopback
        } else {
            Self::Public
        }
    }

    fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Loopback => address.to_canonical().is_loopback(),
            Self::Anywhere => true,
        }
    }
}

/// Whether this is a name that always means the same machine.
pub(super) fn is_localhost(host: &str) -> bool {
    matches!(host, "localhost" | "localhost.")
}

/// Passes the results of `lookup` that the policy allows.
pub(super) struct AddressFilter {
    pub(super) lookup: Arc<dyn Resolve>,
    pub(super) policy: AddressPolicy,
}

impl Resolve for AddressFilter {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = self.lookup.resolve(name);
        let policy = self.policy;
        Box::pin(async move {
            let (vetted, refused): (Vec<_>, Vec<_>) =
                found.await?.partition(|address| policy.has(address.ip()));
            match refused.first() {
                Some(address) if vetted.is_empty() => Err(OutOfReach {
                    host,
                    address: address.ip(),
                }
                .into()),
                _ => Ok(Box::new(vetted.into_iter()) as Addrs),
            }
        })
    }
}

/// No address of a name is allowed.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{host}` resolves to {address}, which is not a public address; if that is intended, set `allow_private = true` for this destination"
)]
struct OutOfReach {
    host: String,
    address: IpAddr,
}

/// Maximum number of concurrent lookups of a destination. Each occupies a thread until it is
/// answered, even if its caller has given up: a silent name server must not use up the threads that
/// others need.
const LOOKUPS_MAX: usize = 4;

/// Time for which a result is reused for other connections. All connections of a destination are
/// replaced together.
const FOUND_AGE_MAX: Duration = Duration::from_secs(1);

/// The name resolver of the system.
pub(super) struct Lookup {
    threads: Arc<Semaphore>,
    found: Arc<Mutex<Option<Found>>>,
}

struct Found {
    name: String,
    addresses: Vec<SocketAddr>,
    at: Instant,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            found: Arc::default(),
        }
    }
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let threads = Arc::clone(&self.threads);
        let found = Arc::clone(&self.found);
        Box::pin(async move {
            // Held during the lookup, so that others wait for the same result.
            let mut found = found.lock().await;
            if let Some(found) = &*found
                && found.name == name.as_str()
                && found.at.elapsed() < FOUND_AGE_MAX
            {
                return Ok(Box::new(found.addresses.clone().into_iter()) as Addrs);
            }
            let thread = threads.acquire_owned().await?;
            let host = name.as_str().to_owned();
            let look = move || {
                let _thread = thread;
                // Port 0 is replaced by that of the URL.
                (name.as_str(), 0)
                    .to_socket_addrs()
                    .map(Iterator::collect::<Vec<_>>)
            };
            let addresses = tokio::task::spawn_blocking(look).await??;
            *found = Some(Found {
                name: host,
                addresses: addresses.clone(),
                at: Instant::now(),
            });
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is public: outside IANA's registries of special-purpose addresses ([RFC
/// 6890](https://www.rfc-editor.org/rfc/rfc6890)).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || matches!(
            address.octets(),
            [0 | 240..=255, ..]    // "this network"; reserved, and broadcast
            | [100, 64..=127, ..]  // shared between a carrier and its customers
            | [192, 0, 0, _]       // assigned to protocols
            | [192, 88, 99, _]     // relays of 6to4
            | [198, 18..=19, ..] // benchmarks
        );
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // An IPv4 address embedded in IPv6 counts as that address: mapped, through NAT64, through
        // 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // Assigned to protocols (Teredo among them), and documentation.
        [0x2001, ..0x200 | 0xdb8, ..] | [0x3fff, ..0x1000, ..] => false,
        // All global unicast addresses. Not included: loopback, link-local, unique local,
        // multicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The first and the last address of each special range; the addresses next to them are public.
    #[test]
    fn addresses_of_special_ranges_are_not_public_and_their_neighbours_are() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "255.255.255.255"),
        ] {
            let [first, last] = [first, last].map(|text| text.parse::<Ipv4Addr>().unwrap());
            assert!(!is_public_v4(first), "{first}");
            assert!(!is_public_v4(last), "{last}");
            let before = u32::from(first).checked_sub(1).map(Ipv4Addr::from);
            let behind = u32::from(last).checked_add(1).map(Ipv4Addr::from);
            for neighbour in [before, behind].into_iter().flatten() {
                assert!(is_public_v4(neighbour), "{neighbour}");
            }
        }
    }

    #[test]
    fn ipv6_addresses_are_public_only_in_allocated_ranges() {
        for special in [
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
        for public in [
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2002:808:808::1",
            "2606:4700::1111",
            "3fff:1000::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
    }

    #[test]
    fn localhost_is_this_machine_and_no_other() {
        for here in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert!(AddressPolicy::Loopback.has(ip(here)), "{here}");
        }
        for elsewhere in ["10.0.0.1", "8.8.8.8", "169.254.169.254", "fe80::1", "::"] {
            assert!(!AddressPolicy::Loopback.has(ip(elsewhere)), "{elsewhere}");
        }
    }

    struct Answer(&'static [&'static str]);

    impl Resolve for Answer {
        fn resolve(&self, _name: Name) -> Resolving {
            let found = self.0.iter().map(|text| SocketAddr::new(ip(text), 0));
            Box::pin(async move { Ok(Box::new(found) as Addrs) })
        }
    }

    #[tokio::test]
    async fn addresses_of_a_name_are_filtered_by_the_policy() {
        for (policy, expected) in [
            (AddressPolicy::Public, &["8.8.8.8", "2606:4700::1111"][..]),
            (AddressPolicy::Loopback, &["::1"]),
            (
                AddressPolicy::Anywhere,
                &["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"],
            ),
        ] {
            let vetting = AddressFilter {
                lookup: Arc::new(Answer(&["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"])),
                policy,
            };
            let let_through = vetting.resolve("app.example".parse().unwrap()).await;
            let let_through: Vec<_> = let_through.ok().unwrap().map(|is| is.ip()).collect();
            let expected: Vec<_> = expected.iter().map(|text| ip(text)).collect();
            assert_eq!(let_through, expected, "{policy:?}");
        }
    }

    proptest! {
        #[test]
        fn an_ipv4_address_in_ipv6_clothes_is_judged_as_itself(bits: u32, rest: u64, subnet: u16) {
            let v4 = Ipv4Addr::from(bits);
            let mapped = u128::from(v4.to_ipv6_mapped());
            let nat64 = (0x0064_ff9b_u128 << 96) | u128::from(bits);
            let six_to_four = (0x2002_u128 << 112)
                | (u128::from(bits) << 80)
                | (u128::from(subnet) << 64)
                | u128::from(rest);
            for clothes in [mapped, nat64, six_to_four] {
                prop_assert_eq!(is_public_v6(clothes.into()), is_public_v4(v4));
            }
        }

        #[test]
        fn addresses_special_to_the_standard_library_are_not_public(bits: u128) {
            let v6 = Ipv6Addr::from(bits);
            let is_special = v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local();
            prop_assert!(!(is_special && is_public_v6(v6)));
        }
    }
}
