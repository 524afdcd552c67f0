//! The authority of the webhooks near its end, by a clock of the test's own: it is replaced in time, and the one before is
//! believed beside it for a while.

use std::time::{Duration, SystemTime};

use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use weft_controller::webhook::certificate::{Judgement, Material, Names};
use weft_controller::webhook::keeper::Keeper;
use weft_e2e::kubectl::Kubectl;

use crate::namespace;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// An authority lives for ten years, and its end is met a year before.
const MET: Duration = DAY.saturating_mul(9 * 365 + 3);
const REVISION: &str = "ending";

/// What the API server is told to believe of each webhook.
fn believed(kubectl: &Kubectl) -> Vec<String> {
    let of = |kind: &str, name: &str| {
        let found = kubectl.get(&[kind, name]).expect("a configuration");
        let bundle = found["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
        let bytes = base64::engine::general_purpose::STANDARD.decode(bundle).expect("base64");
        String::from_utf8(bytes).expect("PEM")
    };
    vec![
        of("mutatingwebhookconfiguration", "weft-injector-ending"),
        of("validatingwebhookconfiguration", "weft-validator-ending"),
    ]
}

/// Configurations that concern no object.
fn configure(kubectl: &Kubectl) {
    for (kind, name) in [
        ("MutatingWebhookConfiguration", "weft-injector-ending"),
        ("ValidatingWebhookConfiguration", "weft-validator-ending"),
    ] {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
            "webhooks": [{
                "name": "ending.weft.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [{"apiGroups": ["nobody.example"], "apiVersions": ["*"], "operations": ["CREATE"],
                    "resources": ["*"]}],
            }],
        });
        kubectl.apply(&configuration.to_string()).expect("a configuration");
    }
}

async fn client(kubectl: &Kubectl) -> Client {
    let file = Kubeconfig::read_from(kubectl.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

#[tokio::test]
async fn the_authority_is_replaced_a_year_before_its_end_and_the_one_before_is_believed_beside_it() {
    let Some(kubectl) = namespace("ending") else { return };
    configure(&kubectl);
    let client = client(&kubectl).await;
    let names = Names::of_service("weft-controller", "ending");
    let keeper = Keeper::new(client.clone(), "ending", REVISION, names.clone());
    let secrets: Api<Secret> = Api::namespaced(client, "ending");
    let material = async || {
        let secret = secrets.get("weft-webhook-ending").await.expect("a Secret");
        Material::of_secret(secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)))
    };
    let authority = || -> Value {
        kubectl.get(&["secret", "weft-webhook-ending"]).expect("it")["data"]["ca.crt"].clone()
    };

    let now = SystemTime::now();
    keeper.ensure(now.into()).await.expect("made");
    let (first, before) = (authority(), believed(&kubectl));
    assert!(before[0].matches("BEGIN").count() == 1 && before[0] == before[1], "{before:?}");

    let early = now + MET - 10 * DAY;
    keeper.ensure(early.into()).await.expect("a certificate");
    assert!(matches!(material().await.judge(&names, early.into()), Judgement::Keep(_)), "renewed");
    assert_eq!(
        (authority(), believed(&kubectl)),
        (first.clone(), before.clone()),
        "below the same authority"
    );

    let late = now + MET;
    keeper.ensure(late.into()).await.expect("another authority");
    let second = authority();
    assert_ne!(second, first);
    assert!(matches!(material().await.judge(&names, late.into()), Judgement::Keep(_)), "served at once");
    let both = believed(&kubectl);
    assert!(
        both.iter().all(|bundle| bundle.ends_with(&before[0]) && bundle.len() > before[0].len()),
        "{both:?}"
    );
    keeper.ensure((late + Duration::from_secs(60)).into()).await.expect("nothing to do");
    assert_eq!((authority(), believed(&kubectl)), (second.clone(), both.clone()));

    keeper.ensure((late + Duration::from_secs(3600)).into()).await.expect("alone");
    let alone = believed(&kubectl);
    assert!(
        alone.iter().zip(&both).all(|(one, two)| two.starts_with(one) && one.len() < two.len()),
        "{alone:?}"
    );
    assert_eq!(authority(), second);
}
