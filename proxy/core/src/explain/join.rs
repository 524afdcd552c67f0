//! Both sides of a request, put together.

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

use super::told::{Branch, ClientSide, EndpointTold, Refused, RouteTaken, ServerSide, Step, Verdict};

/// What becomes of a request, from the client to the application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What becomes of it; of several destinations, at the one that gets most requests.
    pub verdict: Verdict,
    /// The status, where the mesh itself answers.
    pub status: Option<u16>,
    /// Why the mesh answers, as the header `x-weft-reason` says it.
    pub reason: Option<String>,
    /// What the server's sidecar says of it, where the client is told something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_reason: Option<String>,
    /// The service, `namespace/host`.
    pub service: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The rule.
    pub route: Option<RouteTaken>,
    /// What is done to it on purpose: `delay 7s for 100%, abort 500 for 10%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The subset.
    pub subset: Option<String>,
    /// The endpoints, and why some are out.
    pub endpoints: Vec<EndpointTold>,
    /// The policy that lets it in or denies it.
    pub policy: Option<String>,
    /// `spec.rules[1]`.
    pub policy_rule: Option<String>,
    /// Path and query as the application gets them.
    pub path: Option<String>,
    /// Where a redirect leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Whether a part of such requests fares otherwise than `verdict` says.
    pub mixed: bool,
    /// The client's pod.
    pub client: String,
    /// Every destination.
    pub destinations: Vec<Outcome>,
    /// The steps, up to the destinations.
    pub steps: Vec<Step>,
    /// What would have to change for the answer to be yes.
    pub mend: Vec<String>,
    /// Hidden costs.
    pub notes: Vec<String>,
}

/// What becomes of a request at one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The subset.
    pub subset: Option<String>,
    /// The cluster.
    pub cluster: String,
    /// The share of requests, in percent.
    pub share: f64,
    /// What becomes of them.
    pub verdict: Verdict,
    /// The status, where the mesh itself answers.
    pub status: Option<u16>,
    /// Why.
    pub reason: Option<String>,
    /// What the server's sidecar says of it, where the client is told something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_reason: Option<String>,
    /// The policy that lets it in or denies it.
    pub policy: Option<String>,
    /// Its rule.
    pub policy_rule: Option<String>,
    /// Path and query as the application gets them.
    pub path: Option<String>,
    /// The endpoints.
    pub endpoints: Vec<EndpointTold>,
    /// Whether some endpoints decide otherwise than others.
    pub mixed: bool,
    /// What would have to change.
    pub mend: Vec<String>,
    /// The steps of this destination, and of its server.
    pub steps: Vec<Step>,
}

/// Both sides together. `servers` are, for each branch in its order, what those endpoints' sidecars said that were asked.
pub fn explanation(client: ClientSide, servers: &[Vec<ServerSide>]) -> Explanation {
    let has_sidecar = client.identity.is_some();
    let none = Vec::new();
    let of = |(at, branch): (usize, &Branch)| outcome(branch, servers.get(at).unwrap_or(&none), has_sidecar);
    let outcomes: Vec<Outcome> = client.branches.iter().enumerate().map(of).collect();
    let mut notes = client.notes.clone();
    for note in servers.iter().flatten().flat_map(|server| &server.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let heaviest = heaviest(&outcomes);
    let mut all = begun(&client, notes);
    if let Some(answer) = client.answer {
        all.verdict = Verdict::Answered;
        (all.status, all.reason, all.location) = (Some(answer.status), Some(answer.reason), answer.location);
    } else if let Some(refused) = client.refused {
        (all.status, all.reason) = (refused.status, Some(refused.reason));
        all.mend = refused.mend;
    } else if let Some(main) = heaviest {
        all.take(main, &outcomes);
    }
    all.destinations = outcomes;
    all
}

fn begun(client: &ClientSide, notes: Vec<String>) -> Explanation {
    Explanation {
        verdict: Verdict::Refused,
        status: None,
        reason: None,
        server_reason: None,
        service: client.service.clone(),
        port: client.port,
        route: client.route.clone(),
        fault: client.fault.clone(),
        subset: None,
        endpoints: Vec::new(),
        policy: None,
        policy_rule: None,
        path: None,
        location: None,
        mixed: false,
        client: client.pod.clone(),
        destinations: Vec::new(),
        steps: client.steps.clone(),
        mend: Vec::new(),
        notes,
    }
}

impl Explanation {
    fn take(&mut self, main: &Outcome, all: &[Outcome]) {
        self.verdict = main.verdict;
        (self.status, self.reason) = (main.status, main.reason.clone());
        self.server_reason.clone_from(&main.server_reason);
        self.subset.clone_from(&main.subset);
        self.endpoints.clone_from(&main.endpoints);
        (self.policy, self.policy_rule) = (main.policy.clone(), main.policy_rule.clone());
        self.path.clone_from(&main.path);
        let reached = || all.iter().filter(|outcome| outcome.share > 0.0);
        self.mixed = reached().any(|outcome| outcome.mixed || outcome.verdict != main.verdict);
        for text in reached().flat_map(|outcome| &outcome.mend) {
            if !self.mend.contains(text) {
                self.mend.push(text.clone());
            }
        }
    }
}

/// The first of those that get most.
fn heaviest(outcomes: &[Outcome]) -> Option<&Outcome> {
    outcomes.iter().reduce(|best, next| if next.share > best.share { next } else { best })
}

fn outcome(branch: &Branch, servers: &[ServerSide], has_sidecar: bool) -> Outcome {
    let mut outcome = Outcome {
        subset: branch.subset.clone(),
        cluster: branch.cluster.clone(),
        share: branch.share,
        verdict: Verdict::Forwarded,
        status: None,
        reason: None,
        server_reason: None,
        policy: None,
        policy_rule: None,
        path: branch.sent.as_ref().filter(|sent| sent.http).map(|sent| sent.target.clone()),
        endpoints: branch.endpoints.clone(),
        mixed: false,
        mend: Vec::new(),
        steps: branch.steps.clone(),
    };
    if let Some(refused) = &branch.refused {
        outcome.refuse(refused);
        return outcome;
    }
    let Some(first) = servers.first() else {
        outcome.steps.push(Step::server(
            "policy",
            "no sidecar is there to ask: the application gets it as it is sent",
        ));
        return outcome;
    };
    outcome.steps.extend(first.steps.clone());
    outcome.mixed = servers.iter().any(|server| {
        server.refused.as_ref().map(|r| (&r.reason, &r.policy))
            != first.refused.as_ref().map(|r| (&r.reason, &r.policy))
    });
    outcome.path.clone_from(&first.path);
    (outcome.policy, outcome.policy_rule) = (first.policy.clone(), first.policy_rule.clone());
    if let Some(refused) = &first.refused {
        outcome.refuse(refused);
        if first.closed {
            outcome.closed(refused, has_sidecar);
        }
    }
    outcome
}

impl Outcome {
    fn refuse(&mut self, refused: &Refused) {
        self.verdict = Verdict::Refused;
        (self.status, self.reason) = (refused.status, Some(refused.reason.clone()));
        (self.policy, self.policy_rule) = (refused.policy.clone(), refused.policy_rule.clone());
        self.path = None;
        self.mend.clone_from(&refused.mend);
    }

    /// The server's sidecar closed the connection: the client's says what it saw of that.
    fn closed(&mut self, refused: &Refused, has_sidecar: bool) {
        if !has_sidecar {
            return;
        }
        let mutual = self.endpoints.iter().any(|endpoint| endpoint.takes && endpoint.mtls);
        let seen = match (mutual, refused.reason.as_str()) {
            (true, _) => Reason::TlsHandshake,
            (false, _) => Reason::UpstreamReset,
        };
        self.server_reason = Some(refused.reason.clone()).filter(|reason| reason != seen.name());
        (self.reason, self.status) = (Some(seen.name().to_owned()), Some(seen.status()));
    }
}
