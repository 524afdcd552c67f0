//! What of a pod's traffic is redirected: the annotations `traffic.sidecar.istio.io/*`, else the mesh's settings.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::{SettingsError, at, error};
use super::raw::annotation;

const PREFIX: &str = "traffic.sidecar.istio.io/";

/// What is redirected; each in the form of the annotation of this name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traffic {
    /// `*` or ports.
    pub include_inbound_ports: String,
    /// Ports.
    pub exclude_inbound_ports: String,
    /// Ports whose traffic is redirected whatever its destination.
    pub include_outbound_ports: String,
    /// Ports.
    pub exclude_outbound_ports: String,
    /// `*` or ranges.
    #[serde(rename = "includeOutboundIPRanges")]
    pub include_outbound_ip_ranges: String,
    /// Ranges.
    #[serde(rename = "excludeOutboundIPRanges")]
    pub exclude_outbound_ip_ranges: String,
}

/// What `weft-proxy redirect` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// Whether anything from outside comes to the sidecar.
    pub(super) takes_inbound: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ports,
    PortsOrAll,
    Ranges,
    RangesOrAll,
    Names,
}

/// Name of the annotation, argument, what it holds.
const FIELDS: [(&str, &str, Kind); 7] = [
    ("includeInboundPorts", "--include-inbound-ports", Kind::PortsOrAll),
    ("excludeInboundPorts", "--exclude-inbound-ports", Kind::Ports),
    ("includeOutboundPorts", "--include-outbound-ports", Kind::Ports),
    ("excludeOutboundPorts", "--exclude-outbound-ports", Kind::Ports),
    ("includeOutboundIPRanges", "--include-outbound-ranges", Kind::RangesOrAll),
    ("excludeOutboundIPRanges", "--exclude-outbound-ranges", Kind::Ranges),
    ("excludeInterfaces", "--exclude-interfaces", Kind::Names),
];

impl Plan {
    /// What holds for a pod.
    ///
    /// # Errors
    /// The annotation that cannot be read: a port more or less would not be noticed.
    pub(super) fn of_pod(settings: &Traffic, pod: &Value) -> Result<Self, SettingsError> {
        let texts = texts(settings);
        let written = |i: usize, name: &str| match annotation(pod, &format!("{PREFIX}{name}")) {
            Some(text) => (text.to_owned(), at(&format!("{PREFIX}{name}"))),
            None => (texts[i].to_owned(), format!("traffic.{name}")),
        };
        Self::read(written)
    }

    /// What holds for pods without annotations.
    ///
    /// # Errors
    /// The field that cannot be read.
    pub(super) fn of_settings(settings: &Traffic) -> Result<Self, SettingsError> {
        let texts = texts(settings);
        Self::read(|i, name| (texts[i].to_owned(), format!("traffic.{name}")))
    }

    /// `written` gives text and field path of each of [`FIELDS`].
    fn read(written: impl Fn(usize, &str) -> (String, String)) -> Result<Self, SettingsError> {
        let mut plan = Self { args: Vec::new(), takes_inbound: true };
        for (i, (name, flag, kind)) in FIELDS.into_iter().enumerate() {
            let (text, path) = written(i, name);
            let text = normal(&text, kind).map_err(|reason| error(path, reason))?;
            plan.takes_inbound &= !(kind == Kind::PortsOrAll && text.is_empty());
            if text != kind.default_text() {
                plan.args.push(format!("{flag}={text}"));
            }
        }
        Ok(plan)
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            include_inbound_ports: "*".to_owned(),
            exclude_inbound_ports: String::new(),
            include_outbound_ports: String::new(),
            exclude_outbound_ports: String::new(),
            include_outbound_ip_ranges: "*".to_owned(),
            exclude_outbound_ip_ranges: String::new(),
        }
    }
}

fn texts(settings: &Traffic) -> [&str; 7] {
    [
        &settings.include_inbound_ports,
        &settings.exclude_inbound_ports,
        &settings.include_outbound_ports,
        &settings.exclude_outbound_ports,
        &settings.include_outbound_ip_ranges,
        &settings.exclude_outbound_ip_ranges,
        "",
    ]
}

impl Kind {
    /// What the argument is where it is not given.
    fn default_text(self) -> &'static str {
        match self {
            Self::PortsOrAll | Self::RangesOrAll => "*",
            _ => "",
        }
    }
}

/// The text without spaces and empty items, each item checked.
fn normal(text: &str, kind: Kind) -> Result<String, String> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items == ["*"] && kind.default_text() == "*" {
        return Ok("*".to_owned());
    }
    match items.iter().find(|item| !kind.takes(item)) {
        Some(item) => Err(format!("`{item}` is no {}", kind.what())),
        None => Ok(items.join(",")),
    }
}

impl Kind {
    fn takes(self, item: &str) -> bool {
        match self {
            Self::Ports | Self::PortsOrAll => item.parse::<u16>().is_ok_and(|port| port != 0),
            Self::Ranges | Self::RangesOrAll => item.parse::<IpNet>().is_ok(),
            // The kernel's limit: 15 characters.
            Self::Names => item.len() < 16 && item.bytes().all(|b| b.is_ascii_graphic() && b != b'/'),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Ports | Self::PortsOrAll => "port; write numbers with commas, such as 80,8443",
            Self::Ranges | Self::RangesOrAll => {
                "range; write ranges with commas, such as 10.0.0.0/8,fd00::/8"
            }
            Self::Names => "interface; write names with commas, such as eth1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(name: &str, text: &str) -> Result<Plan, String> {
        let pod = json!({"metadata": {"annotations": {format!("{PREFIX}{name}"): text}}});
        Plan::of_pod(&Traffic::default(), &pod).map_err(|e| e.to_string())
    }

    fn argument(name: &str, text: &str) -> String {
        plan(name, text).unwrap().args.join(" ")
    }

    #[test]
    fn nothing_is_said_of_what_is_usual() {
        assert_eq!(
            Plan::of_settings(&Traffic::default()).unwrap(),
            Plan { args: vec![], takes_inbound: true }
        );
        assert_eq!(argument("includeInboundPorts", "*"), "");
    }

    #[test]
    fn annotations_become_arguments() {
        assert_eq!(argument("excludeOutboundPorts", " 80, 443,"), "--exclude-outbound-ports=80,443");
        assert_eq!(
            argument("excludeOutboundIPRanges", "10.0.0.1/32"),
            "--exclude-outbound-ranges=10.0.0.1/32"
        );
        assert_eq!(argument("includeOutboundIPRanges", ""), "--include-outbound-ranges=");
        assert_eq!(argument("excludeInterfaces", "net1"), "--exclude-interfaces=net1");
        assert!(!plan("includeInboundPorts", "").unwrap().takes_inbound);
        assert!(plan("includeInboundPorts", "80").unwrap().takes_inbound);
    }

    #[test]
    fn an_annotation_goes_before_the_settings() {
        let settings = Traffic { exclude_outbound_ports: "22".to_owned(), ..Traffic::default() };
        assert_eq!(Plan::of_pod(&settings, &json!({})).unwrap().args, ["--exclude-outbound-ports=22"]);
        let key = format!("{PREFIX}excludeOutboundPorts");
        let pod = json!({"metadata": {"annotations": {key: ""}}});
        assert_eq!(Plan::of_pod(&settings, &pod).unwrap().args, [""; 0]);
    }

    #[test]
    fn refusals_name_the_annotation() {
        let refusal = |name, text| plan(name, text).unwrap_err();
        let text = refusal("excludeInboundPorts", "80,http");
        let start = "metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]: `http` is no port";
        assert!(text.starts_with(start), "{text}");
        assert!(refusal("excludeInboundPorts", "*").contains("`*`"));
        assert!(refusal("excludeOutboundIPRanges", "10.0.0.1").contains("range"));
        assert!(refusal("includeOutboundPorts", "0").contains("port"));
        assert!(refusal("excludeInterfaces", "a b").contains("interface"));
    }
}
