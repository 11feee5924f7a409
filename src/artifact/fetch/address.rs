//! Addresses: which machines a fetch may speak to.
//!
//! Owns the rule that nobody outside chooses one of our own: no private, loopback, link-local or metadata address, in
//! whatever form it is written. A name is resolved once and what it resolved to is kept, so that a second answer cannot
//! lead elsewhere. Only `http` uses it.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Names that one fetch resolves: a registry, its token service and its store are three.
const NAMES_MAX: usize = 64;

/// An address that a fetch must not speak to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {address}, which is not a public address")]
pub struct Refusal {
    /// The name, or the address as it was written.
    pub host: String,
    /// The address.
    pub address: IpAddr,
}

/// Whether an address belongs to a machine of the public Internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

const fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Carriers' own, the assignments of protocols, and benchmarks.
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    // Forms that carry an address of the older kind are as public as that.
    match parts {
        [0, 0, 0, 0, 0, 0xffff, high, low] => return is_public_v4(embedded(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => return is_public_v4(embedded(high, low)),
        [0x2002, high, low, ..] => return is_public_v4(embedded(high, low)),
        _ => {}
    }
    // Global unicast alone, without the ranges that are set apart in it.
    let is_global = parts[0] & 0xe000 == 0x2000;
    let is_documentation = (parts[0] == 0x2001 && parts[1] == 0xdb8) || parts[0] & 0xfff0 == 0x3ff0;
    let is_protocols = parts[0] == 0x2001 && parts[1] < 0x200;
    is_global && !is_documentation && !is_protocols
}

/// Resolves names once, and lets no private address through unless it may.
pub(super) struct Resolver {
    allow_private: bool,
    known: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver(private: {})", self.allow_private)
    }
}

impl Resolver {
    pub(super) fn new(allow_private: bool) -> Arc<Self> {
        Arc::new(Self { allow_private, known: Mutex::new(HashMap::new()) })
    }

    /// Whether an address that stands in a URL itself may be spoken to: those are never resolved.
    pub(super) fn check(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        if self.allow_private || is_public(address) { Ok(()) } else { Err(Refusal { host: host.to_owned(), address }) }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(known) = self.locked().get(host) {
            return Ok(known.clone());
        }
        let found = tokio::net::lookup_host((host, 0)).await?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        // One bad address spoils the name: whoever mixes them means to be let in by chance.
        for address in &addresses {
            self.check(host, *address)?;
        }
        let mut known = self.locked();
        if known.len() >= NAMES_MAX {
            return Err(format!("more than {NAMES_MAX} names were to be resolved").into());
        }
        // Whoever was first counts, so that two at the same time speak to the same machine.
        Ok(known.entry(host.to_owned()).or_insert(addresses).clone())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resolver as the HTTP client takes it.
pub(super) struct Shared(pub(super) Arc<Resolver>);

impl Resolve for Shared {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            let sockets: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(sockets)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_machines_are_not_public() {
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "2001:db8::1",
            "2001::1",
            "2001:10::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_machines_are() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_us_is_refused() {
        let refused = Resolver::new(false).addresses("localhost").await.unwrap_err();
        assert!(refused.downcast_ref::<Refusal>().is_some(), "{refused}");
        assert!(!Resolver::new(true).addresses("localhost").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_is_resolved_once() {
        let resolver = Resolver::new(false);
        let elsewhere: IpAddr = "9.9.9.9".parse().unwrap();
        resolver.locked().insert("localhost".to_owned(), vec![elsewhere]);
        assert_eq!(resolver.addresses("localhost").await.unwrap(), [elsewhere]);
    }
}
