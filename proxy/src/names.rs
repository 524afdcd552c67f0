//! Names to addresses, without the C library: a static binary has no `getaddrinfo` that works.
//!
//! `/etc/resolv.conf` with its search list and `ndots`, and `/etc/hosts`, are read anew for each question: who asks is
//! the way to the controller, which does so rarely, and after something has changed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_resolver::{Resolver, ResolverBuilder};
use socket2::SockRef;
use tokio::net::{TcpStream, UdpSocket};

use crate::dial::{DialOptions, Dialer};

/// The longest that one question may take, all servers and search domains together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses of a host, which may be an address itself; those of IPv4 and IPv6 in the order that they came.
///
/// # Errors
/// What went wrong, for people.
pub async fn resolve(dialer: Dialer, host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let resolver = Resolver::builder(Sockets::new(dialer)).and_then(ResolverBuilder::build);
    let resolver = resolver.map_err(|error| format!("/etc/resolv.conf cannot be used: {error}"))?;
    ask(&resolver, host).await
}

async fn ask(resolver: &Resolver<Sockets>, host: &str) -> Result<Vec<IpAddr>, String> {
    match tokio::time::timeout(TIMEOUT, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => Ok(found.iter().collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no name server of /etc/resolv.conf answered within {TIMEOUT:?}")),
    }
}

/// The resolver's sockets, made like every other one of the sidecar.
#[derive(Clone)]
struct Sockets {
    usual: TokioRuntimeProvider,
    dialer: Dialer,
}

impl Sockets {
    fn new(dialer: Dialer) -> Self {
        Self { usual: TokioRuntimeProvider::new(), dialer }
    }
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.usual.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let (dialer, usual) = (self.dialer, DialOptions::default());
        let connect_timeout = timeout.unwrap_or(usual.connect_timeout);
        Box::pin(async move {
            let options = DialOptions { connect_timeout, bind, ..usual };
            let stream = dialer.dial(server, &options).await.map_err(io::Error::other)?;
            Ok(AsyncIoTokioAsStd(stream))
        })
    }

    fn bind_udp(&self, local: SocketAddr, _server: SocketAddr) -> Opening<UdpSocket> {
        let mark = self.dialer.mark;
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            if let Some(mark) = mark {
                SockRef::from(&socket).set_mark(mark)?;
            }
            Ok(socket)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

    use super::*;

    /// Types of records, and codes of answers (RFC 1035, sections 3.2.2 and 4.1.1).
    const A: u16 = 1;
    const CNAME: u16 = 5;
    const SERVFAIL: u8 = 2;
    const NXDOMAIN: u8 = 3;

    /// An answer to a question: its code, and records of the name asked for.
    fn answer(question: &[u8], code: u8, records: &[(u16, u32, Vec<u8>)]) -> Vec<u8> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let count = u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut bytes = question[..2].to_vec();
        bytes.extend([0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
        bytes.extend(&question[12..end]);
        for (kind, ttl, data) in records {
            bytes.extend([0xc0, 12]);
            bytes.extend([kind.to_be_bytes(), 1_u16.to_be_bytes()].concat());
            bytes.extend(ttl.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    /// Whether addresses of IPv4 are asked for.
    fn asks_for_a(question: &[u8]) -> bool {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap();
        question[end + 1..end + 3] == A.to_be_bytes()
    }

    /// What comes of a question to a server that answers so, and how often the server was asked.
    async fn asked(
        reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> (Result<usize, String>, usize) {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = server.local_addr().unwrap().port();
        let count = Arc::new(AtomicUsize::new(0));
        let questions = Arc::clone(&count);
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((n, client)) = server.recv_from(&mut buffer).await {
                questions.fetch_add(1, SeqCst);
                if let Some(answer) = reply(&buffer[..n]) {
                    server.send_to(&answer, client).await.unwrap();
                }
            }
        });
        let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver =
            Resolver::builder_with_config(config, Sockets::new(Dialer::default())).build().unwrap();
        let found = ask(&resolver, "name.test.").await;
        serving.abort();
        (found.map(|addresses| addresses.len()), count.load(SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn g14_whatever_a_name_server_says_ends_in_time_and_without_haste() {
        type Reply = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send>;
        let code = |code| -> Reply { Box::new(move |question| Some(answer(question, code, &[]))) };
        let addresses = |count: u8, ttl| -> Reply {
            Box::new(move |question| {
                let records: Vec<_> = (0..count).map(|n| (A, ttl, vec![10, 0, 0, n])).collect();
                Some(answer(question, 0, if asks_for_a(question) { &records } else { &[] }))
            })
        };
        let circle: Reply = Box::new(|question| {
            let next = [&[1, question[13] ^ 1][..], b"\x04test\0"].concat();
            Some(answer(question, 0, &[(CNAME, 60, next)]))
        });
        let another: Reply = Box::new(|question| {
            let mut bytes = answer(question, 0, &[(A, 60, vec![10, 6, 6, 6])]);
            bytes[0] ^= 0xff;
            Some(bytes)
        });
        let cases: [(&str, Reply, Option<usize>); 9] = [
            ("no such name", code(NXDOMAIN), None),
            ("a server that fails", code(SERVFAIL), None),
            ("no address", code(0), None),
            ("silence", Box::new(|_| None), None),
            ("garbage", Box::new(|_| Some(vec![0xff; 7])), None),
            ("an answer to another question", another, None),
            ("names that go in circles", circle, None),
            ("an address for no time", addresses(1, 0), Some(1)),
            ("as many addresses as fit", addresses(30, 60), Some(30)),
        ];
        for (name, reply, wanted) in cases {
            let began = tokio::time::Instant::now();
            let (found, questions) = asked(reply).await;
            assert_eq!(found.clone().ok(), wanted, "{name}: {found:?}");
            assert!(began.elapsed() <= TIMEOUT, "{name}");
            assert!(questions <= 40, "{name}: asked {questions} times");
        }
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let addresses = |host| async move { resolve(Dialer::default(), host).await.unwrap() };
        assert_eq!(addresses("10.0.0.1").await, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(addresses("fd00::1").await, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_without_the_c_library() {
        let addresses = resolve(Dialer::default(), "localhost").await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
