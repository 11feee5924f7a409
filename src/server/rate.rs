//! How many requests one address may make in a minute.
//!
//! Owns the counts, in memory: a restart forgets them, which costs nobody anything. Refuses to know what is asked.
//! The outermost layer asks it about every request.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use axum::http::HeaderMap;

use super::limits;
use crate::clock::UnixMs;

/// What one request costs: a millisecond pays back as much as there are requests in a minute, so that whole numbers
/// suffice.
const COST: u64 = 60_000;
/// In which a server in front says for whom it asks.
const FORWARDED: &str = "x-forwarded-for";

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who asks: the peer. Where a server of this machine stands in front, it is whom that one names last; what stands
/// before was written by strangers.
pub(super) fn asker(peer: IpAddr, headers: &HeaderMap, is_fronted: bool) -> IpAddr {
    if !(is_fronted && peer.to_canonical().is_loopback()) {
        return peer;
    }
    let last = headers.get_all(FORWARDED).iter().next_back().and_then(|value| value.to_str().ok());
    last.and_then(|list| list.rsplit(',').next()?.trim().parse().ok()).unwrap_or(peer)
}

/// What an address has spent and not yet been paid back.
#[derive(Debug, Clone, Copy)]
struct Spent {
    cost: u64,
    at_ms: UnixMs,
}

/// The counts of all addresses.
pub(super) struct Rate {
    per_minute: u32,
    /// Locked for a few instructions at a time, never while anything waits.
    spent: Mutex<HashMap<IpAddr, Spent>>,
}

impl Rate {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, spent: Mutex::new(HashMap::new()) }
    }

    /// The requests that this address may make in a minute.
    pub(super) fn per_minute(&self, from: IpAddr) -> u32 {
        let factor = if from.to_canonical().is_loopback() { limits::LOOPBACK_FACTOR } else { 1 };
        self.per_minute.saturating_mul(factor)
    }

    /// Counts one request: as many as fit into a minute may come at once, and then they come back evenly.
    ///
    /// # Errors
    /// The whole seconds after which there is room for another one.
    pub(super) fn count(&self, from: IpAddr, now_ms: UnixMs) -> Result<(), u64> {
        let pays = u64::from(self.per_minute(from).max(1));
        let room = COST * (pays - 1);
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(from);
        let left = all.get(&key).map_or(0, |spent| spent.left(pays, now_ms));
        if left > room {
            return Err((left - room).div_ceil(pays).div_ceil(1000).max(1));
        }
        if all.len() >= limits::ADDRESSES {
            self.make_room(&mut all, now_ms);
        }
        all.insert(key, Spent { cost: left + COST, at_ms: now_ms });
        Ok(())
    }

    /// Forgets whoever has been paid back. When that is hardly anybody, everybody is forgotten: many addresses at
    /// once are one attacker, who must not lock the others out.
    fn make_room(&self, all: &mut HashMap<IpAddr, Spent>, now_ms: UnixMs) {
        all.retain(|from, spent| spent.left(u64::from(self.per_minute(*from).max(1)), now_ms) > 0);
        if all.len() > limits::ADDRESSES / 2 {
            all.clear();
        }
    }
}

impl Spent {
    fn left(self, pays: u64, now_ms: UnixMs) -> u64 {
        // A clock that was set back pays nothing.
        let passed_ms = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        self.cost.saturating_sub(passed_ms.saturating_mul(pays))
    }
}

/// Whoever has one address of IPv6 has the 2⁶⁴ of its network too.
fn key(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_minute_takes_so_many_requests_and_then_they_come_back_evenly() {
        let rate = Rate::new(60);
        let stranger = address("203.0.113.9");
        for _ in 0..60 {
            assert_eq!(rate.count(stranger, 5_000), Ok(()));
        }
        assert_eq!(rate.count(stranger, 5_000), Err(1));
        assert_eq!(rate.count(stranger, 5_999), Err(1));
        assert_eq!(rate.count(stranger, 6_000), Ok(()), "a second pays for one");
        assert_eq!(rate.count(stranger, 6_000), Err(1));
        assert_eq!(rate.count(stranger, 0), Err(1), "a clock that was set back pays nothing");
        assert_eq!(rate.count(address("203.0.113.10"), 6_000), Ok(()), "everybody has their own");
        let slow = Rate::new(1);
        assert_eq!(slow.count(stranger, 0), Ok(()));
        assert_eq!(slow.count(stranger, 1), Err(60));
        assert_eq!(slow.count(stranger, 60_000), Ok(()));
    }

    #[test]
    fn this_machine_may_ask_more_often_and_a_network_counts_as_one() {
        let rate = Rate::new(1);
        for _ in 0..limits::LOOPBACK_FACTOR {
            assert_eq!(rate.count(address("::ffff:127.0.0.1"), 0), Ok(()));
        }
        assert!(rate.count(address("127.0.0.1"), 0).is_err());
        assert_eq!(rate.count(address("2001:db8::1"), 0), Ok(()));
        assert!(rate.count(address("2001:db8::ffff:2"), 0).is_err());
        assert_eq!(rate.count(address("2001:db8:0:1::1"), 0), Ok(()));
    }

    #[test]
    fn many_addresses_take_bounded_room_and_lock_nobody_out() {
        let rate = Rate::new(1);
        let known = |rate: &Rate| rate.spent.lock().expect("not poisoned").len();
        let numbered = |number: u32| IpAddr::V4(number.into());
        let most = u32::try_from(limits::ADDRESSES).expect("small");
        for number in 1..=most {
            assert_eq!(rate.count(numbered(number), 0), Ok(()));
        }
        assert_eq!(known(&rate), limits::ADDRESSES);
        assert_eq!(rate.count(numbered(most + 1), 0), Ok(()));
        assert_eq!(known(&rate), 1, "all at once are one attacker");
        for number in 2..=most {
            assert_eq!(rate.count(numbered(number), i64::from(number)), Ok(()));
        }
        assert_eq!(rate.count(numbered(most + 2), 60_000 + i64::from(most) - 9), Ok(()));
        assert_eq!(known(&rate), 10, "who has been paid back is forgotten first");
    }

    #[test]
    fn whom_a_server_in_front_names_last_is_who_asks() {
        let mut headers = HeaderMap::new();
        let (here, stranger) = (address("127.0.0.1"), address("203.0.113.9"));
        assert_eq!(asker(here, &headers, true), here);
        headers.append(FORWARDED, "192.0.2.1".parse().expect("a header"));
        headers.append(FORWARDED, "192.0.2.2, 203.0.113.9".parse().expect("a header"));
        assert_eq!(asker(here, &headers, true), stranger);
        assert_eq!(asker(here, &headers, false), here, "nobody stands in front");
        let peer = address("198.51.100.4");
        assert_eq!(asker(peer, &headers, true), peer, "a stranger is not believed");
        headers.append(FORWARDED, "unknown".parse().expect("a header"));
        assert_eq!(asker(here, &headers, true), here);
    }
}
