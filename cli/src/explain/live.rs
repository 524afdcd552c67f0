//! A request explained by the sidecars of a mesh that runs: the client's says where it goes, the servers' whether they
//! let it in.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use weft_core::explain::told::{Ask, Branch, ClientSide, EndpointTold, Sent, ServerSide};
use weft_core::explain::{Explanation, explanation, passed_by};

use crate::query::encode;
use crate::reach::{Bare, Reach, Sender, Sidecar};
use crate::up::intercepted::kept_away;

/// Of how many endpoints of one destination the sidecars are asked.
const MOST_ASKED: usize = 8;

/// Explains a request of a pod, or of one of a workload's pods.
///
/// # Errors
/// There is no such pod, or no sidecar that can be asked.
pub async fn explain(
    reach: &Reach,
    client: &str,
    (host, port): (String, u16),
    request: Sent,
) -> Result<Explanation> {
    let told: ClientSide = match reach.sender(client).await? {
        Sender::Meshed(sidecar) => of_meshed(reach, &sidecar, (host, port), request).await?,
        Sender::Bare(bare) => of_bare(reach, bare, (host, port), request).await?,
    };
    let mut servers = Servers::new(reach);
    let mut all = Vec::new();
    for branch in &told.branches {
        all.push(servers.of(&told, branch).await?);
    }
    Ok(explanation(told, &all))
}

/// The pod's own sidecar tells, also what becomes of a request that its annotations keep from it.
async fn of_meshed(
    reach: &Reach,
    sidecar: &Sidecar,
    (host, port): (String, u16),
    request: Sent,
) -> Result<ClientSide> {
    let address = reach.lookup((&sidecar.namespace, &sidecar.pod), &host).await?;
    let question = Ask::Client { host: host.clone(), port, address, request: request.clone() };
    let told: ClientSide = ask(sidecar, &question).await?;
    match told.dialled.filter(|to| !sidecar.intercepted.takes_outbound(*to)) {
        None => Ok(told),
        Some(to) => {
            let (address, why) = (Some(to.ip()), Some(kept_away(&sidecar.pod, to)));
            ask(sidecar, &Ask::Outside { host, port, address, request, why }).await
        }
    }
}

/// Of a pod without a sidecar another's tells whom it reaches: one of the same namespace, where names mean the same, or
/// else one of any other.
async fn of_bare(
    reach: &Reach,
    bare: Bare,
    (host, port): (String, u16),
    request: Sent,
) -> Result<ClientSide> {
    let namespace = &bare.namespace;
    let address = reach.lookup((namespace, &bare.pod), &host).await?;
    let (mut all, mut host) = (reach.everywhere(Some(namespace)).await?, host);
    if all.is_empty() {
        (all, host) = (reach.everywhere(None).await?, named_elsewhere(host, namespace));
    }
    let sidecar = all.iter().max_by_key(|sidecar| sidecar.ready).with_context(|| {
        format!(
            "{namespace}/{} has no sidecar, and there is none in the mesh that could tell whom it reaches; `weft explain -f` \
             tells it from manifests",
            bare.pod
        )
    })?;
    let told: ClientSide = ask(sidecar, &Ask::Outside { host, port, address, request, why: None }).await?;
    Ok(ClientSide { pod: format!("{namespace}/{}", bare.pod), address: bare.address, ..told })
}

/// What is called so in one namespace, as all others call it.
fn named_elsewhere(host: String, namespace: &str) -> String {
    let is_short = !host.contains(['.', ':']);
    if is_short { format!("{host}.{namespace}") } else { host }
}

/// Asks a sidecar.
///
/// # Errors
/// It cannot be reached, or cannot tell.
pub async fn ask<T: DeserializeOwned>(sidecar: &Sidecar, ask: &Ask) -> Result<T> {
    let text = serde_json::to_string(ask)?;
    let body = sidecar.get(&format!("/explain?ask={}", encode(&text))).await?;
    serde_json::from_slice(&body)
        .with_context(|| format!("the sidecar of {} is of another version than this command", sidecar.name()))
}

/// The sidecars of servers, by namespace.
pub(crate) struct Servers<'r> {
    reach: &'r Reach,
    known: BTreeMap<String, Vec<Sidecar>>,
}

impl<'r> Servers<'r> {
    /// None is known yet.
    pub(crate) fn new(reach: &'r Reach) -> Self {
        Self { reach, known: BTreeMap::new() }
    }

    async fn of(&mut self, told: &ClientSide, branch: &Branch) -> Result<Vec<ServerSide>> {
        let Some(sent) = branch.sent.as_ref().filter(|_| branch.refused.is_none()) else {
            return Ok(Vec::new());
        };
        let meshed = branch.endpoints.iter().filter(|endpoint| endpoint.takes && endpoint.meshed);
        let mut all = Vec::new();
        for endpoint in meshed.take(MOST_ASKED) {
            match self.sidecar(endpoint).await? {
                Some(sidecar) if sidecar.intercepted.takes_inbound(endpoint.address.port()) => {
                    all.push(ask(&sidecar, &question(told, endpoint, sent)).await?);
                }
                Some(_) => all.push(passed_by(endpoint, sent)),
                None => {}
            }
        }
        Ok(all)
    }

    /// The sidecar of an endpoint's pod, in whichever namespace.
    ///
    /// # Errors
    /// The namespace's pods cannot be listed.
    pub(crate) async fn sidecar(&mut self, endpoint: &EndpointTold) -> Result<Option<Sidecar>> {
        let namespace = &endpoint.namespace;
        if !self.known.contains_key(namespace) {
            let found = self.reach.everywhere(Some(namespace)).await?;
            self.known.insert(namespace.clone(), found);
        }
        let of = self.known.get(namespace).into_iter().flatten();
        Ok(of.into_iter().find(|sidecar| sidecar.pod == endpoint.pod).cloned())
    }
}

fn question(told: &ClientSide, to: &EndpointTold, sent: &Sent) -> Ask {
    Ask::Server {
        peer: told.identity.clone().filter(|_| to.mtls),
        sni: to.sni.clone(),
        source: told.address.unwrap_or_else(|| to.address.ip()),
        to: to.address,
        request: sent.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_means_its_own_namespace() {
        for (host, elsewhere) in
            [("web", "web.shop"), ("web.prod", "web.prod"), ("10.0.0.1", "10.0.0.1"), ("[::1]", "[::1]")]
        {
            assert_eq!(named_elsewhere(host.to_owned(), "shop"), elsewhere);
        }
    }
}
