//! How an endpoint is dialled: in clear or with the mesh's mTLS, and who must answer there.

use std::sync::Arc;

use crate::identity::SpiffeId;
use crate::model::address::AddressedWorkload;
use crate::model::cluster::{Cluster, UpstreamTls};
use crate::model::endpoint::Endpoint;
use crate::model::name::{AddressKey, ClusterName};
use crate::model::service::Location;
use crate::reason::Reason;

/// How an endpoint is dialled. Part of a pooled connection's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Without TLS of the mesh.
    Plain,
    /// With the mesh's certificate on both sides.
    Mutual(MutualTls),
}

/// What a TLS session of the mesh asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MutualTls {
    /// The SPIFFE URIs of which the server must have one; never empty.
    pub expected: Arc<[Arc<str>]>,
    /// The name in the ClientHello (`outbound_.80_.v1_.reviews.default.svc.cluster.local`).
    pub sni: Arc<str>,
}

/// How an endpoint of a cluster is dialled (DestinationRule `trafficPolicy.tls`; automatic mTLS where nothing is said).
///
/// # Errors
/// [`Reason::PeerIdentity`] where mTLS is due and nobody knows who must answer.
pub fn transport(cluster: &Cluster, location: Location, endpoint: &Endpoint) -> Result<Transport, Reason> {
    match &cluster.tls {
        UpstreamTls::Disable => Ok(Transport::Plain),
        UpstreamTls::Mutual { sans, sni } => {
            let expected = expected(endpoint.identity.as_ref(), sans)?;
            let sni = sni.clone().unwrap_or_else(|| mesh_sni(&cluster.name));
            Ok(Transport::Mutual(MutualTls { expected, sni }))
        }
        UpstreamTls::Auto if is_automatic(cluster, location, endpoint) => {
            let expected = expected(endpoint.identity.as_ref(), &[])?;
            Ok(Transport::Mutual(MutualTls { expected, sni: mesh_sni(&cluster.name) }))
        }
        UpstreamTls::Auto => Ok(Transport::Plain),
    }
}

/// How a pod that was addressed by itself is dialled.
///
/// # Errors
/// [`Reason::PeerIdentity`] where mTLS is due and the pod's account is not known.
pub fn transport_to_workload(key: AddressKey, workload: &AddressedWorkload) -> Result<Transport, Reason> {
    if !workload.meshed {
        return Ok(Transport::Plain);
    }
    let expected = expected(workload.identity.as_ref(), &[])?;
    let sni = format!("outbound_.{}_._.{}", key.port, key.ip).into();
    Ok(Transport::Mutual(MutualTls { expected, sni }))
}

/// The name that Istio's sidecars put into the ClientHello for a cluster.
pub fn mesh_sni(cluster: &ClusterName) -> Arc<str> {
    let subset = cluster.subset.as_deref().unwrap_or("");
    format!("outbound_.{}_.{subset}_.{}", cluster.port, cluster.service.host).into()
}

fn is_automatic(cluster: &Cluster, location: Location, endpoint: &Endpoint) -> bool {
    location == Location::Internal
        && endpoint.meshed
        && !endpoint.plaintext_ports.contains(&cluster.name.port)
}

/// The account of the endpoint's pod, which must be among the names that a user wrote; else those names.
fn expected(identity: Option<&SpiffeId>, sans: &[Arc<str>]) -> Result<Arc<[Arc<str>]>, Reason> {
    match identity {
        Some(id) if sans.is_empty() || sans.iter().any(|san| **san == *id.as_str()) => {
            Ok(Arc::new([id.as_str().into()]))
        }
        None if !sans.is_empty() => Ok(sans.into()),
        _ => Err(Reason::PeerIdentity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metadata::Locality;
    use crate::model::name::ServiceName;

    const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

    fn cluster(tls: UpstreamTls) -> Cluster {
        let service = ServiceName::new("default", "reviews.default.svc.cluster.local");
        let name = ClusterName { service, port: 80, subset: Some("v1".into()) };
        Cluster { tls, ..Cluster::plain(name) }
    }

    fn endpoint(identity: Option<&str>, meshed: bool) -> Endpoint {
        Endpoint {
            ip: [10, 0, 0, 1].into(),
            ports: vec![(80, 8080)],
            weight: 1,
            identity: identity.map(|id| SpiffeId::parse(id).unwrap()),
            meshed,
            plaintext_ports: vec![],
            labels: Arc::new([]),
            metadata: Arc::default(),
            locality: Locality::default(),
        }
    }

    fn auto(endpoint: &Endpoint) -> Result<Transport, Reason> {
        transport(&cluster(UpstreamTls::Auto), Location::Internal, endpoint)
    }

    fn expects(transport: &Transport) -> Vec<&str> {
        match transport {
            Transport::Plain => vec![],
            Transport::Mutual(tls) => tls.expected.iter().map(|id| &**id).collect(),
        }
    }

    #[test]
    fn a_meshed_endpoint_must_be_its_own_account() {
        let chosen = auto(&endpoint(Some(REVIEWS), true)).unwrap();
        assert_eq!(expects(&chosen), [REVIEWS]);
        let Transport::Mutual(tls) = chosen else { panic!("{chosen:?}") };
        assert_eq!(&*tls.sni, "outbound_.80_.v1_.reviews.default.svc.cluster.local");
    }

    #[test]
    fn endpoints_outside_or_unmeshed_or_told_otherwise_are_dialled_in_clear() {
        assert_eq!(auto(&endpoint(Some(REVIEWS), false)), Ok(Transport::Plain));
        let meshed = endpoint(Some(REVIEWS), true);
        let external = transport(&cluster(UpstreamTls::Auto), Location::External, &meshed);
        assert_eq!(external, Ok(Transport::Plain));
        let disabled = Endpoint { plaintext_ports: vec![80], ..meshed.clone() };
        assert_eq!(auto(&disabled), Ok(Transport::Plain));
        let rule = transport(&cluster(UpstreamTls::Disable), Location::Internal, &meshed);
        assert_eq!(rule, Ok(Transport::Plain));
    }

    #[test]
    fn a_meshed_endpoint_without_account_is_not_dialled_at_all() {
        assert_eq!(auto(&endpoint(None, true)), Err(Reason::PeerIdentity));
    }

    #[test]
    fn written_names_count_where_the_pod_is_unknown_and_must_agree_where_it_is_known() {
        let mutual = |sans: &[&str]| UpstreamTls::Mutual {
            sans: sans.iter().map(|s| Arc::from(*s)).collect(),
            sni: Some("x".into()),
        };
        let with = |sans: &[&str], identity| {
            transport(&cluster(mutual(sans)), Location::External, &endpoint(identity, false))
        };
        assert_eq!(expects(&with(&["spiffe://a/b"], None).unwrap()), ["spiffe://a/b"]);
        assert_eq!(expects(&with(&["spiffe://a/b", REVIEWS], Some(REVIEWS)).unwrap()), [REVIEWS]);
        assert_eq!(with(&["spiffe://a/b"], Some(REVIEWS)), Err(Reason::PeerIdentity));
        assert_eq!(with(&[], None), Err(Reason::PeerIdentity));
    }
}
