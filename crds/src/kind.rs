//! The table of kinds: groups, served versions, names, and what `kubectl get` shows.

use std::fmt;

use thiserror::Error;

use crate::slips;

/// The kinds that Weft honours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which requests and connections go where.
    VirtualService,
    /// How connections to a service are made.
    DestinationRule,
    /// Who may send what.
    AuthorizationPolicy,
    /// Plaintext or mutual TLS.
    PeerAuthentication,
    /// What a sidecar listens on and may reach.
    Sidecar,
    /// What a sidecar tells of its traffic.
    Telemetry,
}

/// Whose group an object is written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Our own, `*.weft.dev`.
    Weft,
    /// Istio's, `*.istio.io`.
    Istio,
}

/// A column that `kubectl get` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// `string` or `date`.
    pub type_: &'static str,
    /// Where the value stands in the object.
    pub json_path: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
}

/// Why an `apiVersion` and `kind` name nothing that Weft honours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    /// A kind that is honoured, in a version that is not served.
    #[error("{kind} is not served as `{api_version}`; write apiVersion {}", .served.join(" or "))]
    NotServed {
        /// The kind.
        kind: Kind,
        /// What was written.
        api_version: String,
        /// What is served in its group.
        served: Vec<String>,
    },
    /// A kind of Istio's API that Weft does not honour yet.
    #[error("{kind} of `{api_version}` is not honoured yet; honoured are {}", known())]
    NotHonouredYet {
        /// The kind.
        kind: &'static str,
        /// What was written.
        api_version: String,
    },
    /// Anything else.
    #[error("`{kind}` of `{api_version}` is not known{}; known are {}", hint(.kind), known())]
    Unknown {
        /// What was written.
        kind: String,
        /// What was written.
        api_version: String,
    },
}

/// The part of the mesh that a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Networking,
    Security,
    Telemetry,
    Extensions,
}

/// A kind of Istio's API that is not honoured yet: its objects apply, and are told so.
#[derive(Clone, Copy, Debug)]
pub struct Later {
    /// Its name, as in `kind:`.
    pub name: &'static str,
    /// Its plural.
    pub plural: &'static str,
    /// Short names for `kubectl get`.
    pub short_names: &'static [&'static str],
    /// Versions that Istio serves, the one that is stored first.
    pub versions: &'static [&'static str],
    family: Family,
}

const ALL_OF_NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// Kinds of Istio's API that come later.
pub const LATER: &[Later] = &[
    later("ServiceEntry", "serviceentries", &["se"], ALL_OF_NETWORKING, Family::Networking),
    later("Gateway", "gateways", &["gw"], ALL_OF_NETWORKING, Family::Networking),
    later("WorkloadEntry", "workloadentries", &["we"], ALL_OF_NETWORKING, Family::Networking),
    later("WorkloadGroup", "workloadgroups", &["wg"], ALL_OF_NETWORKING, Family::Networking),
    later("EnvoyFilter", "envoyfilters", &[], &["v1alpha3"], Family::Networking),
    later("ProxyConfig", "proxyconfigs", &[], &["v1beta1"], Family::Networking),
    later("RequestAuthentication", "requestauthentications", &["ra"], &["v1", "v1beta1"], Family::Security),
    later("WasmPlugin", "wasmplugins", &[], &["v1alpha1"], Family::Extensions),
];

const fn later(
    name: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    versions: &'static [&'static str],
    family: Family,
) -> Later {
    Later { name, plural, short_names, versions, family }
}

/// How old the object is.
pub(crate) const AGE: Column = Column {
    name: "Age",
    type_: "date",
    json_path: ".metadata.creationTimestamp",
    description: "When the object was made",
    priority: 0,
};

/// Whether the object is in force.
pub(crate) const ACCEPTED: Column = Column {
    name: "Accepted",
    type_: "string",
    json_path: ".status.conditions[?(@.type=='Accepted')].status",
    description: "Whether the object is in force",
    priority: 0,
};

/// How the object stands, from its conditions.
const STANDING: [Column; 4] = [
    ACCEPTED,
    Column {
        name: "Programmed",
        type_: "string",
        json_path: ".status.conditions[?(@.type=='Programmed')].status",
        description: "Whether every sidecar that it concerns has it",
        priority: 0,
    },
    Column {
        name: "Sidecars",
        type_: "string",
        json_path: ".status.conditions[?(@.type=='Programmed')].message",
        description: "On how many sidecars it is",
        priority: 1,
    },
    Column {
        name: "Why",
        type_: "string",
        json_path: ".status.conditions[?(@.type=='Accepted')].message",
        description: "What is wrong with it, or odd",
        priority: 1,
    },
];

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [
        Kind::VirtualService,
        Kind::DestinationRule,
        Kind::AuthorizationPolicy,
        Kind::PeerAuthentication,
        Kind::Sidecar,
        Kind::Telemetry,
    ];

    /// Finds the kind that a manifest names.
    pub fn lookup(api_version: &str, kind: &str) -> Result<(Kind, Origin), LookupError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if let Some((kind, origin)) = find(group, kind) {
            return match kind.versions(origin).contains(&version) {
                true => Ok((kind, origin)),
                false => Err(LookupError::NotServed {
                    kind,
                    api_version: api_version.to_owned(),
                    served: kind.api_versions(origin).collect(),
                }),
            };
        }
        Err(match LATER.iter().find(|later| later.name == kind && later.family.has(group)) {
            Some(later) => {
                LookupError::NotHonouredYet { kind: later.name, api_version: api_version.to_owned() }
            }
            None => LookupError::Unknown { kind: kind.to_owned(), api_version: api_version.to_owned() },
        })
    }

    /// The name, as in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::VirtualService => "VirtualService",
            Kind::DestinationRule => "DestinationRule",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::PeerAuthentication => "PeerAuthentication",
            Kind::Sidecar => "Sidecar",
            Kind::Telemetry => "Telemetry",
        }
    }

    /// The API group.
    pub fn group(self, origin: Origin) -> &'static str {
        self.family().group(origin)
    }

    /// Served versions, the one that is stored first.
    pub fn versions(self, origin: Origin) -> &'static [&'static str] {
        match (origin, self.family()) {
            (Origin::Weft, _) => &["v1"],
            (Origin::Istio, Family::Networking) => &["v1", "v1beta1", "v1alpha3"],
            (Origin::Istio, Family::Security) => &["v1", "v1beta1"],
            (Origin::Istio, Family::Telemetry | Family::Extensions) => &["v1", "v1alpha1"],
        }
    }

    /// Group and version together, for each served version.
    pub fn api_versions(self, origin: Origin) -> impl Iterator<Item = String> {
        let group = self.group(origin);
        self.versions(origin).iter().map(move |version| format!("{group}/{version}"))
    }

    /// The plural, as in resource paths and `kubectl get`.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::VirtualService => "virtualservices",
            Kind::DestinationRule => "destinationrules",
            Kind::AuthorizationPolicy => "authorizationpolicies",
            Kind::PeerAuthentication => "peerauthentications",
            Kind::Sidecar => "sidecars",
            Kind::Telemetry => "telemetries",
        }
    }

    /// The singular, in small letters.
    pub fn singular(self) -> &'static str {
        match self {
            Kind::VirtualService => "virtualservice",
            Kind::DestinationRule => "destinationrule",
            Kind::AuthorizationPolicy => "authorizationpolicy",
            Kind::PeerAuthentication => "peerauthentication",
            Kind::Sidecar => "sidecar",
            Kind::Telemetry => "telemetry",
        }
    }

    /// Short names for `kubectl get`.
    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Kind::VirtualService => &["vs"],
            Kind::DestinationRule => &["dr"],
            Kind::AuthorizationPolicy => &["ap"],
            Kind::PeerAuthentication => &["pa"],
            Kind::Sidecar => &[],
            // The singular is short enough.
            Kind::Telemetry => &[],
        }
    }

    /// Categories, which `kubectl get` lists together.
    pub fn categories(self, origin: Origin) -> &'static [&'static str] {
        match (origin, self.family()) {
            (Origin::Weft, Family::Networking) => &["weft", "networking-weft"],
            (Origin::Weft, Family::Security) => &["weft", "security-weft"],
            (Origin::Weft, _) => &["weft"],
            (Origin::Istio, Family::Networking) => &["weft", "istio-io", "networking-istio-io"],
            (Origin::Istio, Family::Security) => &["weft", "istio-io", "security-istio-io"],
            (Origin::Istio, _) => &["weft", "istio-io"],
        }
    }

    /// What `kubectl get` prints beside the name.
    pub fn columns(self) -> Vec<Column> {
        let column = |name, json_path, description| Column {
            name,
            type_: "string",
            json_path,
            description,
            priority: 0,
        };
        let mut columns = match self {
            Kind::VirtualService => vec![
                column("Hosts", ".spec.hosts", "Names that clients address"),
                Column { priority: 1, ..column("Gateways", ".spec.gateways", "Where the rules apply") },
            ],
            Kind::DestinationRule => vec![column("Host", ".spec.host", "The service")],
            Kind::AuthorizationPolicy => vec![column("Action", ".spec.action", "What happens on a match")],
            Kind::PeerAuthentication => vec![column("Mode", ".spec.mtls.mode", "The mode for all ports")],
            Kind::Sidecar | Kind::Telemetry => vec![],
        };
        columns.extend(STANDING);
        columns.push(AGE);
        columns
    }

    fn family(self) -> Family {
        match self {
            Kind::VirtualService | Kind::DestinationRule | Kind::Sidecar => Family::Networking,
            Kind::AuthorizationPolicy | Kind::PeerAuthentication => Family::Security,
            Kind::Telemetry => Family::Telemetry,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Later {
    /// The API group.
    pub fn group(&self) -> &'static str {
        self.family.group(Origin::Istio)
    }
}

impl Origin {
    /// Both origins, ours first.
    pub const ALL: [Origin; 2] = [Origin::Weft, Origin::Istio];

    /// Whether a group is one that Weft reads under this origin, whatever the kind.
    pub fn has_group(self, group: &str) -> bool {
        Family::ALL.iter().any(|family| family.group(self) == group)
    }
}

impl Family {
    const ALL: [Family; 4] = [Family::Networking, Family::Security, Family::Telemetry, Family::Extensions];

    fn group(self, origin: Origin) -> &'static str {
        match (origin, self) {
            (Origin::Weft, Family::Networking) => "networking.weft.dev",
            (Origin::Weft, Family::Security) => "security.weft.dev",
            (Origin::Weft, Family::Telemetry) => "telemetry.weft.dev",
            (Origin::Weft, Family::Extensions) => "extensions.weft.dev",
            (Origin::Istio, Family::Networking) => "networking.istio.io",
            (Origin::Istio, Family::Security) => "security.istio.io",
            (Origin::Istio, Family::Telemetry) => "telemetry.istio.io",
            (Origin::Istio, Family::Extensions) => "extensions.istio.io",
        }
    }

    fn has(self, group: &str) -> bool {
        Origin::ALL.iter().any(|origin| self.group(*origin) == group)
    }
}

fn find(group: &str, name: &str) -> Option<(Kind, Origin)> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
    let origin = Origin::ALL.into_iter().find(|origin| kind.group(*origin) == group)?;
    Some((kind, origin))
}

fn known() -> String {
    let names: Vec<_> =
        Kind::ALL.iter().map(|kind| format!("{kind} ({})", kind.group(Origin::Weft))).collect();
    names.join(", ")
}

/// What may have been meant: a kind in other capitals or under another group, or with a letter that slipped.
fn hint(name: &str) -> String {
    let near = slips::near(name, Kind::ALL.into_iter().map(Kind::name));
    let meant = |kind: &Kind| kind.name().eq_ignore_ascii_case(name) || Some(kind.name()) == near;
    match Kind::ALL.into_iter().find(meant) {
        Some(kind) => format!(
            " (did you mean kind {kind} of {} or {}?)",
            kind.group(Origin::Weft),
            kind.group(Origin::Istio)
        ),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_version_is_found() {
        for kind in Kind::ALL {
            for origin in Origin::ALL {
                for api_version in kind.api_versions(origin) {
                    assert_eq!(Kind::lookup(&api_version, kind.name()), Ok((kind, origin)));
                }
            }
        }
    }

    #[test]
    fn a_version_that_is_not_served_is_told_from_an_unknown_kind() {
        let error = Kind::lookup("networking.weft.dev/v1alpha3", "Sidecar").expect_err("one version only");
        assert_eq!(
            error.to_string(),
            "Sidecar is not served as `networking.weft.dev/v1alpha3`; write apiVersion networking.weft.dev/v1"
        );
        let error = Kind::lookup("security.istio.io/v1alpha3", "PeerAuthentication").expect_err("not served");
        assert!(error.to_string().ends_with("security.istio.io/v1 or security.istio.io/v1beta1"), "{error}");
    }

    #[test]
    fn kinds_that_come_later_are_their_own_case() {
        for (api_version, kind) in [
            ("networking.istio.io/v1", "ServiceEntry"),
            ("networking.weft.dev/v1", "Gateway"),
            ("networking.istio.io/v1alpha3", "EnvoyFilter"),
            ("security.istio.io/v1", "RequestAuthentication"),
            ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        ] {
            let error = Kind::lookup(api_version, kind).expect_err(kind);
            assert!(matches!(error, LookupError::NotHonouredYet { .. }), "{error:?}");
        }
    }

    #[test]
    fn anything_else_is_unknown_with_what_is_known() {
        let unknown = |api_version, kind| match Kind::lookup(api_version, kind) {
            Err(error @ LookupError::Unknown { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(unknown("v1", "Frobnicator").contains("known are VirtualService (networking.weft.dev), "));
        assert!(
            unknown("networking.istio.io/v1", "virtualservice").contains("did you mean kind VirtualService")
                && unknown("networking.istio.io/v1", "VirtualServce")
                    .contains("did you mean kind VirtualService")
        );
        assert!(unknown("security.istio.io/v1", "VirtualService").contains("networking.istio.io"));
        assert!(unknown("gateway.networking.k8s.io/v1", "Gateway").contains("is not known"));
    }
}
