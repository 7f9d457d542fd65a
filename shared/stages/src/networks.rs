//! Sets of addresses, as settings name them: single addresses and CIDR ranges.

use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

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
    fn what_is_neither_is_named() {
        for bad in ["", "ten", "10.0.0.0/33", "10.0.0", "example.org", "10.0.0.0/8/8"] {
            assert_eq!(Networks::parse(["10.0.0.1", bad]), Err(bad.to_owned()));
        }
    }
}
