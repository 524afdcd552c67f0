//! Handshakes under way, by where they come from: one client cannot take the place of all (hardening D10).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// Handshakes that one address may have under way on one worker.
const FROM_ONE: u32 = 256;

/// The handshakes under way on one worker.
#[derive(Debug, Default)]
pub struct HalfOpen(RefCell<HashMap<IpAddr, u32>>);

/// The place of one of them.
#[derive(Debug)]
pub struct Place<'h> {
    all: &'h HalfOpen,
    from: IpAddr,
}

impl HalfOpen {
    /// Room for one more from there.
    pub fn enter(&self, from: IpAddr) -> Option<Place<'_>> {
        let from = from.to_canonical();
        let mut all = self.0.borrow_mut();
        let count = all.entry(from).or_default();
        if *count >= FROM_ONE {
            return None;
        }
        *count += 1;
        Some(Place { all: self, from })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.borrow_mut();
        if let Some(count) = all.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_one_address_has_so_many_handshakes_and_no_more() {
        let half_open = HalfOpen::default();
        let enter = |text: &str| half_open.enter(text.parse().unwrap());
        let mut held: Vec<_> = (0..FROM_ONE).map(|_| enter("10.0.0.1").unwrap()).collect();
        assert!(enter("10.0.0.1").is_none() && enter("::ffff:10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        held.pop();
        assert!(enter("10.0.0.1").is_some());
        held.clear();
        assert!(half_open.0.borrow().is_empty(), "nothing is kept of who has gone");
    }
}
