//! Sets of addresses, as settings name them: single addresses and CIDR ranges.

use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses. An IPv4 address is the same in both of its spellings (`10.0.0.1`, `::ffff:10.0.0.1`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads addresses (`10.0.0.1`) and ranges (`10.0.0.0/8`, `fd00::/8`); the error is the text that is neither.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let read = |text: &str| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            net.map(canonical).map_err(|_| text.to_owned())
        };
        texts.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the address is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// Whether an address is one of the public Internet: what a program may call for whoever names it. Everything that is not is refused: the own
/// machine, private networks, what clouds tell their machines, and spellings that hold another address.
///
/// Source: IANA's registries of special-purpose addresses for IPv4 (RFC 6890) and IPv6, and of IPv6 unicast, of which only `2000::/3` is given out.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_special = matches!(
        (a, b),
        // Protocols (Teredo among them), documentation, 6to4, documentation.
        (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x2002, _) | (0x3fff, 0x0000..=0x0fff)
    );
    (0x2000..0x4000).contains(&a) && !is_special
}

/// A range of IPv4 addresses in IPv6 spelling as the range of IPv4 addresses that it is.
fn canonical(net: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(MAPPED_BITS)) {
        (IpAddr::V4(address), Some(bits)) if net.addr().is_ipv6() => {
            Ipv4Net::new(address, bits).map_or(net, IpNet::from)
        }
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(texts: &[&str], address: &str) -> bool {
        Networks::parse(texts.iter().copied()).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_and_ranges_hold_what_they_name() {
        for (texts, address, is_in) in [
            (&["10.0.0.1"][..], "10.0.0.1", true),
            (&["10.0.0.1"], "10.0.0.2", false),
            (&["10.1.2.3/8"], "10.255.0.1", true),
            (&["10.0.0.0/8"], "11.0.0.1", false),
            (&["127.0.0.1", "::1"], "::1", true),
            (&["fd00::/8"], "fd12::1", true),
            (&["fd00::/8"], "fe80::1", false),
            (&["0.0.0.0/0"], "::1", false),
            (&[], "127.0.0.1", false),
        ] {
            assert_eq!(contains(texts, address), is_in, "{address} in {texts:?}");
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_both_spellings() {
        for text in ["10.0.0.0/8", "::ffff:10.0.0.0/104"] {
            for address in ["10.9.9.9", "::ffff:10.9.9.9"] {
                assert!(contains(&[text], address), "{address} in {text}");
            }
            assert!(!contains(&[text], "::ffff:11.0.0.1"), "{text}");
        }
        assert!(contains(&["::ffff:10.0.0.1"], "10.0.0.1"));
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for public in
            ["1.1.1.1", "93.184.215.14", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn what_is_neither_is_named() {
        for bad in ["", "ten", "10.0.0.0/33", "10.0.0", "example.org", "10.0.0.0/8/8"] {
            assert_eq!(Networks::parse(["10.0.0.1", bad]), Err(bad.to_owned()));
        }
    }
}
