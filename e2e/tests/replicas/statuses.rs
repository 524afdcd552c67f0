//! Statuses beside those of others, and against somebody who writes all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use weft_controller::metrics::Metrics;
use weft_controller::pipeline::Published;
use weft_controller::push::publisher::Publisher;
use weft_controller::push::registry::Registry;
use weft_controller::report::{Account, Report, Severity};
use weft_controller::source::object::ObjectId;
use weft_controller::status::peers::Peers;
use weft_controller::status::writer::{Counts, StatusWriter};
use weft_core::model::name::ObjectName;
use weft_crds::crd;
use weft_crds::kind::Origin;
use weft_e2e::kubectl::Kubectl;

use crate::stage::{ROUTE, VIRTUAL_SERVICE};
use crate::{PATIENCE, client, namespace};

/// How long somebody else writes.
const WRITING: Duration = Duration::from_secs(5);

/// A writer that is told by the test what to say of a route.
struct Writer {
    kubectl: Kubectl,
    client: Client,
    worlds: watch::Sender<Published>,
    metrics: Metrics,
}

impl Writer {
    async fn start(name: &str) -> Option<Self> {
        let kubectl = namespace(name)?;
        let text = crd::yaml(&crd::crds(Origin::Istio)).expect("YAML");
        kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &text).expect("definitions");
        kubectl.until("served", PATIENCE, |kubectl| kubectl.apply(ROUTE)).expect("a route");
        let (worlds, receiver) = watch::channel(Published::default());
        let (client, metrics) = (client(&kubectl).await, Metrics::new().expect("metrics"));
        let writer = StatusWriter {
            client: client.clone(),
            worlds: receiver,
            counts: Counts { registry: Registry::default(), publisher: Publisher::default() },
            metrics: metrics.clone(),
        };
        let me = ObjectName { namespace: name.into(), name: "me".into() };
        tokio::spawn(writer.keep(Peers::new(name.into(), 1, me)));
        Some(Self { kubectl, client, worlds, metrics })
    }

    /// What is to be said of the route; nothing is wrong with it where there is no warning.
    fn says(&self, warning: Option<&str>) {
        let [group, kind, web] = ["networking.istio.io", "VirtualService", "web"].map(Into::into);
        let id = ObjectId { group, kind, namespace: self.kubectl.namespace().into(), name: web };
        let report = |reason: &str| Report {
            file: String::new(),
            line: 0,
            severity: Severity::Warning,
            object: String::new(),
            field: String::new(),
            reason: reason.to_owned(),
        };
        let reports = warning.map(report).into_iter().collect();
        let account = Account { api_version: "networking.istio.io/v1".into(), generation: 1, reports };
        let accounts = Arc::new(BTreeMap::from([(id, account)]));
        self.worlds.send_replace(Published { synced: true, accounts, ..Published::default() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_written_beside_those_of_others() {
    let Some(writer) = Writer::start("statuses").await else { return };
    let theirs = r#"{"status":{"conditions":[{"type":"Reconciled","status":"True","reason":"x","message":"y",
        "lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let patch = ["patch", VIRTUAL_SERVICE, "--subresource=status", "--type=merge", "--patch", theirs];
    writer.kubectl.run(&patch).expect("patched");
    writer.says(None);
    let conditions = |kubectl: &Kubectl| -> anyhow::Result<Vec<Value>> {
        let object = kubectl.get(&[VIRTUAL_SERVICE])?;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        ensure!(all.len() == 3, "{all:?}");
        Ok(all)
    };
    let all = writer.kubectl.until("written", PATIENCE, conditions).expect("written");
    let types: Vec<_> = all.iter().filter_map(|it| it["type"].as_str()).collect();
    assert_eq!(types, ["Reconciled", "Accepted", "Programmed"]);
    assert_eq!((all[0]["message"].as_str(), all[1]["status"].as_str()), (Some("y"), Some("True")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_a_status_all_the_time_loses_nothing_and_neither_do_we() {
    let Some(writer) = Writer::start("conflicts").await else { return };
    let resource = ApiResource {
        group: "networking.istio.io".into(),
        version: "v1".into(),
        api_version: "networking.istio.io/v1".into(),
        kind: "VirtualService".into(),
        plural: "virtualservices".into(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(writer.client.clone(), "conflicts", &resource);
    let (began, mut number) = (Instant::now(), 0u64);
    while began.elapsed() < WRITING {
        number += 1;
        writer.says(Some(&format!("said {}", began.elapsed().as_millis() / 300)));
        let theirs = Patch::Merge(json!({"status": {"theirs": number}}));
        api.patch_status("web", &PatchParams::default(), &theirs).await.expect("they write");
        let found = api.get("web").await.expect("the route").data;
        assert_eq!(
            found["status"]["theirs"], number,
            "what they wrote is there until they write again: {found}"
        );
    }
    writer.says(Some("the last"));
    let ours = |kubectl: &Kubectl| {
        let found = kubectl.get(&[VIRTUAL_SERVICE])?;
        ensure!(found["status"]["conditions"][0]["message"] == "the last", "{found}");
        Ok(found)
    };
    let found = writer.kubectl.until("written", PATIENCE, ours).expect("ours");
    assert_eq!(found["status"]["theirs"], number);
    let conflicts = writer.metrics.status_writes.with_label_values(&["conflict"]).get();
    println!("{number} writes of theirs, {conflicts} conflicts");
}
