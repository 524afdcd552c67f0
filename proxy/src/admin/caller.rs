//! Which user asks: the administration interface is on loopback, which the application shares.
//!
//! The kernel's table of TCP sockets (proc(5), `/proc/net/tcp`) names the user of each, the asking one among them.

use std::net::{IpAddr, SocketAddr};

/// Whether the process that connected `from` to `to` belongs to root or to the sidecar's own user.
pub(super) fn is_trusted(from: SocketAddr, to: SocketAddr) -> bool {
    let table = if from.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let table = std::fs::read_to_string(table).unwrap_or_default();
    let own = nix::unistd::geteuid().as_raw();
    user_of(&table, from, to).is_some_and(|user| user == 0 || user == own)
}

/// The user of the socket whose ends are these.
fn user_of(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (local, remote) = (end(local), end(remote));
    let mut rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace());
    rows.find_map(|mut fields| {
        let found = fields.nth(1)? == local && fields.next()? == remote;
        found.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

/// An end as the table writes it: words of the address in the machine's byte order, then the port.
fn end(address: SocketAddr) -> String {
    let words = match address.ip() {
        IpAddr::V4(ip) => word(&ip.octets()),
        IpAddr::V6(ip) => ip.octets().chunks_exact(4).map(word).collect(),
    };
    format!("{words}:{:04X}", address.port())
}

fn word(bytes: &[u8]) -> String {
    let mut word = [0; 4];
    word.copy_from_slice(bytes);
    format!("{:08X}", u32::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A98 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 1 1 0 100 0 0 10 0
   1: 0100007F:C350 0100007F:3A98 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 30 10 -1
   2: 0100007F:3A98 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1337        0 3 1 0 20 4 30 10 -1
";

    #[test]
    fn g23_the_user_of_the_asking_socket_is_found() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(user_of(TABLE, at(50000), at(15000)), Some(1000));
        assert_eq!(user_of(TABLE, at(15000), at(50000)), Some(1337));
        assert_eq!(user_of(TABLE, at(50001), at(15000)), None);
        assert_eq!(user_of("", at(1), at(2)), None);
    }

    #[test]
    fn ends_are_written_as_the_kernel_does() {
        assert_eq!(end("127.0.0.1:15000".parse().unwrap()), "0100007F:3A98");
        assert_eq!(end("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }

    #[test]
    fn our_own_socket_is_trusted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(to).unwrap();
        assert!(is_trusted(stream.local_addr().unwrap(), to));
        assert!(!is_trusted(SocketAddr::from(([127, 0, 0, 1], 1)), to));
    }
}
