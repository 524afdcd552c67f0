//! Which resource answers for an address: its own, else an answer `Nothing` whose prefix covers it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::hash::Map;
use crate::model::address::{Address, Meaning};
use crate::model::name::AddressKey;

/// The answers for addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressTable {
    exact: Map<AddressKey, Arc<Address>>,
    /// By prefix, the keys of the answers that cover it.
    nothing: Map<IpNet, Vec<AddressKey>>,
    /// The prefix lengths in use, IPv4 and IPv6, with the number of prefixes that have them.
    lengths: [Vec<(u8, u32)>; 2],
}

impl AddressTable {
    /// The answer for an address.
    pub(super) fn find(&self, key: AddressKey) -> Option<&Arc<Address>> {
        let key = AddressKey::new(key.ip, key.port);
        self.exact.get(&key).or_else(|| self.covering(key.ip))
    }

    /// The answer that was given for exactly this address.
    pub(super) fn exact(&self, key: &AddressKey) -> Option<&Arc<Address>> {
        self.exact.get(key)
    }

    /// Every answer, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Address>> {
        self.exact.values()
    }

    /// Takes an answer; whether anything changed.
    pub(super) fn insert(&mut self, address: Arc<Address>) -> bool {
        if self.exact.get(&address.key).is_some_and(|held| *held == address) {
            return false;
        }
        self.remove(&address.key);
        if let Meaning::Nothing { prefix } = &address.meaning {
            self.cover(prefix.trunc(), address.key);
        }
        self.exact.insert(address.key, address);
        true
    }

    /// Drops an answer; whether there was one.
    pub(super) fn remove(&mut self, key: &AddressKey) -> bool {
        let Some(held) = self.exact.remove(key) else { return false };
        if let Meaning::Nothing { prefix } = &held.meaning {
            self.uncover(prefix.trunc(), key);
        }
        true
    }

    fn covering(&self, ip: IpAddr) -> Option<&Arc<Address>> {
        self.lengths[family(ip)].iter().find_map(|(length, _)| {
            let prefix = IpNet::new(ip, *length).ok()?.trunc();
            self.exact.get(self.nothing.get(&prefix)?.first()?)
        })
    }

    fn cover(&mut self, prefix: IpNet, key: AddressKey) {
        self.nothing.entry(prefix).or_default().push(key);
        let lengths = &mut self.lengths[family(prefix.addr())];
        match lengths.iter_mut().find(|(length, _)| *length == prefix.prefix_len()) {
            Some((_, count)) => *count += 1,
            None => lengths.push((prefix.prefix_len(), 1)),
        }
    }

    fn uncover(&mut self, prefix: IpNet, key: &AddressKey) {
        if let Some(keys) = self.nothing.get_mut(&prefix) {
            keys.retain(|k| k != key);
            if keys.is_empty() {
                self.nothing.remove(&prefix);
            }
        }
        let lengths = &mut self.lengths[family(prefix.addr())];
        lengths.iter_mut().filter(|(length, _)| *length == prefix.prefix_len()).for_each(|(_, n)| *n -= 1);
        lengths.retain(|(_, count)| *count > 0);
    }
}

fn family(ip: IpAddr) -> usize {
    usize::from(ip.is_ipv6())
}
