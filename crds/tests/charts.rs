//! The chart's definitions are those of the types.
//!
//! `UPDATE_CRDS=1 cargo test -p weft-crds --test charts` writes them.

use std::path::Path;

use weft_crds::crd::{crds, yaml};
use weft_crds::kind::Origin;

/// The first line of the files: they are not to be edited.
const HEAD: &str = "# Made by `weft crds` from the types in crds/src; not to be edited by hand.\n";

/// What a client may keep of an object in the annotation of its last application: all annotations together, in bytes.
const ANNOTATIONS: usize = 256 << 10;

#[test]
fn the_charts_files_are_current() {
    for (origin, name) in [(Origin::Weft, "crds-weft.yaml"), (Origin::Istio, "crds-istio.yaml")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/weft").join(name);
        let current = format!("{HEAD}{}", yaml(&crds(origin)).expect("YAML"));
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("charts/weft can be made");
            std::fs::write(&path, &current).expect("the file can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == current, "{name} is behind the types: see the head of tests/charts.rs");
    }
}

#[test]
fn the_files_say_what_the_types_say() {
    for origin in Origin::ALL {
        let manifests = crds(origin);
        let text = yaml(&manifests).expect("YAML");
        let back: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        assert!(back == manifests, "the text of {origin:?} says something else");
    }
}

#[test]
fn each_fits_into_the_annotation_of_kubectl_apply() {
    for crd in Origin::ALL.into_iter().flat_map(crds) {
        let (name, bytes) = (&crd["metadata"]["name"], crd.to_string().len());
        assert!(bytes < ANNOTATIONS, "{name} has {bytes} bytes");
    }
}
