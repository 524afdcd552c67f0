//! Whether a connection may be let in, or stay: by the modes, the trust and the policies of the workload.

use weft_core::authz::{self, Decision, RequestFacts};
use weft_core::model::workload::Workload;
use weft_core::peer_auth;

use crate::downstream::{Downstream, Refusal};

/// Judges a connection. Policies are asked only of opaque ones: requests are judged one by one.
///
/// # Errors
/// Why it may not be.
pub fn judge(workload: &Workload, downstream: &Downstream, opaque: bool) -> Result<(), Refusal> {
    let mode = workload.inbound.mtls(downstream.destination.port());
    peer_auth::may_stay(mode, downstream.peer.is_some())?;
    // A connection outlives the trust it was let in by only as long as its trust domain is believed.
    peer_auth::believes(workload, downstream.peer.as_ref())?;
    if opaque { authorize(workload, downstream) } else { Ok(()) }
}

fn authorize(workload: &Workload, downstream: &Downstream) -> Result<(), Refusal> {
    let facts = RequestFacts {
        peer: downstream.peer.as_ref(),
        source_ip: downstream.client.ip().to_canonical(),
        remote_ip: downstream.client.ip().to_canonical(),
        destination_ip: downstream.destination.ip(),
        destination_port: downstream.destination.port(),
        sni: downstream.sni.as_deref(),
        http: None,
    };
    match authz::authorize(&workload.inbound.policies, &facts).decision {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason, by } => {
            Err(Refusal { reason, policy: Some(by.policy.to_string().into()), scope: None })
        }
    }
}
