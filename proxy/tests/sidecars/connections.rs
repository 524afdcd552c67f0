//! Opaque connections through two sidecars.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Ca, Sidecar, application, local, service, service_at, with_policies, with_port, workload,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_core::matching::Wildcard;
use weft_core::model::name::ObjectName;
use weft_core::model::policy::{Action, AuthorizationPolicy, Rule, Source, ValueMatch};
use weft_core::model::protocol::Protocol;
use weft_core::model::workload::MtlsMode;
use weft_core::overload::Memory;
use weft_core::snapshot::Resource;
use weft_proxy::orig_dst::Origin;
use weft_proxy::outbound::Entry;
use weft_proxy::{inbound, outbound};

/// Sends back what it is sent, then closes.
async fn echo(mut tcp: TcpStream) {
    let (mut read, mut write) = tcp.split();
    tokio::io::copy(&mut read, &mut write).await.ok();
    write.shutdown().await.ok();
}

/// Speaks first, then echoes.
async fn greet(mut tcp: TcpStream) {
    if tcp.write_all(b"220 ready\r\n").await.is_ok() {
        echo(tcp).await;
    }
}

/// Answers one request, however it is put.
async fn answer_http(mut tcp: TcpStream) {
    let mut head = [0; 4096];
    if tcp.read(&mut head).await.is_ok_and(|n| n > 0) {
        tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.ok();
    }
}

/// A client, its sidecar, a server's sidecar, and the server.
struct Pair {
    client: Sidecar,
    server: Sidecar,
    entry: std::net::SocketAddr,
    reached: std::rc::Rc<std::cell::Cell<usize>>,
}

struct Setup {
    protocol: Protocol,
    mode: MtlsMode,
    mutual: bool,
    policies: Vec<AuthorizationPolicy>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { protocol: Protocol::Tcp, mode: MtlsMode::Permissive, mutual: true, policies: Vec::new() }
    }
}

async fn pair<F: Future<Output = ()> + 'static>(
    setup: Setup,
    talk: impl Fn(TcpStream) -> F + 'static,
) -> Pair {
    let ca = Ca::new("cluster.local");
    let (db, web) = (ca.issue("db"), ca.issue("web"));
    let (at, reached) = application(talk).await;
    let inside = with_port(workload(&db, &[&ca], setup.mode), at.port(), setup.protocol);
    let identity = setup.mutual.then(|| db.uri.clone());
    let server = Sidecar::new(db, with_policies(inside, setup.policies), vec![]);
    let endpoint = server.incoming(at).await;
    let told = service(setup.protocol, endpoint, identity.as_deref());
    let outside = workload(&web, &[&ca], MtlsMode::Permissive);
    let client = Sidecar::new(web, outside, told);
    let entry = client.outgoing().await;
    Pair { client, server, entry, reached }
}

/// Sends, ends, and reads all that comes back.
async fn ask(entry: std::net::SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(entry).await.unwrap();
    tcp.write_all(question).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.ok();
    answer
}

fn deny(principal: &str) -> AuthorizationPolicy {
    let principals = ValueMatch { values: vec![Wildcard::parse(principal)], not_values: vec![] };
    let from = vec![Source { principals, ..Source::default() }];
    AuthorizationPolicy {
        name: ObjectName { namespace: "default".into(), name: "no-web".into() },
        action: Action::Deny,
        dry_run: false,
        rules: vec![Rule { from, ..Rule::default() }],
    }
}

const WEB: &str = "cluster.local/ns/default/sa/web";

#[tokio::test]
async fn bytes_pass_two_sidecars_in_clear() {
    local(async {
        let pair = pair(Setup { mutual: false, ..Setup::default() }, echo).await;
        assert_eq!(ask(pair.entry, b"hello").await, b"hello");
        let seen = pair.server.metrics().await;
        assert!(seen.contains("connection_security_policy=\"none\""), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn bytes_pass_two_sidecars_in_mtls_and_are_counted_on_both() {
    local(async {
        let pair = pair(Setup { mode: MtlsMode::Strict, ..Setup::default() }, echo).await;
        let question = vec![7; 300_000];
        assert!(ask(pair.entry, &question).await == question);
        let server = pair.server.metrics().await;
        let closed = "istio_tcp_connections_closed_total{reporter=\"destination\"";
        assert!(
            server.contains(closed) && server.contains("connection_security_policy=\"mutual_tls\""),
            "{server}"
        );
        assert!(server.contains("source_principal=\"spiffe://cluster.local/ns/default/sa/web\""), "{server}");
        let client = pair.client.metrics().await;
        let sent = client.lines().find(|line| line.starts_with("istio_tcp_received_bytes_total")).unwrap();
        assert!(sent.ends_with(" 300000"), "{sent}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g19_a_server_that_speaks_first_is_heard_through_two_sidecars() {
    local(async {
        for (protocol, millis) in [(Protocol::Auto, 200), (Protocol::Tcp, 0)] {
            let pair = pair(Setup { protocol, ..Setup::default() }, greet).await;
            let began = Instant::now();
            let mut tcp = TcpStream::connect(pair.entry).await.unwrap();
            let mut greeting = [0; 11];
            tcp.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"220 ready\r\n");
            let took = began.elapsed().as_millis();
            assert!((millis..millis + 100).contains(&took), "{protocol:?}: {took} ms");
            tcp.write_all(b"EHLO a\r\n").await.unwrap();
            tcp.read_exact(&mut greeting[..8]).await.unwrap();
            assert_eq!(&greeting[..8], b"EHLO a\r\n");
        }
    })
    .await;
}

#[tokio::test]
async fn d1_plaintext_to_a_strict_port_reaches_nobody() {
    local(async {
        for protocol in [Protocol::Tcp, Protocol::Auto, Protocol::Http] {
            let setup = Setup { protocol, mode: MtlsMode::Strict, mutual: false, ..Setup::default() };
            let pair = pair(setup, greet).await;
            let direct = pair.server.incoming(pair.target()).await;
            assert_eq!(ask(direct, b"GET / HTTP/1.1\r\n\r\n").await, b"");
            assert_eq!(pair.reached.get(), 0);
            let seen = pair.server.metrics().await;
            assert!(
                seen.contains("weft_rejected_total{policy=\"\",reason=\"plaintext_denied\"} 1"),
                "{seen}"
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn d1_a_silent_plaintext_client_of_a_strict_port_reaches_nobody() {
    local(async {
        let setup = Setup { mode: MtlsMode::Strict, mutual: false, ..Setup::default() };
        let pair = pair(setup, greet).await;
        let direct = pair.server.incoming(pair.target()).await;
        let began = Instant::now();
        let mut tcp = TcpStream::connect(direct).await.unwrap();
        assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(pair.reached.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn g17_a_connection_to_the_sidecar_itself_is_cut() {
    local(async {
        let pair = pair(Setup::default(), echo).await;
        let itself = |port: u16| ([127, 0, 0, 1], port).into();
        let out = pair.server.outgoing_to(itself(15001)).await;
        assert_eq!(ask(out, b"hello").await, b"");
        let into = pair.server.incoming(itself(15006)).await;
        assert_eq!(ask(into, b"hello").await, b"");
        let seen = pair.server.metrics().await;
        assert!(seen.contains("weft_rejected_total{policy=\"\",reason=\"loop\"} 2"), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn g18_a_connection_that_was_not_redirected_is_cut() {
    local(async {
        let pair = pair(Setup::default(), echo).await;
        let (at, known) = pair.client.redirected().await;
        if known {
            eprintln!("skipped: the kernel remembers the destination of every connection here");
            return;
        }
        assert_eq!(ask(at, b"hello").await, b"");
        let seen = pair.client.metrics().await;
        let counted = "weft_rejected_total{policy=\"\",reason=\"no_original_destination\"} 1";
        assert!(seen.contains(counted), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn e6_a_denied_connection_is_reset_and_names_its_policy() {
    local(async {
        let setup = Setup { policies: vec![deny(WEB)], mode: MtlsMode::Strict, ..Setup::default() };
        let pair = pair(setup, greet).await;
        assert_eq!(ask(pair.entry, b"hello").await, b"");
        assert_eq!(pair.reached.get(), 0);
        let seen = pair.server.metrics().await;
        let counted = "weft_rejected_total{policy=\"default/no-web\",reason=\"policy_denied\"} 1";
        assert!(seen.contains(counted), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn d17_e2_a_policy_that_is_tightened_cuts_what_it_forbids_and_nothing_else() {
    local(async {
        let mut pair = pair(Setup::default(), echo).await;
        let mut tcp = TcpStream::connect(pair.entry).await.unwrap();
        tcp.write_all(b"a").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'a');
        let told = |workload| [Resource::Workload(Arc::new(workload))];
        let before = pair.server.mesh.snapshot().workload().unwrap().as_ref().clone();
        pair.server.tell(told(with_policies(before.clone(), vec![deny("cluster.local/ns/other/sa/x")])));
        tcp.write_all(b"b").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'b');
        pair.server.tell(told(with_policies(before, vec![deny(WEB)])));
        let cut = tokio::time::timeout(Duration::from_secs(1), tcp.read(&mut [0])).await.unwrap();
        assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    })
    .await;
}

#[tokio::test]
async fn d3_a_server_that_shakes_no_hands_is_given_up() {
    local(async {
        let mut pair = pair(Setup::default(), echo).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let _ = tcp.write_all(b"220 no TLS here\r\n").await;
            }
        });
        let told = service(Protocol::Tcp, at, Some("spiffe://cluster.local/ns/default/sa/web"));
        pair.client.tell(told);
        assert_eq!(ask(pair.entry, b"hello").await, b"");
        let seen = pair.client.metrics().await;
        assert!(seen.contains("reason=\"tls_handshake\""), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn g9_an_opaque_connection_passes_over_endpoints_that_cannot_be_reached() {
    local(async {
        let mut pair = pair(Setup { mode: MtlsMode::Strict, ..Setup::default() }, echo).await;
        let good = pair.server.incoming(pair.target()).await;
        let refuses = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let (no_tls, asked) = application(|mut tcp| async move {
            tcp.write_all(b"220 no TLS here\r\n").await.ok();
        })
        .await;
        let db = Some("spiffe://cluster.local/ns/default/sa/db");
        pair.client.tell(service_at(Protocol::Tcp, &[refuses, no_tls, good], db));
        for _ in 0..12 {
            assert_eq!(ask(pair.entry, b"hello").await, b"hello");
        }
        assert_eq!(pair.reached.get(), 12);
        assert!(asked.get() > 0, "one that could not be used was asked");
        assert!(!pair.client.metrics().await.contains("weft_rejected_total{"), "nothing was refused");
    })
    .await;
}

#[tokio::test]
async fn d6_a_server_of_another_account_is_not_reached_in_mtls_nor_in_clear() {
    local(async {
        let pair = pair(Setup { mode: MtlsMode::Strict, ..Setup::default() }, echo).await;
        let endpoint = pair.server.incoming(pair.target()).await;
        let mut client = pair.client;
        client.tell(service(Protocol::Tcp, endpoint, Some("spiffe://cluster.local/ns/default/sa/other")));
        assert_eq!(ask(pair.entry, b"hello").await, b"");
        assert_eq!(pair.reached.get(), 0);
        let seen = client.metrics().await;
        assert!(seen.contains("weft_rejected_total{policy=\"\",reason=\"peer_identity\"} 1"), "{seen}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g19_a_client_that_speaks_late_is_still_http() {
    local(async {
        let setup = Setup { protocol: Protocol::Auto, mutual: false, ..Setup::default() };
        let pair = pair(setup, answer_http).await;
        let mut tcp = TcpStream::connect(pair.entry).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        tcp.write_all(b"GET / HTTP/1.1\r\nhost: db\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let seen = pair.client.metrics().await;
        assert!(seen.contains("istio_requests_total{reporter=\"source\""), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn g6_when_time_is_up_what_is_left_is_cut_and_recorded() {
    local(async {
        let pair = pair(Setup::default(), echo).await;
        let mut tcp = TcpStream::connect(pair.entry).await.unwrap();
        tcp.write_all(b"a").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'a');
        pair.client.shutdown.begin();
        tcp.write_all(b"b").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'b');
        assert_eq!(pair.client.shutdown.open_connections(), 1);
        pair.client.shutdown.end();
        assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0);
        let seen = pair.client.metrics().await;
        assert!(seen.contains("reason=\"draining\"} 1"), "{seen}");
        let shaken = pair.server.metrics().await;
        assert!(shaken.contains("weft_tls_handshakes_total{result=\"ok\"} 1"), "{shaken}");
        assert_eq!(pair.client.shutdown.open_connections(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_application_that_is_not_there_is_told_by_a_reset_and_a_reason() {
    local(async {
        let pair = pair(Setup::default(), echo).await;
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let direct = pair.server.incoming(nobody).await;
        assert_eq!(ask(direct, b"\0").await, b"");
        let seen = pair.server.metrics().await;
        assert!(seen.contains("reason=\"application_unreachable\""), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn g3_where_memory_is_nearly_used_up_connections_are_refused() {
    local(async {
        let pair = pair(Setup::default(), echo).await;
        let overload = pair.server.ctx.local.overload.all().clone();
        let used = |used| overload.look(Some(Memory { used, limit: 100 }));
        assert_eq!(ask(pair.entry, b"hello").await, b"hello");
        let reached = pair.reached.get();
        for hundredths in [95, 98] {
            used(hundredths);
            assert_eq!(ask(pair.entry, b"hello").await, b"", "{hundredths} %");
            assert_eq!(pair.reached.get(), reached, "{hundredths} %");
        }
        used(50);
        assert_eq!(ask(pair.entry, b"hello").await, b"hello");
        let refused = r#"weft_rejected_total{policy="",reason="overloaded"} "#;
        assert!(pair.server.metrics().await.contains(refused));
        // Its own application is not let out either.
        pair.client.ctx.local.overload.all().look(Some(Memory { used: 95, limit: 100 }));
        assert_eq!(ask(pair.entry, b"hello").await, b"");
        assert!(pair.client.metrics().await.contains(&format!("{refused}1")));
    })
    .await;
}

#[tokio::test]
async fn d10_a_client_that_finishes_no_handshake_takes_no_more_than_its_share() {
    local(async {
        let pair = pair(Setup { mode: MtlsMode::Strict, ..Setup::default() }, echo).await;
        let direct = pair.server.incoming(pair.target()).await;
        let mut silent = Vec::new();
        for _ in 0..256 {
            silent.push(TcpStream::connect(direct).await.unwrap());
        }
        let mut refused = TcpStream::connect(direct).await.unwrap();
        assert!(matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)));
        for waiting in &silent {
            assert!(waiting.try_read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
        }
        drop((silent, refused));
        let seen = pair.server.metrics().await;
        assert!(seen.contains("reason=\"overloaded\""), "{seen}");
        assert_eq!(ask(pair.entry, b"hello").await, b"hello");
    })
    .await;
}

impl Pair {
    /// Where the server is.
    fn target(&self) -> std::net::SocketAddr {
        let snapshot = self.server.mesh.snapshot();
        let port = snapshot.workload().unwrap().inbound.ports[0].number;
        ([127, 0, 0, 1], port).into()
    }
}

#[tokio::test]
async fn a_connection_costs_little_while_it_waits() {
    local(async {
        let pair = pair(Setup::default(), echo).await;
        let tcp = || async { TcpStream::connect(pair.entry).await.unwrap() };
        let client = ([127, 0, 0, 1], 1).into();
        let origin = Origin::Fixed(pair.target());
        let outgoing = outbound::serve(pair.client.ctx.clone(), Entry::Captured(origin), tcp().await, client);
        let incoming = inbound::serve(pair.server.ctx.clone(), origin, tcp().await, client);
        let sizes = (size_of_val(&outgoing), size_of_val(&incoming));
        assert!(sizes.0 <= 2560 && sizes.1 <= 4096, "{sizes:?}");
    })
    .await;
}
