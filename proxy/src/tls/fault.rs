//! Why a handshake failed: a closed list for metrics and logs.

use std::io;

use rustls::{CertificateError, Error, OtherError, PeerMisbehaved};
use weft_core::identity::SpiffeId;
use weft_core::reason::Reason;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TlsFault {
    /// This sidecar has no certificate, or trusts nobody, yet.
    #[error("this sidecar has no certificate yet")]
    NoCredentials,
    /// The peer sent no certificate.
    #[error("the peer sent no certificate")]
    NoPeerCertificate,
    /// The peer's certificate has ended.
    #[error("the peer's certificate has expired")]
    Expired,
    /// The peer's certificate has not begun.
    #[error("the peer's certificate is not valid yet")]
    NotYetValid,
    /// No believed root has signed the peer's certificate.
    #[error("the peer's certificate is signed by no root of its trust domain")]
    UnknownIssuer,
    /// The peer's certificate is not made for this.
    #[error("the peer's certificate is not made for this side of a connection")]
    Purpose,
    /// A signature is wrong.
    #[error("a signature of the peer is wrong")]
    BadSignature,
    /// The certificate cannot be read, or says what it must not.
    #[error("the peer's certificate is malformed")]
    BadCertificate,
    /// The certificate has no SPIFFE identity, or several, or a malformed one.
    #[error("the peer's certificate does not have exactly one SPIFFE identity")]
    NoIdentity,
    /// The identity's trust domain is not believed.
    #[error("the peer's trust domain is not trusted")]
    TrustDomain,
    /// The server is not who the destination must be.
    #[error("the server is not who the destination must be")]
    PeerIdentity,
    /// Older than TLS 1.3.
    #[error("the peer speaks no TLS 1.3")]
    Version,
    /// No protocol in common.
    #[error("no application protocol in common")]
    Protocol,
    /// The peer refused.
    #[error("the peer refused the handshake")]
    Refused,
    /// The peer broke the rules of TLS.
    #[error("the peer broke the rules of TLS")]
    Malformed,
    /// The handshake took too long.
    #[error("the handshake took too long")]
    Timeout,
    /// The connection ended within the handshake.
    #[error("the connection ended within the handshake")]
    Closed,
}

impl TlsFault {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::NoPeerCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Purpose => "purpose",
            Self::BadSignature => "bad_signature",
            Self::BadCertificate => "bad_certificate",
            Self::NoIdentity => "no_identity",
            Self::TrustDomain => "trust_domain",
            Self::PeerIdentity => "peer_identity",
            Self::Version => "version",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }

    /// The reason that clients and metrics see.
    pub fn reason(self) -> Reason {
        match self {
            Self::PeerIdentity => Reason::PeerIdentity,
            _ => Reason::TlsHandshake,
        }
    }

    /// What an error of a handshake's stream stands for.
    pub(super) fn of_io(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        inner.map_or(Self::Closed, Self::of_tls)
    }

    fn of_tls(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoPeerCertificate,
            Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Error::PeerIncompatible(_) => Self::Version,
            Error::NoApplicationProtocol => Self::Protocol,
            Error::AlertReceived(_) => Self::Refused,
            Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => {
                Self::BadSignature
            }
            _ => Self::Malformed,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            CertificateError::Other(OtherError(other)) => {
                other.downcast_ref::<IdentityFault>().map_or(Self::BadCertificate, |fault| fault.kind())
            }
            _ => Self::BadCertificate,
        }
    }
}

/// Why a certificate speaks for nobody, or for the wrong one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// No URI, or several.
    #[error("the certificate has {0} URIs, not one")]
    Uris(usize),
    /// The URI is no SPIFFE identity.
    #[error("the certificate's URI: {0}")]
    Malformed(#[from] weft_core::identity::IdentityError),
    /// Nobody speaks for the trust domain.
    #[error("trust domain `{0}` is not trusted")]
    Domain(String),
    /// The server is somebody else.
    #[error("the server is `{0}`")]
    Unexpected(SpiffeId),
}

impl IdentityFault {
    /// The same in the closed list.
    pub fn kind(&self) -> TlsFault {
        match self {
            Self::Uris(_) | Self::Malformed(_) => TlsFault::NoIdentity,
            Self::Domain(_) => TlsFault::TrustDomain,
            Self::Unexpected(_) => TlsFault::PeerIdentity,
        }
    }
}
