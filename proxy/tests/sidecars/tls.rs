//! Handshakes between sidecars, and those that must not succeed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use weft_core::transport::MutualTls;
use weft_proxy::clock::Clock;
use weft_proxy::identity::{CertificateFacts, Credentials, Issued};
use weft_proxy::io::{Io, Socket};
use weft_proxy::tls::{self, Alpn, Peer, Tls, TlsFault};

use crate::support::{Ca, Identity, self_signed};

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

/// One end of the mesh: believes these authorities, shows this identity.
fn end(identity: Identity, trust: &[&Ca]) -> (Tls, Credentials) {
    let credentials = Credentials::new();
    show(&credentials, identity);
    let tls = Tls::new(credentials.clone(), Clock::system());
    believe(&tls, trust);
    (tls, credentials)
}

fn believe(tls: &Tls, trust: &[&Ca]) {
    tls.set_trust(&trust.iter().map(|ca| ca.bundle()).collect::<Vec<_>>()).unwrap();
}

fn show(credentials: &Credentials, identity: Identity) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(identity.chain, identity.key, &provider).unwrap();
    let hour = Duration::from_secs(3600);
    let facts = CertificateFacts {
        identity: weft_core::identity::SpiffeId::parse(&identity.uri).unwrap(),
        serial: String::new(),
        not_before: SystemTime::now() - hour,
        not_after: SystemTime::now() + hour,
    };
    credentials.replace(Issued { certified: Arc::new(certified), facts });
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

fn wanted(expected: &str) -> MutualTls {
    MutualTls {
        expected: [expected.into()].into(),
        sni: "outbound_.80_._.db.default.svc.cluster.local".into(),
    }
}

/// What both ends say of a handshake.
async fn shake(
    client: &Tls,
    server: &Tls,
    expected: &str,
) -> (Result<Io, TlsFault>, Result<(Io, Peer), TlsFault>) {
    let (near, far) = sockets().await;
    let wanted = wanted(expected);
    tokio::join!(
        tls::connect(client, Socket::for_tls(near), &wanted, Alpn::Opaque),
        tls::accept(server, Socket::for_tls(far)),
    )
}

/// What a server says of a client that shows this, or nothing.
async fn judged(server: &Tls, client: Option<Identity>) -> Result<Peer, TlsFault> {
    let (near, far) = sockets().await;
    let talk = async {
        let mut stream = raw_client(client).connect(name(), near).await.ok()?;
        // In TLS 1.3 a client learns of its refusal when it reads.
        stream.read(&mut [0]).await.ok()
    };
    let accept = async { tls::accept(server, Socket::for_tls(far)).await.map(|(_, peer)| peer) };
    tokio::join!(talk, accept).1
}

fn name() -> ServerName<'static> {
    ServerName::try_from("db.example.com").unwrap()
}

/// A client that believes everybody.
fn raw_client(identity: Option<Identity>) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"istio".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn two_sidecars_know_each_other() {
    let ca = Ca::new("cluster.local");
    let db = ca.issue("db");
    let expected = db.uri.clone();
    let (server, _) = end(db, &[&ca]);
    let (client, _) = end(ca.issue("web"), &[&ca]);
    let (near, far) = shake(&client, &server, &expected).await;
    let (_, peer) = far.unwrap();
    assert_eq!(peer.identity.as_str(), WEB);
    assert_eq!(peer.sni.as_deref(), Some("outbound_.80_._.db.default.svc.cluster.local"));
    assert_eq!(peer.alpn, Some(Alpn::Opaque));
    assert_eq!(near.unwrap().alpn(), Some(&b"istio"[..]));
}

#[tokio::test]
async fn d2_a_client_without_certificate_is_refused() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    assert_eq!(judged(&server, None).await, Err(TlsFault::NoPeerCertificate));
}

#[tokio::test]
async fn d3_certificates_that_are_not_good_are_refused() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let day = time::Duration::days(1);
    let now = OffsetDateTime::now_utc();
    let with = |change: fn(&mut rcgen::CertificateParams)| ca.issue_with(&[WEB], change);
    let expired = ca.issue_with(&[WEB], |params| params.not_after = now - day);
    let early = ca.issue_with(&[WEB], |params| params.not_before = now + day);
    let server_only = with(|params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let authority = with(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let mut forged = ca.issue("web");
    let mut bytes = forged.chain[0].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    forged.chain = vec![bytes.into()];
    for (what, client, fault) in [
        ("expired", expired, TlsFault::Expired),
        ("not yet valid", early, TlsFault::NotYetValid),
        ("another authority", Ca::new("cluster.local").issue("web"), TlsFault::UnknownIssuer),
        ("self-signed", self_signed(WEB), TlsFault::UnknownIssuer),
        ("for servers only", server_only, TlsFault::Purpose),
        ("an authority itself", authority, TlsFault::BadCertificate),
        ("changed", forged, TlsFault::BadSignature),
    ] {
        assert_eq!(judged(&server, Some(client)).await, Err(fault), "{what}");
    }
}

#[tokio::test]
async fn d4_a_root_speaks_for_its_own_trust_domain_only() {
    let (home, partner) = (Ca::new("cluster.local"), Ca::new("partner.example"));
    let (server, _) = end(home.issue("db"), &[&home, &partner]);
    assert!(judged(&server, Some(partner.issue("web"))).await.is_ok());
    let forged = judged(&server, Some(partner.issue_with(&[WEB], |_| ()))).await;
    assert_eq!(forged, Err(TlsFault::UnknownIssuer));
    let stranger = home.issue_with(&["spiffe://elsewhere/ns/default/sa/web"], |_| ());
    assert_eq!(judged(&server, Some(stranger)).await, Err(TlsFault::TrustDomain));
}

#[tokio::test]
async fn d5_exactly_one_spiffe_identity() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let dns = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("web.example.com".try_into().unwrap())];
    };
    let clients = [
        ca.issue_with(&[], |_| ()),
        ca.issue_with(&[], dns),
        ca.issue_with(&[WEB, "spiffe://cluster.local/ns/default/sa/admin"], |_| ()),
        ca.issue_with(&["spiffe://cluster.local//ns/default"], |_| ()),
        ca.issue_with(&["spiffe://cluster.local/ns/default/sa/web?x=1"], |_| ()),
        ca.issue_with(&["spiffe://me@cluster.local/ns/default/sa/web"], |_| ()),
        ca.issue_with(&["SPIFFE://cluster.local/ns/default/sa/web"], |_| ()),
        ca.issue_with(&["https://cluster.local/ns/default/sa/web"], |_| ()),
    ];
    for client in clients {
        let uri = client.uri.clone();
        assert_eq!(judged(&server, Some(client)).await, Err(TlsFault::NoIdentity), "{uri}");
    }
}

#[tokio::test]
async fn d6_a_server_that_is_not_the_expected_one_is_left() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let (client, _) = end(ca.issue("web"), &[&ca]);
    let (near, far) = shake(&client, &server, "spiffe://cluster.local/ns/default/sa/other").await;
    assert_eq!(near.unwrap_err(), TlsFault::PeerIdentity);
    assert_eq!(far.unwrap_err(), TlsFault::Refused);
}

#[tokio::test]
async fn d7_older_versions_are_refused() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let sslv2 = [0x80, 0x1f, 1, 0, 2, 0, 6, 0, 0, 0, 16, 1, 0, 0x80, 5, 0, 0x80];
    for (hello, fault) in
        [(hello(3), TlsFault::Version), (hello(1), TlsFault::Version), (sslv2.to_vec(), TlsFault::Malformed)]
    {
        let (mut near, far) = sockets().await;
        near.write_all(&hello).await.unwrap();
        near.shutdown().await.unwrap();
        let refused = tls::accept(&server, Socket::for_tls(far)).await.unwrap_err();
        assert_eq!(refused, fault, "{hello:?}");
    }
}

/// A ClientHello of TLS 1.x that offers nothing newer.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let extensions = [0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3];
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[tokio::test]
async fn d9_a_hello_in_records_of_one_byte_is_understood() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let (near, far) = sockets().await;
    let client = raw_client(Some(ca.issue("web")));
    let split = Splitter { tcp: near, is_first: true };
    let (near, far) = tokio::join!(client.connect(name(), split), tls::accept(&server, Socket::for_tls(far)));
    near.unwrap();
    assert_eq!(far.unwrap().1.identity.as_str(), WEB);
}

/// Sends its first write, a ClientHello, one byte a record.
struct Splitter {
    tcp: TcpStream,
    is_first: bool,
}

impl AsyncRead for Splitter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Splitter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !std::mem::take(&mut self.is_first) {
            return Pin::new(&mut self.tcp).poll_write(cx, buf);
        }
        let records: Vec<u8> = buf[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
        assert_eq!(self.tcp.try_write(&records).unwrap(), records.len());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn d9_a_hello_without_end_is_refused_in_time() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let (mut near, far) = sockets().await;
    let endless = async {
        near.write_all(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]).await.ok();
        std::future::pending::<()>().await;
    };
    let began = Instant::now();
    tokio::select! {
        () = endless => {}
        refused = tls::accept(&server, Socket::for_tls(far)) => {
            assert!(matches!(refused, Err(TlsFault::Malformed | TlsFault::Timeout)));
        }
    }
    assert!(began.elapsed() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn d10_a_handshake_that_stalls_ends_after_ten_seconds() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let (client, _) = end(ca.issue("web"), &[&ca]);
    let (near, far) = sockets().await;
    let began = Instant::now();
    assert_eq!(tls::accept(&server, Socket::for_tls(far)).await.unwrap_err(), TlsFault::Timeout);
    assert_eq!(began.elapsed().as_secs(), 10);
    drop(near);
    let (near, _far) = sockets().await;
    let stalled = tls::connect(&client, Socket::for_tls(near), &wanted(WEB), Alpn::Http2).await;
    assert_eq!(stalled.unwrap_err(), TlsFault::Timeout);
    assert_eq!(began.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn d11_a_new_certificate_is_shown_and_cuts_nothing() {
    let ca = Ca::new("cluster.local");
    let (db, renewed) = (ca.issue("db"), ca.issue("db"));
    let (uri, leaf) = (db.uri.clone(), renewed.chain[0].clone());
    let (server, credentials) = end(db, &[&ca]);
    let (client, _) = end(ca.issue("web"), &[&ca]);
    let (near, far) = shake(&client, &server, &uri).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
    show(&credentials, renewed);
    let (next, _far) = shake(&client, &server, &uri).await;
    assert_eq!(next.unwrap().peer_certificate(), Some(&leaf[..]));
    near.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
}

#[tokio::test]
async fn d12_a_root_is_rotated_without_a_gap() {
    let (old, new) = (Ca::new("cluster.local"), Ca::new("cluster.local"));
    let uri = old.issue("db").uri;
    let (server, shown) = end(old.issue("db"), &[&old]);
    let (client, client_shown) = end(old.issue("web"), &[&old]);
    let both = || {
        let mut bundle = old.bundle();
        bundle.roots.extend(new.bundle().roots);
        [bundle]
    };
    let steps: [&dyn Fn(); 6] = [
        &|| server.set_trust(&both()).unwrap(),
        &|| client.set_trust(&both()).unwrap(),
        &|| show(&shown, new.issue("db")),
        &|| show(&client_shown, new.issue("web")),
        &|| believe(&server, &[&new]),
        &|| believe(&client, &[&new]),
    ];
    for (number, step) in steps.iter().enumerate() {
        step();
        let (near, far) = shake(&client, &server, &uri).await;
        assert!(near.is_ok() && far.is_ok(), "step {number}");
    }
    let outdated = judged(&server, Some(old.issue("web"))).await;
    assert!(outdated.is_err());
}

#[tokio::test]
async fn d13_a_certificate_that_has_ended_is_not_shown() {
    let ca = Ca::new("cluster.local");
    let credentials = Credentials::new();
    show(&credentials, ca.issue("db"));
    let (clock, hands) = Clock::manual(SystemTime::now());
    let server = Tls::new(credentials, clock);
    believe(&server, &[&ca]);
    assert!(judged(&server, Some(ca.issue("web"))).await.is_ok());
    hands.advance(Duration::from_secs(7200));
    assert_eq!(judged(&server, Some(ca.issue("web"))).await, Err(TlsFault::NoCredentials));
}

#[tokio::test]
async fn d8_d16_no_session_is_resumed_and_the_key_exchange_is_post_quantum() {
    let ca = Ca::new("cluster.local");
    let (server, _) = end(ca.issue("db"), &[&ca]);
    let client = raw_client(Some(ca.issue("web")));
    for _ in 0..2 {
        let (near, far) = sockets().await;
        let serve = async {
            let (mut io, _) = tls::accept(&server, Socket::for_tls(far)).await.unwrap();
            io.write_all(b"x").await.unwrap();
            io
        };
        let (stream, _far) = tokio::join!(client.connect(name(), near), serve);
        let mut stream = stream.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let group = session.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
    }
}
