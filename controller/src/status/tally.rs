//! On how many sidecars objects are in force: from what each sidecar holds to the objects that shape it. Pure.
//!
//! It is asked of what is held, not of objects: a sidecar holds few services, and of each it is known by index which
//! objects shape it. So the cost follows what sidecars use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_core::model::name::{ObjectName, ResourceName, ServiceName};
use weft_crds::kind::Kind;

use crate::analyse::notes::id_of;
use crate::compile::{Context, route, scope, telemetry};
use crate::fragment::destination_rule::DestinationRule;
use crate::fragment::meta::{Meta, Selector};
use crate::push::registry::{Hold, Holding};
use crate::source::object::ObjectId;
use crate::world::World;

/// Sidecars that an object concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Where it is in force.
    pub programmed: u32,
    /// All of them.
    pub total: u32,
    /// Who refused it, and why: one of those who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// Tallies by object; an object that concerns no sidecar has none.
pub type Tallies = BTreeMap<ObjectId, Tally>;

impl Tally {
    /// Adds what another replica counts.
    pub fn add(&mut self, other: &Self) {
        self.programmed += other.programmed;
        self.total += other.total;
        if self.refusal.is_none() {
            self.refusal.clone_from(&other.refusal);
        }
    }
}

/// Counts the sidecars of this replica.
pub fn tallies(world: &World, holdings: &[Holding]) -> Tallies {
    let mut all = Tallies::new();
    for holding in holdings {
        for (object, hold) in of_sidecar(world, holding) {
            let tally = all.entry(object).or_default();
            tally.total += 1;
            match hold {
                Hold::Programmed => tally.programmed += 1,
                Hold::Pending => {}
                Hold::Refused(reason) => {
                    tally.refusal.get_or_insert_with(|| format!("{} refuses {reason}", holding.pod));
                }
            }
        }
    }
    all
}

/// The objects that shape what a sidecar holds, each with the worst that became of it.
fn of_sidecar(world: &World, holding: &Holding) -> HashMap<ObjectId, Hold> {
    let mut found = HashMap::new();
    let Some(client) = world.pods.get(&holding.pod) else { return found };
    let context = Context { world, trust: &[], client };
    for (name, hold) in &holding.names {
        let hold = if holding.current { hold } else { &hold.clone().max(Hold::Pending) };
        let objects = match name {
            ResourceName::Workload => of_workload(context),
            ResourceName::Service(name) => of_service(context, name),
            ResourceName::Address(_) | ResourceName::Endpoints(_) => continue,
        };
        for object in objects {
            let worst = found.entry(object).or_insert(Hold::Programmed);
            *worst = worst.clone().max(hold.clone());
        }
    }
    found
}

/// Routes and rules of a service, as one client has them.
fn of_service(context: Context<'_>, name: &ServiceName) -> Vec<ObjectId> {
    let key = ObjectName { namespace: name.namespace.clone(), name: service_of(name) };
    let Some(service) = context.world.services.get(&key) else { return Vec::new() };
    let routes = route::applicable(context, name, service);
    let routes = routes.into_iter().map(|it| id(Kind::VirtualService, &it.meta));
    let client = &context.client.meta;
    let counts = |rule: &&Arc<DestinationRule>| {
        rule.visibility.includes(&client.name.namespace)
            && rule.clients.as_ref().is_none_or(|clients| clients.selects(&client.labels))
            && scope::shapes(context, &rule.meta, Some(service))
    };
    let groups = context.world.index.destination_rules.groups(&name.host);
    let rules = groups.flatten().filter(counts).map(|it| id(Kind::DestinationRule, &it.meta));
    routes.chain(rules).collect()
}

/// The service's name: the first label of its host.
fn service_of(name: &ServiceName) -> Arc<str> {
    name.host.split('.').next().unwrap_or_default().into()
}

/// Policies and settings of a pod.
fn of_workload(context: Context<'_>) -> Vec<ObjectId> {
    let (world, client) = (context.world, &context.client.meta);
    let own = &*client.name.namespace;
    let mut namespaces: Vec<&str> = scope::roots().filter(|root| *root != own).collect();
    namespaces.push(own);
    let selects = |selector: &Selector| selector.selects(&client.labels);
    let mut all = Vec::new();
    for namespace in namespaces {
        let policies = world.authorization_policies.of_namespace(namespace);
        let policies = policies.filter(|it| !it.elsewhere && selects(&it.selector));
        all.extend(policies.map(|it| id(Kind::AuthorizationPolicy, &it.meta)));
        let mtls = world.peer_authentications.of_namespace(namespace);
        let mtls = mtls.filter(|it| match &it.selector {
            Some(selector) => namespace == own && selects(selector),
            None => true,
        });
        all.extend(mtls.map(|it| id(Kind::PeerAuthentication, &it.meta)));
    }
    all.extend(scope::sidecar(context).map(|it| id(Kind::Sidecar, &it.meta)));
    all.extend(telemetry::applicable(context).map(|it| id(Kind::Telemetry, &it.meta)));
    all
}

fn id(kind: Kind, meta: &Meta) -> ObjectId {
    id_of(kind, &meta.name, meta.origin)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::object::Object;
    use crate::source::yaml;
    use crate::validate::validate;
    use crate::world::dirty::Dirty;

    const WORLD: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
status: {podIPs: [{ip: 10.244.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: other, labels: {app: far}}
status: {podIPs: [{ip: 10.244.0.3}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.weft.dev/v1
kind: DestinationRule
metadata: {name: far-only, namespace: other}
spec: {host: web.shop.svc.cluster.local}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: shop}
spec: {selector: {matchLabels: {app: client}}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mesh, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

    fn world() -> World {
        let mut world = World::default();
        let path: Arc<Path> = Path::new("world.yaml").into();
        for document in yaml::parse(WORLD).unwrap() {
            for object in Object::of_document(&path, document).unwrap() {
                let verdict = validate(&object);
                assert!(verdict.findings.accepted(), "{:?}", verdict.findings);
                verdict.fragment.map(|fragment| world.apply(fragment));
            }
        }
        world.settle(&Dirty::all());
        world
    }

    fn holding(namespace: &str, pod: &str, web: Hold) -> Holding {
        let web_name = ServiceName::new("shop", "web.shop.svc.cluster.local");
        Holding {
            pod: ObjectName { namespace: namespace.into(), name: pod.into() },
            current: true,
            names: vec![(ResourceName::Workload, Hold::Programmed), (ResourceName::Service(web_name), web)],
        }
    }

    fn shown(tallies: &Tallies) -> Vec<String> {
        let of = |(id, tally): (&ObjectId, &Tally)| format!("{id}: {}/{}", tally.programmed, tally.total);
        tallies.iter().map(of).collect()
    }

    #[test]
    fn each_object_counts_the_sidecars_that_it_shapes() {
        let near = holding("shop", "client", Hold::Programmed);
        let far = holding("other", "far", Hold::Pending);
        let found = tallies(&world(), &[near, far]);
        let expected = [
            "VirtualService shop/web: 1/2",
            "DestinationRule other/far-only: 0/1",
            "AuthorizationPolicy shop/clients: 1/1",
            "PeerAuthentication istio-system/mesh: 2/2",
        ];
        let shown = shown(&found);
        assert!(expected.iter().all(|line| shown.iter().any(|it| it == line)), "{shown:#?}");
        assert_eq!(shown.len(), expected.len());
    }

    #[test]
    fn f7_a_refusal_is_quoted_and_what_is_not_current_is_pending() {
        let refused = holding("shop", "client", Hold::Refused("ports[0]: not today".into()));
        let old = Holding { current: false, ..holding("other", "far", Hold::Programmed) };
        let found = tallies(&world(), &[refused, old]);
        let (_, web) = found.iter().find(|(id, _)| &*id.kind == "VirtualService").unwrap();
        assert_eq!((web.programmed, web.total), (0, 2));
        assert_eq!(web.refusal.as_deref(), Some("shop/client refuses ports[0]: not today"));
    }

    #[test]
    fn a_sidecar_of_a_pod_that_is_gone_counts_nowhere_and_replicas_add_up() {
        assert!(tallies(&world(), &[holding("shop", "gone", Hold::Programmed)]).is_empty());
        let mut one = Tally { programmed: 1, total: 2, refusal: None };
        one.add(&Tally { programmed: 3, total: 3, refusal: Some("x".into()) });
        assert_eq!((one.programmed, one.total, one.refusal.as_deref()), (4, 5, Some("x")));
    }
}
