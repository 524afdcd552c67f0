//! What becomes of a request, by what this sidecar holds right now: `weft_core::explain` on the live snapshot.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use weft_core::explain::told::{Ask, ClientSide, Sent};
use weft_core::explain::{Asked, Came, NO_SIDECAR, client, policy, server, unavailable, without_sidecar};
use weft_core::http::query;
use weft_core::identity::SpiffeId;
use weft_core::model::name::ResourceName;
use weft_core::snapshot::Snapshot;
use weft_core::upstream::Nanos;

use crate::config::Mesh;
use crate::dial::Dialer;
use crate::names;

/// The most resources that one question leads to.
const MOST: usize = 16;

/// Answers `/explain?ask=...`.
///
/// # Errors
/// The question cannot be read, or nothing can be told yet.
pub(super) async fn explain(mesh: &Mesh, dialer: Dialer, now: Nanos, asked: &str) -> Result<Value, String> {
    let ask = query::parameter(asked, "ask").ok_or("write /explain?ask=QUESTION, as `weft explain` does")?;
    let ask: Ask = serde_json::from_str(&ask.decoded()).map_err(|error| format!("ask: {error}"))?;
    let known = || mesh.snapshot().workload().cloned().ok_or("the controller has not said who this pod is");
    let told = match ask {
        Ask::Client { host, port, address, request } => {
            let ip = resolve(dialer, &host, address).await?;
            let asked = Asked { host, dialled: SocketAddr::new(ip, port), request, now };
            serde_json::to_value(knowing(mesh, |snapshot| client(snapshot, &asked)).await?)
        }
        Ask::Outside { host, port, address, request, why } => {
            let ip = resolve(dialer, &host, address).await?;
            let asked = Asked { host, dialled: SocketAddr::new(ip, port), request, now };
            let why = why.as_deref().unwrap_or(NO_SIDECAR);
            let outside = |snapshot: &Snapshot| without_sidecar(snapshot, &asked, why);
            serde_json::to_value(knowing(mesh, outside).await?)
        }
        Ask::Server { peer, sni, source, to, request } => {
            serde_json::to_value(server(&*known()?, &came(peer, sni, (source, to), request)?))
        }
        Ask::Access => serde_json::to_value(policy::access(&*known()?)),
    };
    told.map_err(|error| error.to_string())
}

/// Asks the controller for what is missing, as a request would.
async fn knowing(
    mesh: &Mesh,
    told: impl Fn(&Snapshot) -> Result<ClientSide, ResourceName>,
) -> Result<ClientSide, String> {
    for _ in 0..MOST {
        let snapshot = mesh.snapshot();
        let missing = match told(&snapshot) {
            Ok(told) => return Ok(told),
            Err(missing) => missing,
        };
        if !mesh.want(&missing).await {
            let workload = snapshot.workload().ok_or("the controller has not said who this pod is")?;
            return Ok(unavailable(workload, &missing));
        }
    }
    Err("the configuration changes too fast to be explained: ask again".to_owned())
}

async fn resolve(dialer: Dialer, host: &str, given: Option<IpAddr>) -> Result<IpAddr, String> {
    if let Some(ip) = given.or_else(|| host.trim_matches(['[', ']']).parse().ok()) {
        return Ok(ip);
    }
    let found = names::resolve(dialer, host).await.map_err(|error| format!("{host}: {error}"))?;
    found.first().copied().ok_or_else(|| format!("{host}: the name has no address"))
}

fn came(
    peer: Option<String>,
    sni: Option<String>,
    (source, to): (IpAddr, SocketAddr),
    request: Sent,
) -> Result<Came, String> {
    let peer = peer.map(|uri| SpiffeId::parse(&uri)).transpose().map_err(|error| error.to_string())?;
    Ok(Came { peer, sni, source, to, request })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_question_that_is_none_says_so() {
        let (mesh, _asks) = Mesh::new(Duration::from_millis(1));
        let asked = |query: &'static str| explain(&mesh, Dialer::default(), 0, query);
        assert!(asked("").await.unwrap_err().contains("/explain?ask="));
        assert!(asked("ask=%7B").await.unwrap_err().starts_with("ask: "));
        assert!(asked("ask=%22access%22").await.unwrap_err().contains("who this pod is"));
    }
}
