//! What is watched: Kubernetes' own kinds always, the mesh's kinds in the best version that is served.

use std::sync::Arc;

use serde_json::Value;
use weft_crds::kind::{Kind, Origin};

use crate::source::object::Scope;

/// One resource of the API server, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What objects say: `v1`, `networking.weft.dev/v1`.
    pub api_version: Arc<str>,
    /// The path of its list.
    pub path: String,
    /// Which fields must have which values: `metadata.name=weft`.
    pub selector: Option<&'static str>,
    /// What a listing of it names.
    pub scope: Scope,
}

/// The one name of ConfigMaps of mesh-wide settings.
const SETTINGS_SELECTOR: &str = "metadata.name=weft";

impl Resource {
    /// A kind of Kubernetes itself, in all namespaces.
    pub fn core(group: &str, kind: &str, plural: &str) -> Self {
        let (api_version, root) = match group {
            "" => ("v1".to_owned(), "/api/v1".to_owned()),
            _ => (format!("{group}/v1"), format!("/apis/{group}/v1")),
        };
        Self {
            api_version: api_version.into(),
            path: format!("{root}/{plural}"),
            selector: None,
            scope: Scope { group: group.into(), kind: kind.into(), namespace: None },
        }
    }

    /// The ConfigMap of mesh-wide settings of one root namespace.
    pub fn settings(namespace: &str) -> Self {
        let core = Self::core("", "ConfigMap", "configmaps");
        Self {
            path: format!("/api/v1/namespaces/{namespace}/configmaps"),
            selector: Some(SETTINGS_SELECTOR),
            scope: Scope { namespace: Some(namespace.into()), ..core.scope },
            ..core
        }
    }

    /// One of the mesh's kinds.
    pub fn mesh(kind: Kind, origin: Origin, version: &str) -> Self {
        let (group, plural) = (kind.group(origin), kind.plural());
        Self {
            api_version: format!("{group}/{version}").into(),
            path: format!("/apis/{group}/{version}/{plural}"),
            selector: None,
            scope: Scope { group: group.into(), kind: kind.name().into(), namespace: None },
        }
    }
}

/// The kind that a CustomResourceDefinition defines, and the best of its versions that are served and known; `None` for
/// a kind that the mesh does not read, or of which no known version is served.
pub fn defined(definition: &Value) -> Option<(Kind, Origin, &'static str)> {
    let spec = &definition["spec"];
    let (group, name) = (spec["group"].as_str()?, spec["names"]["kind"].as_str()?);
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
    let origin = Origin::ALL.into_iter().find(|origin| kind.group(*origin) == group)?;
    let served = |version: &str| {
        let mut all = spec["versions"].as_array().into_iter().flatten();
        all.any(|v| v["name"] == *version && v["served"] == true)
    };
    let best = kind.versions(origin).iter().find(|version| served(version))?;
    Some((kind, origin, best))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(group: &str, kind: &str, versions: &[(&str, bool)]) -> Value {
        let versions: Vec<_> =
            versions.iter().map(|(name, served)| json!({"name": name, "served": served})).collect();
        json!({"spec": {"group": group, "names": {"kind": kind}, "versions": versions}})
    }

    #[test]
    fn the_best_served_version_is_taken() {
        let of = |versions: &[(&str, bool)]| {
            defined(&definition("networking.istio.io", "VirtualService", versions))
                .map(|(_, _, version)| version)
        };
        assert_eq!(of(&[("v1alpha3", true), ("v1beta1", true), ("v1", true)]), Some("v1"));
        assert_eq!(of(&[("v1alpha3", true), ("v1beta1", true), ("v1", false)]), Some("v1beta1"));
        assert_eq!(of(&[("v1alpha3", true)]), Some("v1alpha3"));
        assert_eq!(of(&[("v2", true)]), None);
    }

    #[test]
    fn only_the_kinds_of_the_mesh_are_taken() {
        let v1 = &[("v1", true)];
        let found = defined(&definition("security.weft.dev", "AuthorizationPolicy", v1));
        assert_eq!(found, Some((Kind::AuthorizationPolicy, Origin::Weft, "v1")));
        assert_eq!(defined(&definition("example.com", "VirtualService", v1)), None);
        assert_eq!(defined(&definition("networking.istio.io", "Gateway", v1)), None);
        assert_eq!(defined(&json!({"spec": {}})), None);
    }

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(Resource::core("", "Pod", "pods").path, "/api/v1/pods");
        let slices = Resource::core("discovery.k8s.io", "EndpointSlice", "endpointslices");
        assert_eq!(slices.path, "/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(Resource::settings("weft-system").path, "/api/v1/namespaces/weft-system/configmaps");
        let routes = Resource::mesh(Kind::VirtualService, Origin::Istio, "v1beta1");
        assert_eq!(routes.path, "/apis/networking.istio.io/v1beta1/virtualservices");
        assert_eq!(routes.scope.to_string(), "VirtualService.networking.istio.io");
    }
}
