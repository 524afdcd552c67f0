//! SPIFFE identities and trust domains (SPIFFE-ID specification, sections 2.1 to 2.3).

use std::fmt;
use std::sync::Arc;

/// The name of a trust domain: lower-case letters, digits, `.`, `-`, `_`; at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// The identity of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: Arc<str>,
    /// Where the trust domain ends in it.
    domain_end: u16,
    /// Where the service account begins in it; 0 where the path is of another form.
    account: u16,
}

/// The longest URI (SPIFFE-ID specification, section 2.3).
const LONGEST: usize = 2048;

/// Why a text is no SPIFFE identity or trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The scheme is not `spiffe://`.
    #[error("`{0}` does not begin with spiffe://")]
    Scheme(String),
    /// The trust domain has a byte that is not allowed, is empty or too long.
    #[error("`{0}` is no trust domain: 1 to 255 of a-z, 0-9, '.', '-', '_'")]
    Domain(String),
    /// The path has an empty, `.` or `..` segment, or a byte that is not allowed.
    #[error("`{0}` has no valid SPIFFE path")]
    Path(String),
    /// The whole is longer than 2048 bytes.
    #[error("longer than 2048 bytes")]
    Length,
}

impl TrustDomain {
    /// Checks and keeps a trust domain's name.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        let ok = (1..=255).contains(&name.len()) && name.bytes().all(is_domain_byte);
        if ok { Ok(Self(name.into())) } else { Err(IdentityError::Domain(name.to_owned())) }
    }

    /// The name as written in identities.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffeId {
    /// Parses a URI such as `spiffe://cluster.local/ns/default/sa/api`.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        if uri.len() > LONGEST {
            return Err(IdentityError::Length);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or_else(|| IdentityError::Scheme(uri.to_owned()))?;
        let slash = rest.find('/').unwrap_or(rest.len());
        TrustDomain::new(&rest[..slash])?;
        let path = &rest[slash..];
        if !path.is_empty() && !path[1..].split('/').all(is_path_segment) {
            return Err(IdentityError::Path(uri.to_owned()));
        }
        let domain_end = "spiffe://".len() + slash;
        // No place in a text of at most 2048 bytes is beyond 65535.
        let place = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let account = account_in(path).map_or(0, |at| place(domain_end + at));
        Ok(Self { uri: uri.into(), domain_end: place(domain_end), account })
    }

    /// The identity of a Kubernetes service account.
    pub fn of_service_account(
        domain: &TrustDomain,
        namespace: &str,
        account: &str,
    ) -> Result<Self, IdentityError> {
        Self::parse(&format!("spiffe://{}/ns/{namespace}/sa/{account}", domain.as_str()))
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The URI without its scheme, as policies write principals (`cluster.local/ns/default/sa/api`).
    pub fn principal(&self) -> &str {
        &self.uri["spiffe://".len()..]
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        &self.uri["spiffe://".len()..usize::from(self.domain_end)]
    }

    /// Namespace and service account, where the path is `/ns/<namespace>/sa/<account>`.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (domain_end, account) = (usize::from(self.domain_end), usize::from(self.account));
        let namespace = domain_end + "/ns/".len()..account.checked_sub("/sa/".len())?;
        Some((&self.uri[namespace], &self.uri[account..]))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// Where the service account begins in a path of the form `/ns/<namespace>/sa/<account>`.
fn account_in(path: &str) -> Option<usize> {
    let mut parts = path.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        ("ns", _, "sa", account, None) => Some(path.len() - account.len()),
        _ => None,
    }
}

fn is_domain_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_')
}

fn is_path_segment(segment: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_an_identity_apart() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/api-gateway").unwrap();
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.principal(), "cluster.local/ns/default/sa/api-gateway");
        assert_eq!(id.service_account(), Some(("default", "api-gateway")));
        for other in ["/vm/7", "/ns/a/sa", "/ns/a/sa/b/c", "/sa/a/ns/b", ""] {
            let id = SpiffeId::parse(&format!("spiffe://cluster.local{other}")).unwrap();
            assert_eq!(id.service_account(), None, "{other}");
        }
    }

    #[test]
    fn d5_malformed_identities_are_refused() {
        for bad in [
            "spiffe://td//ns/x",
            "spiffe://td/ns/../x",
            "spiffe://TD/ns/x",
            "spiffe://u@td/ns/x",
            "spiffe:///ns/x",
            "spiffe://td/ns/x?q=1",
            "spiffe://td/ns/x#f",
            "https://td/ns/x",
            "spiffe://td:8/ns/x",
            "spiffe://td/",
            "spiffe://td/ns/a b",
            "",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
    }
}
