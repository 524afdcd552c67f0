//! The client's side: what the address means, and what the connection carries.

use std::sync::Arc;

use crate::detect::Rules;
use crate::detect::sniff::Detected;
use crate::meaning;
use crate::model::address::{Address, Meaning};
use crate::model::name::{AddressKey, ClusterName, ResourceName};
use crate::model::workload::{EgressListener, Workload};
use crate::reason::Reason;
use crate::snapshot::Snapshot;
use crate::upstream::EndpointState;

use super::branch::who_takes;
use super::look::{Asked, Look, need};
use super::told::{Branch, ClientSide, EndpointTold, Refused, Sent, Step};
use super::{bytes, words};

/// What the client's sidecar does with a request.
///
/// # Errors
/// The resource that must be known first and is not.
pub fn client(snapshot: &Snapshot, asked: &Asked) -> Result<ClientSide, ResourceName> {
    let workload = snapshot.workload().ok_or(ResourceName::Workload)?;
    let listener = workload.outbound.listener(asked.dialled);
    let address = match listener {
        Some(listener) => Arc::new(meaning::of_listener(listener)),
        None => address(snapshot, asked)?,
    };
    let mut told = begin(workload, Some(workload.identity.to_string()));
    told.dialled = listener.is_none().then_some(asked.dialled);
    told.steps.push(match listener {
        Some(listener) => listens(listener),
        None => means(asked, &address),
    });
    let listed = listener.is_some() && matches!(address.meaning, Meaning::Shared(_));
    let look = Look { snapshot, asked, address: &address, listed };
    need_port(snapshot, &address)?;
    let protocol = listener.map_or_else(|| meaning::declared(&address, snapshot), |on| on.protocol);
    match bytes::detected(Rules { protocol, tls: false, may_dial: true }, &asked.request) {
        Detected::Http1 | Detected::Http2 if asked.request.tls => {
            let mend = "the port is declared HTTP, and the application sends TLS: declare it (appProtocol: https, or a name \
                        that begins with https-), or speak http://";
            told.refused = Some(Refused::by(Reason::BadRequest, mend));
        }
        Detected::Http1 | Detected::Http2 => look.http(&mut told)?,
        Detected::Tls(hello) => look.opaque(&mut told, hello.sni.as_deref())?,
        Detected::Opaque => look.opaque(&mut told, None)?,
    }
    Ok(told)
}

/// Why a pod's requests are seen by no sidecar where it has none.
pub const NO_SIDECAR: &str = "the client has no sidecar";

/// What becomes of a request that no sidecar of the client sees, and `why`: it goes to any endpoint of the service, in
/// clear.
///
/// # Errors
/// The resource that must be known first and is not.
pub fn without_sidecar(snapshot: &Snapshot, asked: &Asked, why: &str) -> Result<ClientSide, ResourceName> {
    let workload = snapshot.workload().ok_or(ResourceName::Workload)?;
    let address = address(snapshot, asked)?;
    let mut told = begin(workload, None);
    told.dialled = Some(asked.dialled);
    told.steps.push(means(asked, &address));
    let says =
        format!("not: {why}; no route, no mTLS, no retry: the cluster's own balancing picks any ready pod");
    told.steps.push(Step::client("intercepted", says));
    need_port(snapshot, &address)?;
    let found = match &address.meaning {
        Meaning::Service(port) => snapshot.port(port).map(|(_, port)| port.cluster.clone()),
        _ => None,
    };
    let direct = [EndpointState::of_address(asked.dialled)];
    let (name, endpoints) = match &found {
        Some(Some(cluster)) => (cluster.cluster.name.clone(), &cluster.endpoints[..]),
        _ => (snapshot.passthrough().cluster.name.clone(), &direct[..]),
    };
    if let Meaning::Service(port) = &address.meaning {
        (told.service, told.port) = (Some(port.service.to_string()), Some(port.port));
    }
    told.branches.push(in_clear(&name, endpoints, &asked.request));
    Ok(told)
}

/// A side of which nothing is known yet.
pub fn unavailable(workload: &Workload, missing: &ResourceName) -> ClientSide {
    let mut told = begin(workload, Some(workload.identity.to_string()));
    let mend =
        format!("the controller must say what {missing} is: `weft check` tells whether it can be reached");
    told.refused = Some(Refused::by(Reason::ConfigUnavailable, mend));
    told
}

fn begin(workload: &Workload, identity: Option<String>) -> ClientSide {
    let metadata = &workload.metadata;
    ClientSide {
        pod: format!("{}/{}", metadata.namespace, metadata.pod),
        identity,
        address: workload.addresses.first().copied(),
        dialled: None,
        service: None,
        port: None,
        route: None,
        fault: None,
        answer: None,
        refused: None,
        branches: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
    }
}

fn address(snapshot: &Snapshot, asked: &Asked) -> Result<Arc<Address>, ResourceName> {
    let key = AddressKey::new(asked.dialled.ip(), asked.dialled.port());
    snapshot.address(key).cloned().ok_or(ResourceName::Address(key))
}

fn need_port(snapshot: &Snapshot, address: &Address) -> Result<(), ResourceName> {
    match &address.meaning {
        Meaning::Service(port) => need(snapshot, &port.service).map(|_| ()),
        _ => Ok(()),
    }
}

/// What an explicit listener is for.
fn listens(on: &EgressListener) -> Step {
    let hosts: Vec<String> = on.services.iter().map(|one| one.target.service.host.to_string()).collect();
    let services = match &hosts[..] {
        [] => "no service at all".to_owned(),
        [only] => only.clone(),
        several => format!("{}; the host tells them apart", words::listed(several, 6)),
    };
    Step::client("address", format!("{}: a listener of the pod's Sidecar (egress), for {services}", on.bind))
}

fn means(asked: &Asked, address: &Address) -> Step {
    let dialled = asked.dialled;
    let at = if asked.host == dialled.ip().to_string() {
        dialled.to_string()
    } else {
        format!("{} is {dialled}", asked.host)
    };
    let says = match &address.meaning {
        Meaning::Service(port) => format!("{at}: port {} of Service {}", port.port, port.service),
        Meaning::Workload(pod) => {
            let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.pod);
            format!("{at}: pod {namespace}/{name} itself; of its services the one that the host names")
        }
        Meaning::Shared(all) => {
            format!("{at}: an address that {} services share; the host tells them apart", all.len())
        }
        Meaning::Nothing { .. } => format!("{at}: nothing that the mesh knows"),
    };
    Step::client("address", says)
}

fn in_clear(name: &ClusterName, endpoints: &[Arc<EndpointState>], sent: &Sent) -> Branch {
    let told = |endpoint: &Arc<EndpointState>| EndpointTold {
        address: endpoint.address,
        namespace: endpoint.metadata.namespace.to_string(),
        pod: endpoint.metadata.pod.to_string(),
        takes: true,
        why: None,
        mtls: false,
        meshed: endpoint.endpoint.as_ref().is_some_and(|e| e.meshed),
        sni: None,
    };
    let none = || Refused {
        status: None,
        ..Refused::by(Reason::NoHealthyUpstream, "a ready pod must stand behind the service")
    };
    let endpoints: Vec<EndpointTold> = endpoints.iter().map(told).collect();
    let steps = vec![
        Step::client("endpoints", who_takes(&endpoints)),
        Step::client("mtls", "in clear: no sidecar of the client sees it"),
    ];
    Branch {
        cluster: name.to_string(),
        service: Some(name.service.to_string()).filter(|_| name.port != 0),
        port: name.port,
        subset: None,
        share: 100.0,
        refused: endpoints.is_empty().then(none),
        endpoints,
        sent: Some(sent.clone()),
        steps,
    }
}
