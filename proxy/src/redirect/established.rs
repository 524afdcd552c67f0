//! Connections that the sidecar has when redirection begins: the kernel follows connections only from then on, and the
//! next packet of an older one, where it comes from outside, would look like the first of a new one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fs, io};

/// Where Linux lists this network namespace's TCP sockets.
const LISTS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_LISTEN` of the kernel, in its list.
const LISTENING: &str = "0A";

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// The sidecar's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// Those of a user, but for what stays on the loopback interface.
///
/// # Errors
/// The list cannot be read.
pub fn of_user(uid: u32) -> io::Result<Vec<Established>> {
    let mut all = Vec::new();
    // A kernel without IPv6 has no such list.
    for list in LISTS.map(Path::new).into_iter().filter(|list| list.exists()) {
        let text = fs::read_to_string(list)?;
        all.extend(text.lines().skip(1).filter_map(|line| read(line, uid)));
    }
    Ok(all)
}

fn read(line: &str, uid: u32) -> Option<Established> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    let is_theirs = fields.nth(3)?.parse() == Ok(uid);
    let (local, remote) = (address(local)?, address(remote)?);
    let is_outside = !remote.ip().is_loopback() && !remote.ip().is_unspecified();
    (is_theirs && is_outside && state != LISTENING).then_some(Established { local, remote })
}

/// `0100007F:1F90`: the address in words of the machine's byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = ip.as_bytes().chunks(8).map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    const V4: &str = "   1: 0100090A:D2F0 0200090A:2328 01 00000000:00000000 00:00000000 00000000  1337        0 5 1 0 20 4 30 10 -1";

    #[test]
    fn connections_of_the_user_are_read() {
        let one = Established {
            local: "10.9.0.1:54000".parse().unwrap(),
            remote: "10.9.0.2:9000".parse().unwrap(),
        };
        assert_eq!(read(V4, 1337), Some(one));
        let mapped = V4
            .replace("0100090A:", "0000000000000000FFFF00000100090A:")
            .replace("0200090A:", "0000000000000000FFFF00000200090A:");
        assert_eq!(read(&mapped, 1337), Some(one), "IPv4 on a socket of IPv6");
        let v6 = V4
            .replace("0100090A:", "000009FD000000000000000001000000:")
            .replace("0200090A:", "000009FD000000000000000002000000:");
        let v6 = read(&v6, 1337).unwrap();
        assert_eq!(
            (v6.local, v6.remote),
            ("[fd09::1]:54000".parse().unwrap(), "[fd09::2]:9000".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_connection_of_the_sidecar_to_outside_is_left_out() {
        assert_eq!(read(V4, 0), None);
        assert_eq!(read(&V4.replace(" 01 ", " 0A "), 1337), None);
        assert_eq!(read(&V4.replace("0200090A", "0100007F"), 1337), None);
        assert_eq!(read(&V4.replace("0200090A", "00000000"), 1337), None);
        assert_eq!(read("  sl  local_address rem_address   st tx_queue", 1337), None);
        assert_eq!(read("", 1337), None);
    }
}
