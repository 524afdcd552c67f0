//! Handshakes, on both sides, within ten seconds.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_core::detect::alpn::{self, Inside};
use weft_core::identity::SpiffeId;
use weft_core::transport::MutualTls;

use super::context::{Tls, owned};
use super::fault::TlsFault;
use super::trust::identity_of;
use crate::io::{Io, Socket};

/// A handshake that takes longer is over (hardening D10).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who a client has proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub identity: SpiffeId,
    /// The name it asked for.
    pub sni: Option<Arc<str>>,
    /// What it wants to speak.
    pub alpn: Option<Inside>,
}

/// Shakes hands with a client of the mesh, which must prove who it is.
///
/// # Errors
/// [`TlsFault`]; the peer has been sent an alert where one is due.
pub async fn accept(tls: &Tls, socket: Socket) -> Result<(Io, Peer), TlsFault> {
    let config = tls.server()?;
    let session = in_time(TlsAcceptor::from(config).accept(socket)).await?;
    let connection = session.get_ref().1;
    let certificates = connection.peer_certificates();
    let peer = Peer {
        identity: peer_identity(certificates)?,
        sni: connection.server_name().map(Arc::from),
        alpn: connection.alpn_protocol().and_then(alpn::inside),
    };
    Ok((Io::tls_server(session), peer))
}

/// Shakes hands with a server of the mesh, which must be one of those expected.
///
/// # Errors
/// [`TlsFault`]; the peer has been sent an alert where one is due.
pub async fn connect(tls: &Tls, socket: Socket, wanted: &MutualTls, inside: Inside) -> Result<Io, TlsFault> {
    let config = tls.client(wanted)?;
    let name = server_name(&wanted.sni);
    let session =
        in_time(TlsConnector::from(config).with_alpn(owned(alpn::offer(inside))).connect(name, socket))
            .await?;
    Ok(Io::tls_client(session))
}

/// A name that cannot stand in a ClientHello is not sent; who must answer is told by identities alone.
fn server_name(sni: &str) -> ServerName<'static> {
    let unnamed = || ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into());
    ServerName::try_from(sni.to_owned()).unwrap_or_else(|_| unnamed())
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, TlsFault> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(result) => result.map_err(|error| TlsFault::of_io(&error)),
        Err(_) => Err(TlsFault::Timeout),
    }
}

fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, TlsFault> {
    let leaf = certificates.and_then(<[_]>::first).ok_or(TlsFault::NoPeerCertificate)?;
    identity_of(leaf).map_err(|_| TlsFault::NoIdentity)
}
