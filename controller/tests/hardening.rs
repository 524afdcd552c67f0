//! Bad input by the numbers of the list of hardening cases (F), through everything that reads what users write.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft_controller::analyse::analyse;
use weft_controller::check::{Checked, check_changes};
use weft_controller::compile::{Resource, compile};
use weft_controller::fragment::virtual_service::VirtualService;
use weft_controller::report::Severity;
use weft_controller::source::directory::{Changes, Directory, Files};
use weft_controller::source::object::{Event, Object};
use weft_controller::source::watch::Directories;
use weft_controller::source::yaml;
use weft_controller::validate::validate;
use weft_controller::world::World;
use weft_controller::world::dirty::Dirty;
use weft_core::model::name::{AddressKey, ObjectName, ResourceName, ServiceName, SliceName};

const SAMPLE: &str = include_str!("../../samples/content-service.yaml");
const EVERYTHING: &str = include_str!("everything.yaml");

fn changes(text: &str) -> Changes {
    let files = Files::from([(Path::new("t.yaml").into(), Ok(text.into()))]);
    Directory::default().update(files)
}

fn objects(text: &str) -> Vec<Object> {
    let changes = changes(text);
    assert!(changes.problems.is_empty(), "{:?}", changes.problems);
    let object = |event| match event {
        Event::Apply(object) => object,
        other => panic!("{other:?}"),
    };
    changes.events.into_iter().map(object).collect()
}

fn checked(text: &str) -> Checked {
    check_changes(changes(text))
}

fn errors(text: &str) -> Vec<String> {
    let all = checked(text).reports;
    all.into_iter()
        .filter(|r| r.severity == Severity::Error)
        .map(|r| format!("{}: {}", r.field, r.reason))
        .collect()
}

fn take(world: &mut World, objects: &[Object]) -> Dirty {
    let mut dirty = Dirty::default();
    for fragment in objects.iter().filter_map(|object| validate(object).fragment) {
        dirty.add(world.apply(fragment));
    }
    world.settle(&dirty);
    dirty
}

fn pod(name: &str) -> ObjectName {
    ObjectName { namespace: "default".into(), name: name.into() }
}

/// Everything that a pod may be told.
fn compile_all(world: &World, client: &ObjectName) -> usize {
    let services = world.services.values().map(|service| service.service_name());
    let mut names = vec![ResourceName::Workload];
    for ip in world.index.known_addresses.iter() {
        names.push(ResourceName::Address(AddressKey::new(*ip, 80)));
    }
    for service in services {
        names.push(ResourceName::Endpoints(SliceName { service: service.clone(), slice: 0 }));
        names.push(ResourceName::Service(service));
    }
    names.iter().filter_map(|name| compile(world, &[], client, name)).count()
}

/// So many services in ten namespaces, each with a route, and five pods for each.
fn large(services: usize) -> String {
    let mut text = String::from("kind: List\nitems:\n");
    for i in 0..services {
        let namespace = format!("n{}", i % 10);
        let head = |api: &str, kind: &str, name: &str| {
            format!("- {{apiVersion: {api}, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}")
        };
        let (a, b) = (i / 250, i % 250 + 1);
        write!(
            text,
            "{}}}, spec: {{clusterIP: 10.96.{a}.{b}, selector: {{app: s{i}}}, ports: [{{name: http, port: 80}}]}}}}\n\
             {}}}, spec: {{hosts: [s{i}], http: [{{route: [{{destination: {{host: s{i}}}}}]}}]}}}}\n",
            head("v1", "Service", &format!("s{i}")),
            head("networking.istio.io/v1", "VirtualService", &format!("s{i}")),
        )
        .expect("this works");
        for p in 0..5 {
            let ip = format!("10.{}.{a}.{b}", 100 + p);
            let labels = format!(", labels: {{app: s{i}, version: v1}}");
            writeln!(
                text,
                "{}{labels}}}, status: {{podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}}}",
                head("v1", "Pod", &format!("s{i}-{p}")),
            )
            .expect("this works");
        }
    }
    text
}

#[test]
fn f1_an_edit_touches_what_it_is_about_and_nothing_else() {
    const SERVICES: usize = 500;
    let mut world = World::default();
    let all = objects(&large(SERVICES));
    take(&mut world, &all);
    let before = world.clone();
    let mut edited = all.iter().find(|o| &*o.id.kind == "VirtualService").unwrap().clone();
    let mut value = (*edited.value).clone();
    value["spec"]["http"][0]["timeout"] = json!("3s");
    edited.value = Arc::new(value);
    let dirty = take(&mut world, &[edited]);
    let names = world.services.values().map(|service| ResourceName::Service(service.service_name()));
    assert_eq!(
        names.filter(|name| dirty.touches(&pod("x"), name)).count(),
        1,
        "one of {SERVICES} is compiled again"
    );
    assert!(!dirty.touches(&pod("x"), &ResourceName::Workload));
    let (old, new) = (&before.index, &world.index);
    assert!(Arc::ptr_eq(&old.pods_by_address, &new.pods_by_address), "pods are not indexed again");
    assert!(Arc::ptr_eq(&old.services_by_host, &new.services_by_host), "services are not indexed again");
    assert!(Arc::ptr_eq(&old.destination_rules, &new.destination_rules));
    assert!(!Arc::ptr_eq(&old.virtual_services, &new.virtual_services));
}

#[test]
fn f1_one_name_of_many_is_small() {
    let mut world = World::default();
    take(&mut world, &objects(&large(500)));
    let client = ObjectName { namespace: "n0".into(), name: "s0-0".into() };
    let name = ServiceName::new("n1", "s1.n1.svc.cluster.local");
    let Some(Resource::Service(service)) =
        compile(&world, &[], &client, &ResourceName::Service(name.clone()))
    else {
        panic!("a service")
    };
    assert_eq!((service.ports[0].http.rules.len(), service.clusters.len(), service.slices), (1, 1, 1));
    let slice = ResourceName::Endpoints(SliceName { service: name, slice: 0 });
    let Some(Resource::Endpoints(slice)) = compile(&world, &[], &client, &slice) else { panic!("a slice") };
    assert_eq!(slice.endpoints.len(), 5);
    assert!(analyse(&world).is_empty());
}

#[test]
fn f1_ten_thousand_routes_of_one_object_are_too_many_and_4096_are_not() {
    let rules = |n: usize| {
        let rules: String = (0..n).fold(String::new(), |mut text, i| {
            let _ = write!(
                text,
                "  - match: [{{uri: {{prefix: /{i}/}}}}]\n    route: [{{destination: {{host: a}}}}]\n"
            );
            text
        });
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec:\n  hosts: [a]\n  http:\n{rules}"
        )
    };
    assert_eq!(errors(&rules(10_000)), ["spec.http: has 10000 entries; the most is 4096"]);
    assert_eq!(errors(&rules(4096)), [""; 0]);
}

#[test]
fn f2_expressions_without_bounds_are_refused_and_others_go_on() {
    let object = |name: &str, regex: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{name}]\n  http:\n  - match: [{{uri: {{regex: '{regex}'}}}}]\n    directResponse: {{status: 200}}\n---\n"
        )
    };
    let alternations = vec!["a"; 10_000].join("|");
    let text = [
        object("good", "/v[0-9]+/.*"),
        object("nested", "(a+)+$"),
        object("open", "("),
        object("long", &"a".repeat(1 << 20)),
        object("many", &alternations),
        object("wide", r"(\w{1000}){1000}"),
    ];
    let reports = checked(&text.concat()).reports;
    let refused: Vec<_> = reports.iter().map(|r| r.object.rsplit('/').next().unwrap()).collect();
    assert_eq!(refused, ["open", "long", "many", "wide"]);
    assert!(reports.iter().all(|r| r.field == "spec.http[0].match[0].uri.regex"), "{reports:#?}");
}

#[test]
fn f5_absurd_numbers_and_durations_are_named() {
    let rule = |field: &str| {
        errors(&format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec:\n  hosts: [a]\n  http:\n  - route: [{{destination: {{host: a}}}}]\n    {field}\n"
        ))
    };
    for field in [
        "timeout: 1e400s",
        "timeout: 100000h",
        "timeout: 99999999999999999999h",
        "timeout: -1s",
        "timeout: 1ns",
        "timeout: 5",
        "timeout: .inf",
        "timeout: []",
        "timeout: {s: 1}",
        "retries: {attempts: 101}",
        "retries: {attempts: -1}",
        "retries: {attempts: 1.5}",
        "retries: {attempts: 99999999999999999999999999}",
        "retries: {attempts: .nan}",
        "retries: {attempts: 1, perTryTimeout: 0s}",
        "retries: {attempts: 1, retryOn: '5xx,99'}",
        "retries: yes",
        "match: [{port: 0}]",
        "match: [{port: 65536}]",
        "match: [{port: 1e9}]",
        "match: {}",
        "match: [[]]",
        "rewrite: {uri: 'a b'}",
    ] {
        assert_eq!(rule(field).len(), 1, "{field}: {:?}", rule(field));
    }
    assert_eq!(rule("timeout: 0s"), [""; 0]);
}

#[test]
fn f5_wrong_types_at_every_level() {
    for object in objects(EVERYTHING) {
        for path in paths(&object.value).into_iter().filter(|path| path.len() > 1 && path[0] == "spec") {
            for wrong in [json!({"a": 1}), json!([[1]]), json!(true), json!(-1.5e300), json!("\u{0}")] {
                let mut value = (*object.value).clone();
                *at(&mut value, &path) = wrong;
                let _ = validate(&Object { value: Arc::new(value), ..object.clone() });
            }
        }
    }
}

#[test]
fn f6_texts_that_nest_without_end() {
    for depth in [1_000, 10_000, 100_000] {
        for (open, close) in [("[", "]"), ("{a: ", "}"), ("{\"a\":", "}"), ("- ", ""), ("? ", "")] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(yaml::parse(&text).is_err(), "{open} {depth}");
        }
    }
    let depth = |n: usize| format!("a: {}1{}", "[".repeat(n), "]".repeat(n));
    assert!(yaml::parse(&depth(30)).is_ok());
}

#[test]
fn f6_an_object_of_many_bytes_is_read_and_named_where_it_is_wrong() {
    let long = "x".repeat(1_500_000);
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hosts: [a]\n";
    let body = format!("{head}  http:\n  - directResponse: {{status: 200, body: {{string: {long}}}}}\n");
    assert_eq!(errors(&body), ["spec.http[0].directResponse.body: has 1500000 bytes; the most is 1048576"]);
    let header = format!(
        "{head}  http:\n  - match: [{{headers: {{a: {{exact: {long}}}}}}}]\n    directResponse: {{status: 200}}\n"
    );
    assert_eq!(errors(&header), ["spec.http[0].match[0].headers.a: longer than 8192 bytes"]);
}

#[test]
fn f6_an_object_that_is_too_large_is_refused_whole() {
    let values: String =
        (0..2000).map(|i| format!("    - {{uri: {{exact: /{i}{}}}}}\n", "x".repeat(1000))).collect();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec:\n  hosts: [a]\n  http:\n  - directResponse: {{status: 200}}\n    match:\n{values}"
    );
    let errors = errors(&text);
    assert!(errors.len() == 1 && errors[0].contains("the most is 1572864"), "{errors:?}");
}

#[test]
fn f6_a_file_of_many_documents_is_read() {
    let text: String = (0..5_000)
        .map(|i| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: n{i}}}\n---\n"))
        .collect();
    assert_eq!(checked(&text).objects, 5_000);
}

#[test]
fn f6_keys_that_are_written_twice() {
    let reason = |text: &str| checked(text).reports.remove(0).reason;
    assert!(reason("a: 1\nkind: X\na: 2\n").contains("duplicate"), "{}", reason("a: 1\nkind: X\na: 2\n"));
    assert!(reason("{\"a\": 1, \"a\": 2}").contains("duplicate"));
    let both = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hosts: [a]\n  exportTo: ['*']\n  export_to: ['.']\n  http: [{directResponse: {status: 200}}]\n";
    assert_eq!(errors(both).len(), 1, "{:?}", errors(both));
}

// --- whatever is written ---

fn paths(value: &Value) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (step, value) in below {
        all.extend(paths(value).into_iter().map(|rest| [vec![step.clone()], rest].concat()));
    }
    all
}

fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match value {
        Value::Array(list) => &mut list[step.parse::<usize>().expect("this works")],
        value => &mut value[step],
    })
}

fn anything() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just(String::new()),
        Just("*".to_owned()),
        Just("*.".to_owned()),
        Just("%".to_owned()),
        Just("{**}/{".to_owned()),
        Just("..".to_owned()),
        Just("1h-1s".to_owned()),
        Just("::/0".to_owned()),
        Just("spiffe://".to_owned()),
        Just("é\u{0}".to_owned()),
        "[ -~]{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-zA-Z/.*:-]{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f5_objects_that_were_bent_never_panic(
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), anything()), 1..4)
    ) {
        let mut all = objects(&format!("{EVERYTHING}\n---\n{SAMPLE}"));
        for (which, place, new) in picks {
            let which = which.index(all.len());
            let mut value = (*all[which].value).clone();
            let places = paths(&value);
            *at(&mut value, &places[place.index(places.len())]) = new;
            all[which].value = Arc::new(value);
        }
        let mut world = World::default();
        take(&mut world, &all);
        let _ = (analyse(&world), compile_all(&world, &pod("client")));
        for object in &all {
            for finding in validate(object).findings.errors {
                prop_assert!(!finding.reason.is_empty());
            }
        }
    }

    #[test]
    fn f6_texts_that_were_cut_or_bent_never_panic(
        cut in any::<prop::sample::Index>(), length in 0usize..40, with in "[ -~\n\t\u{feff}é]{0,8}"
    ) {
        let start = EVERYTHING.floor_char_boundary(cut.index(EVERYTHING.len()));
        let end = EVERYTHING.floor_char_boundary((start + length).min(EVERYTHING.len()));
        let _ = checked(&format!("{}{with}{}", &EVERYTHING[..start], &EVERYTHING[end.max(start)..]));
    }
}

#[test]
fn everything_is_accepted_and_compiled() {
    let checked = checked(EVERYTHING);
    let refused: Vec<_> = checked.reports.iter().filter(|r| r.severity != Severity::Warning).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let mut world = World::default();
    take(&mut world, &objects(EVERYTHING));
    let services: BTreeSet<_> =
        world.virtual_services.in_force().map(|o: &Arc<VirtualService>| o.hosts.len()).collect();
    assert!(!services.is_empty());
    assert!(compile_all(&world, &pod("client")) > 3);
}

// --- directories that change ---

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-hardening-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("this works");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("this works");
    }

    fn watched(&self) -> mpsc::Receiver<Changes> {
        let (send, changes) = mpsc::channel(16);
        tokio::spawn(Directories::new(vec![self.0.clone()]).run(send));
        changes
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn namespaces(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n"))
        .collect()
}

/// The next message, well before the sweep that would find everything anyway.
async fn next(changes: &mut mpsc::Receiver<Changes>) -> (Vec<String>, usize) {
    let changes = tokio::time::timeout(Duration::from_secs(4), changes.recv()).await;
    let changes = changes.expect("an event of the file system").expect("the source goes on");
    let shown = |event: &Event| match event {
        Event::Apply(object) => format!("+{}", object.id.name),
        Event::Delete(id) => format!("-{}", id.name),
        Event::Reset(objects) => format!("={}", objects.len()),
        other => format!("{other:?}"),
    };
    (changes.events.iter().map(shown).collect(), changes.problems.len())
}

#[tokio::test]
async fn a_directory_that_vanishes_and_comes_back_is_watched_again() {
    let folder = Folder::new("vanish");
    folder.write("x.yaml", &namespaces(&["a"]));
    let mut changes = folder.watched();
    assert_eq!(next(&mut changes).await, (vec!["=1".to_owned()], 0));
    let away = folder.0.with_extension("away");
    std::fs::rename(&folder.0, &away).unwrap();
    assert_eq!(next(&mut changes).await, (vec![], 1), "what it said stays in force, and a problem says so");
    std::fs::remove_dir_all(&away).unwrap();
    std::fs::create_dir(&folder.0).unwrap();
    loop {
        let (events, problems) = next(&mut changes).await;
        if problems == 0 {
            assert_eq!(events, ["-a"], "the directory is there and says nothing");
            break;
        }
    }
    folder.write("y.yaml", &namespaces(&["b"]));
    assert_eq!(next(&mut changes).await, (vec!["+b".to_owned()], 0));
    std::fs::create_dir(folder.0.join("deep")).unwrap();
    folder.write("deep/z.yaml", &namespaces(&["c"]));
    assert_eq!(next(&mut changes).await, (vec!["+c".to_owned()], 0));
}

#[tokio::test]
async fn a_file_that_is_half_written_is_not_read_before_it_is_closed() {
    use std::io::Write;
    let folder = Folder::new("half");
    folder.write("x.yaml", &namespaces(&["a", "b"]));
    let mut changes = folder.watched();
    assert_eq!(next(&mut changes).await.0, ["=2"]);
    let mut file = std::fs::File::create(folder.0.join("x.yaml")).unwrap();
    file.write_all(namespaces(&["a"]).as_bytes()).unwrap();
    folder.write("y.yaml", &namespaces(&["c"]));
    assert_eq!(next(&mut changes).await.0, ["+c"], "b is not gone");
    file.write_all(namespaces(&["b", "d"]).as_bytes()).unwrap();
    drop(file);
    assert_eq!(next(&mut changes).await.0, ["+d"]);
}

#[tokio::test]
async fn a_directory_that_is_not_there_at_first_is_no_empty_world() {
    let folder = Folder::new("late");
    std::fs::remove_dir(&folder.0).unwrap();
    let mut changes = folder.watched();
    assert_eq!(next(&mut changes).await, (vec![], 1));
    let made = folder.0.with_extension("made");
    std::fs::create_dir(&made).unwrap();
    std::fs::write(made.join("x.yaml"), namespaces(&["a"])).unwrap();
    std::fs::rename(&made, &folder.0).unwrap();
    assert_eq!(next(&mut changes).await, (vec!["=1".to_owned()], 0));
}
