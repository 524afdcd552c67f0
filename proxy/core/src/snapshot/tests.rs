use super::*;
use crate::fixture::{cluster_name, endpoint, meshed, name, rule, service, slice};
use crate::model::address::{AddressedWorkload, Meaning};
use crate::model::endpoint::Endpoint;
use crate::model::name::SliceName;
use crate::transport::Transport;

/// A sidecar that takes what it is sent.
#[derive(Default)]
struct Sidecar {
    resources: Resources,
    snapshot: Snapshot,
    wanted: Vec<ResourceName>,
}

impl Sidecar {
    fn build(&mut self) -> &mut Self {
        let built = Snapshot::build(&self.snapshot, &self.resources);
        (self.snapshot, self.wanted) = (built.snapshot, built.wanted);
        self
    }

    fn service(&mut self, service: Service) -> &mut Self {
        self.resources.apply(Resource::Service(Arc::new(service)));
        self
    }

    fn endpoints(&mut self, short: &str, endpoints: Vec<Endpoint>) -> &mut Self {
        self.resources.apply(Resource::Endpoints(Arc::new(slice(short, 0, endpoints))));
        self
    }

    fn state(&self, short: &str) -> &Arc<ServiceState> {
        self.snapshot.service(&name(short)).unwrap()
    }

    fn cluster(&self, short: &str, subset: Option<&str>) -> &Arc<ClusterState> {
        self.snapshot.cluster(&cluster_name(short, subset)).unwrap()
    }

    /// Where the first rule of a service leads.
    fn leads_to(&self, short: &str) -> Option<String> {
        let target = self.state(short).ports[0].rules[0].pick(0).unwrap();
        target.cluster.map(|c| c.cluster.name.to_string())
    }
}

fn service_name(short: &str) -> ResourceName {
    ResourceName::Service(name(short))
}

fn slice_name(short: &str, slice: u32) -> ResourceName {
    ResourceName::Endpoints(SliceName { service: name(short), slice })
}

fn ips(cluster: &ClusterState) -> Vec<String> {
    cluster.endpoints.iter().map(|e| e.address.to_string()).collect()
}

#[test]
fn a_service_comes_with_its_endpoints_and_leads_to_itself() {
    let mut sidecar = Sidecar::default();
    sidecar.service(service("a", vec![], &["v1"])).build();
    assert!(sidecar.snapshot.service(&name("a")).is_none());
    assert_eq!(sidecar.wanted, [slice_name("a", 0)]);
    sidecar.endpoints("a", vec![endpoint(1, "v1"), endpoint(2, "v2")]).build();
    assert!(sidecar.wanted.is_empty());
    assert_eq!(sidecar.leads_to("a").unwrap(), "outbound|80||a.default.svc.cluster.local");
    assert_eq!(ips(sidecar.cluster("a", None)), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(ips(sidecar.cluster("a", Some("v1"))), ["10.0.0.1:8080"]);
    let port = &sidecar.state("a").ports[0];
    assert!(Arc::ptr_eq(port.cluster.as_ref().unwrap(), sidecar.cluster("a", None)));
    assert!(port.tcp[0].pick(0).unwrap().cluster.is_some());
}

#[test]
fn a_route_is_swapped_in_when_all_it_names_has_come() {
    let mut sidecar = Sidecar::default();
    sidecar.service(service("a", vec![], &[])).endpoints("a", vec![endpoint(1, "")]).build();
    sidecar.service(service("a", vec![rule(vec![], &[("b", None, 1)])], &[])).build();
    assert_eq!(sidecar.leads_to("a").unwrap(), "outbound|80||a.default.svc.cluster.local");
    assert_eq!(sidecar.wanted, [service_name("b")]);
    sidecar.service(service("b", vec![], &[])).build();
    assert_eq!(sidecar.leads_to("a").unwrap(), "outbound|80||a.default.svc.cluster.local");
    assert_eq!(sidecar.wanted, [slice_name("b", 0)]);
    sidecar.endpoints("b", vec![endpoint(2, "")]).build();
    assert_eq!(sidecar.leads_to("a").unwrap(), "outbound|80||b.default.svc.cluster.local");
}

#[test]
fn a_service_that_waits_still_follows_its_endpoints() {
    let mut sidecar = Sidecar::default();
    let old = service("a", vec![rule(vec![], &[("a", Some("v1"), 1)])], &["v1"]);
    sidecar.service(old).endpoints("a", vec![endpoint(1, "v1")]).build();
    let new = service("a", vec![rule(vec![], &[("b", None, 1)])], &["v2"]);
    sidecar.service(new).endpoints("a", vec![endpoint(2, "v1"), endpoint(3, "v2")]).build();
    let target = sidecar.state("a").ports[0].rules[0].pick(0).unwrap();
    assert_eq!(ips(target.cluster.unwrap()), ["10.0.0.2:8080"], "the old subset, the new endpoints");
    assert_eq!(ips(sidecar.cluster("a", Some("v2"))), ["10.0.0.3:8080"], "for routes of other services");
    sidecar.service(service("b", vec![], &[])).endpoints("b", vec![]).build();
    assert!(sidecar.snapshot.cluster(&cluster_name("a", Some("v1"))).is_none(), "no longer needed");
}

#[test]
fn services_that_wait_for_each_other_do_not_wait_forever() {
    let mut sidecar = Sidecar::default();
    for short in ["a", "b"] {
        sidecar.service(service(short, vec![], &[])).endpoints(short, vec![endpoint(1, "v2")]);
    }
    sidecar.build();
    sidecar.service(service("a", vec![rule(vec![], &[("b", Some("v2"), 1)])], &["v2"]));
    sidecar.service(service("b", vec![rule(vec![], &[("a", Some("v2"), 1)])], &["v2"])).build();
    assert_eq!(sidecar.leads_to("a").unwrap(), "outbound|80|v2|b.default.svc.cluster.local");
    assert_eq!(sidecar.leads_to("b").unwrap(), "outbound|80|v2|a.default.svc.cluster.local");
}

#[test]
fn g5_what_is_known_not_to_exist_is_not_waited_for() {
    let mut sidecar = Sidecar::default();
    let to = [("gone", None, 1)];
    sidecar.service(service("a", vec![rule(vec![], &to)], &[])).endpoints("a", vec![]).build();
    assert!(sidecar.snapshot.service(&name("a")).is_none());
    sidecar.resources.remove(&service_name("gone"));
    sidecar.build();
    assert_eq!(sidecar.leads_to("a"), None, "no_cluster");
    assert!(sidecar.wanted.is_empty());
    sidecar.resources.remove(&service_name("a"));
    assert!(sidecar.build().snapshot.service(&name("a")).is_none());
}

#[test]
fn what_did_not_change_is_shared() {
    let mut sidecar = Sidecar::default();
    for short in ["a", "b", "c"] {
        sidecar.endpoints(short, vec![endpoint(1, ""), endpoint(2, "")]);
    }
    sidecar.service(service("a", vec![rule(vec![], &[("b", None, 1)])], &[]));
    sidecar.service(service("b", vec![], &[])).service(service("c", vec![], &[])).build();
    let before = ["a", "b", "c"].map(|short| Arc::clone(sidecar.state(short)));
    let generation = sidecar.snapshot.generation();
    sidecar.endpoints("b", vec![endpoint(2, ""), endpoint(3, "")]).build();
    let same = |i: usize, short| Arc::ptr_eq(&before[i], sidecar.state(short));
    assert_eq!((same(0, "a"), same(1, "b"), same(2, "c")), (false, false, true));
    assert!(sidecar.snapshot.generation() > generation);
}

#[test]
fn an_equal_resource_changes_nothing() {
    let mut resources = Resources::default();
    let apply = |resources: &mut Resources| {
        resources.apply(Resource::Service(Arc::new(service("a", vec![], &[]))))
            | resources.apply(Resource::Endpoints(Arc::new(slice("a", 0, vec![endpoint(1, "")]))))
    };
    assert!(apply(&mut resources) && !apply(&mut resources));
    assert!(resources.remove(&service_name("a")) && !resources.remove(&service_name("a")));
    assert!(resources.knows(&service_name("a")) && resources.get(&service_name("a")).is_none());
    assert!(resources.forget(&service_name("a")) && !resources.knows(&service_name("a")));
}

#[test]
fn what_is_under_way_outlives_snapshots() {
    let mut sidecar = Sidecar::default();
    let pods = || vec![meshed(1, "v1", "x"), meshed(2, "v1", "x")];
    sidecar.service(service("a", vec![], &[])).endpoints("a", pods()).build();
    let before = Arc::clone(sidecar.cluster("a", None));
    let _request = before.endpoints[0].begin();
    let _permit = before.admission.request(&before.cluster).unwrap();
    let mut moved = pods();
    moved[0].weight = 5;
    moved[1] = meshed(2, "v1", "y");
    sidecar.endpoints("a", moved).build();
    let after = sidecar.cluster("a", None);
    assert_eq!((after.endpoints[0].active(), after.admission.requests()), (1, 1));
    assert_eq!((after.endpoints[0].weight, after.endpoints[0].id), (5, before.endpoints[0].id));
    assert_ne!(after.endpoints[1].id, before.endpoints[1].id, "who must answer changed: new connections");
    let Ok(Transport::Mutual(tls)) = &after.endpoints[1].transport else { panic!() };
    assert_eq!(&*tls.expected[0], "spiffe://cluster.local/ns/default/sa/y");
}

#[test]
fn an_endpoint_in_two_slices_counts_once() {
    let mut sidecar = Sidecar::default();
    sidecar.service(Service { slices: 2, ..service("a", vec![], &[]) });
    sidecar.endpoints("a", vec![endpoint(1, "")]).build();
    assert_eq!(sidecar.wanted, [slice_name("a", 1)]);
    let second = slice("a", 1, vec![endpoint(1, ""), endpoint(2, "")]);
    sidecar.resources.apply(Resource::Endpoints(Arc::new(second)));
    sidecar.build();
    assert_eq!(ips(sidecar.cluster("a", None)).len(), 2);
    sidecar.resources.remove(&slice_name("a", 1));
    assert_eq!(ips(sidecar.build().cluster("a", None)).len(), 1);
}

#[test]
fn while_a_new_slice_is_missing_the_endpoints_stay() {
    let mut sidecar = Sidecar::default();
    sidecar.service(service("a", vec![], &[])).endpoints("a", vec![endpoint(1, ""), endpoint(2, "")]).build();
    sidecar.service(Service { slices: 2, ..service("a", vec![], &[]) });
    sidecar.endpoints("a", vec![endpoint(1, "")]).build();
    assert_eq!(ips(sidecar.cluster("a", None)).len(), 2);
}

fn address(key: AddressKey, meaning: Meaning) -> Resource {
    Resource::Address(Arc::new(Address { key, meaning }))
}

fn key(text: &str) -> AddressKey {
    let address: std::net::SocketAddr = text.parse().unwrap();
    AddressKey::new(address.ip(), address.port())
}

#[test]
fn an_answer_nothing_covers_its_prefix_until_it_goes() {
    let mut sidecar = Sidecar::default();
    let nothing = |prefix: &str| Meaning::Nothing { prefix: prefix.parse().unwrap() };
    sidecar.resources.apply(address(key("1.2.3.4:443"), nothing("1.0.0.0/8")));
    sidecar.resources.apply(address(key("[fd00::1]:80"), nothing("fd00::/64")));
    let of_service = Meaning::Service(ServicePortRef { service: name("a"), port: 80 });
    sidecar.resources.apply(address(key("1.2.3.5:80"), of_service.clone()));
    sidecar.build();
    let found = |sidecar: &Sidecar, text| sidecar.snapshot.address(key(text)).map(|a| a.meaning.clone());
    assert_eq!(found(&sidecar, "1.9.9.9:1"), Some(nothing("1.0.0.0/8")));
    assert_eq!(found(&sidecar, "[::ffff:1.9.9.9]:1"), Some(nothing("1.0.0.0/8")));
    assert_eq!(found(&sidecar, "[fd00::9]:1"), Some(nothing("fd00::/64")));
    assert_eq!(found(&sidecar, "1.2.3.5:80"), Some(of_service));
    assert_eq!((found(&sidecar, "2.0.0.1:1"), found(&sidecar, "[fd00:1::]:1")), (None, None));
    sidecar.resources.apply(address(key("1.2.3.4:443"), nothing("1.2.3.4/32")));
    sidecar.build();
    assert_eq!(found(&sidecar, "1.9.9.9:1"), None);
    sidecar.resources.remove(&ResourceName::Address(key("1.2.3.4:443")));
    assert_eq!(found(sidecar.build(), "1.2.3.4:443"), None);
}

#[test]
fn subscriptions_follow_from_addresses_to_slices() {
    let mut sidecar = Sidecar::default();
    let root = ResourceName::Address(key("10.96.0.1:80"));
    let meaning = Meaning::Service(ServicePortRef { service: name("a"), port: 80 });
    sidecar.resources.apply(address(key("10.96.0.1:80"), meaning));
    sidecar.build();
    assert_eq!(sidecar.wanted, [service_name("a")]);
    sidecar.service(service("a", vec![rule(vec![], &[("b", None, 1)])], &[]));
    let expected = [root.clone(), service_name("a"), service_name("b"), slice_name("a", 0)];
    assert!(sidecar.resources.reachable([root]).into_iter().eq(expected));
}

#[test]
fn a_pod_by_its_own_address_is_dialled_as_who_it_is() {
    let workload = AddressedWorkload {
        identity: meshed(1, "", "x").identity,
        meshed: true,
        metadata: Arc::default(),
        services: vec![],
        headless: None,
        protocol: Protocol::Tcp,
    };
    let state = EndpointState::of_workload(([10, 0, 0, 1], 80).into(), &workload);
    assert!(matches!(&state.transport, Ok(Transport::Mutual(_))));
    let unknown = EndpointState::of_workload(
        ([10, 0, 0, 1], 80).into(),
        &AddressedWorkload { identity: None, ..workload },
    );
    assert!(unknown.transport.is_err());
}
