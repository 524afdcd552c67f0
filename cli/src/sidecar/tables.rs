//! What a sidecar holds, in tables. Pure.

use serde_json::Value;

use super::Difference;
use crate::output::Table;

/// Rules of services, in the order in which they are tried.
pub(super) fn routes(services: &Value) -> String {
    let mut table = Table::new(&["SERVICE", "PORT", "PROTOCOL", "#", "MATCH", "TO", "OBJECT"]);
    for service in list(services) {
        for port in list(&service["ports"]) {
            for (number, half, rule) in rules(port) {
                table.row(vec![
                    host(text(service, "name")),
                    number_of(&port["port"]),
                    half,
                    number.to_string(),
                    matches(rule),
                    action(rule),
                    text(rule, "source").to_owned(),
                ]);
            }
        }
    }
    or_nothing(table, services, "no service was asked for yet: sidecars ask when traffic goes there\n")
}

/// The rules that a port can take, numbered, each with what it is for: its protocol; the half of it where bytes decide.
fn rules(port: &Value) -> impl Iterator<Item = (usize, String, &Value)> {
    let protocol = text(port, "protocol").to_lowercase();
    let (http, tcp) = match protocol.as_str() {
        "http" | "http2" | "grpc" => (Some(protocol), None),
        "auto" => (Some("auto: http".to_owned()), Some("auto: tcp".to_owned())),
        _ => (None, Some(protocol)),
    };
    let half = |label: Option<String>, key: &'static str| {
        let rules = label.into_iter().flat_map(move |label| std::iter::repeat(label).zip(list(&port[key])));
        rules.enumerate().map(|(number, (label, rule))| (number, label, rule))
    };
    half(http, "http").chain(half(tcp, "tcp"))
}

/// Clusters, with what is under way.
pub(super) fn clusters(clusters: &Value) -> String {
    let mut table = Table::new(&[
        "CLUSTER",
        "BALANCER",
        "ENDPOINTS",
        "EJECTED",
        "CONNECTIONS",
        "REQUESTS",
        "PENDING",
        "RETRIES",
        "DESTINATIONRULE",
    ]);
    for cluster in list(clusters) {
        table.row(vec![
            text(cluster, "name").to_owned(),
            text(cluster, "balancer").split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
            list(&cluster["endpoints"]).len().to_string(),
            number_of(&cluster["ejected"]),
            number_of(&cluster["connections"]),
            number_of(&cluster["requests"]),
            number_of(&cluster["pendingRequests"]),
            number_of(&cluster["retries"]),
            dash(text(cluster, "destinationRule")),
        ]);
    }
    or_nothing(table, clusters, "no cluster is held yet\n")
}

/// Endpoints of clusters.
pub(super) fn endpoints(clusters: &Value) -> String {
    let mut table =
        Table::new(&["CLUSTER", "ENDPOINT", "POD", "STATE", "WEIGHT", "ACTIVE", "TRANSPORT", "IDENTITY"]);
    for cluster in list(clusters) {
        for endpoint in list(&cluster["endpoints"]) {
            table.row(vec![
                text(cluster, "name").to_owned(),
                text(endpoint, "address").to_owned(),
                dash(text(endpoint, "pod")),
                state(endpoint),
                number_of(&endpoint["weight"]),
                number_of(&endpoint["active"]),
                transport(text(endpoint, "transport")),
                dash(text(endpoint, "identity")),
            ]);
        }
    }
    or_nothing(table, clusters, "no endpoint is held yet\n")
}

/// What comes in and goes out.
pub(super) fn listeners(workload: &Value) -> String {
    let (inbound, outbound) = (&workload["inbound"], &workload["outbound"]);
    let mut ports = Table::new(&["INBOUND", "PROTOCOL", "MTLS", "SERVICE"]);
    for port in list(&inbound["ports"]) {
        ports.row(vec![
            number_of(&port["port"]),
            text(port, "protocol").to_lowercase(),
            text(port, "mtls").to_uppercase(),
            dash(text(port, "service")),
        ]);
    }
    ports.row(vec!["any other".into(), String::new(), text(inbound, "mtls").to_uppercase(), "-".into()]);
    let mut policies = Table::new(&["POLICY", "ACTION", "RULES", ""]);
    for policy in list(&inbound["policies"]) {
        let dry = if policy["dryRun"] == true { "dry run" } else { "" };
        let cells = [
            text(policy, "name").into(),
            text(policy, "action").into(),
            number_of(&policy["rules"]),
            dry.into(),
        ];
        policies.row(cells.into());
    }
    let none = list(&inbound["policies"]).is_empty();
    let policies =
        if none { "no policy: everybody who gets in may ask anything\n".into() } else { policies.text() };
    format!("{}\n{policies}\n{}", ports.text(), outgoing(workload, outbound))
}

fn outgoing(workload: &Value, outbound: &Value) -> String {
    let strings = |value: &Value| list(value).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let mut table = Table::new(&["OUTBOUND", ""]);
    for (name, value) in [
        ("mode", text(outbound, "mode").to_owned()),
        ("mesh ranges", strings(&outbound["meshRanges"])),
        ("explicit listeners", strings(&outbound["listeners"])),
        ("identity", text(workload, "identity").to_owned()),
        ("trust domains", strings(&workload["trustDomains"])),
    ] {
        table.row(vec![name.to_owned(), dash(&value)]);
    }
    table.text()
}

/// The certificate.
pub(super) fn certificate(certificate: &Value) -> String {
    if certificate.is_null() {
        return "it has no certificate\n".into();
    }
    let mut table = Table::new(&["IDENTITY", "SERIAL", "NOT BEFORE", "NOT AFTER", "LEFT", "VALID"]);
    table.row(vec![
        text(certificate, "identity").to_owned(),
        text(certificate, "serial").to_owned(),
        text(certificate, "notBefore").to_owned(),
        text(certificate, "notAfter").to_owned(),
        left(certificate["secondsLeft"].as_u64().unwrap_or(0)),
        if certificate["valid"] == true { "yes" } else { "NO" }.to_owned(),
    ]);
    table.text()
}

/// What differs; nothing where nothing does.
pub(super) fn differences(difference: &Difference) -> String {
    if difference.differences.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["RESOURCE", "HELD", "MEANT", "", "WHY"]);
    for one in &difference.differences {
        let version = |version: &Option<String>| dash(version.as_deref().unwrap_or_default());
        table.row(vec![
            one.name.clone(),
            version(&one.held),
            version(&one.meant),
            one.kind.in_words().to_owned(),
            one.error.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}

fn or_nothing(table: Table, of: &Value, nothing: &str) -> String {
    if list(of).is_empty() { nothing.to_owned() } else { table.text() }
}

fn matches(rule: &Value) -> String {
    let all: Vec<_> = list(&rule["matches"]).iter().filter_map(Value::as_str).collect();
    if all.is_empty() { "any".into() } else { all.join(" | ") }
}

fn action(rule: &Value) -> String {
    let action = &rule["action"];
    for answer in ["redirect", "respond"] {
        if let Some(status) = action[answer].as_u64() {
            return format!("{answer} {status}");
        }
    }
    let to = if action["destinations"].is_array() { &action["destinations"] } else { &rule["destinations"] };
    let all = list(to);
    let whole = all.len() == 1;
    let each = all.iter().map(|to| match whole {
        true => text(to, "cluster").to_owned(),
        false => format!("{} {}", number_of(&to["weight"]), text(to, "cluster")),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn state(endpoint: &Value) -> String {
    match endpoint["ejectedForMillis"].as_u64() {
        Some(left) => format!("ejected {:.1}s", left as f64 / 1000.0),
        None => text(endpoint, "state").to_owned(),
    }
}

/// `Mutual(..)` is `mtls`.
fn transport(text: &str) -> String {
    let name = text.split(['(', ' ', '{']).next().unwrap_or_default();
    match name {
        "Mutual" => "mtls".into(),
        "Plain" | "Plaintext" => "plain".into(),
        _ => name.to_lowercase(),
    }
}

fn left(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

/// The namespace is in the host already, where it is a Service's.
fn host(name: &str) -> String {
    name.split_once('/').map_or(name, |(_, host)| host).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn number_of(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_stand_in_their_order_with_weights_and_objects() {
        let services = json!([{"name": "default/web.default.svc", "ports": [{"port": 80, "protocol": "Http", "http": [
            {"source": "default/web spec.http[0]", "matches": ["path exact /x"], "action": {"redirect": 301}},
            {"source": "default/web spec.http[1]", "matches": [], "action": {"destinations": [
                {"cluster": "web|v1", "weight": 80}, {"cluster": "web|v2", "weight": 20}]}}]}]}]);
        let text = routes(&services);
        let rows: Vec<_> = text.lines().skip(1).collect();
        assert!(rows[0].contains("path exact /x") && rows[0].contains("redirect 301"), "{text}");
        assert!(rows[1].contains("any") && rows[1].contains("80 web|v1, 20 web|v2"), "{text}");
        assert!(routes(&json!([])).contains("when traffic goes there"));
    }

    #[test]
    fn a_port_shows_the_rules_of_its_protocol_only() {
        let rule =
            json!({"source": "default", "matches": [], "destinations": [{"cluster": "web", "weight": 1}]});
        let shown = |protocol: &str| {
            let port = json!({"port": 80, "protocol": protocol, "http": [rule], "tcp": [rule]});
            rules(&port).map(|(number, label, _)| format!("{number} {label}")).collect::<Vec<_>>()
        };
        assert_eq!((shown("Grpc"), shown("Tls")), (vec!["0 grpc".to_owned()], vec!["0 tls".to_owned()]));
        assert_eq!(shown("Auto"), ["0 auto: http", "0 auto: tcp"]);
    }

    #[test]
    fn an_endpoint_that_is_set_aside_says_for_how_long() {
        let clusters = json!([{"name": "web", "endpoints": [
            {"address": "10.0.0.1:80", "state": "ejected", "ejectedForMillis": 12_300, "weight": 1, "active": 0,
             "transport": "Mutual(..)"}]}]);
        let text = endpoints(&clusters);
        assert!(text.contains("ejected 12.3s") && text.contains("mtls"), "{text}");
    }

    #[test]
    fn a_workload_without_policies_says_what_that_means() {
        let text = listeners(&json!({"inbound": {"mtls": "Permissive", "ports": []}, "outbound": {}}));
        assert!(
            text.contains("any other") && text.contains("PERMISSIVE") && text.contains("no policy"),
            "{text}"
        );
        assert_eq!(left(90) + &left(5400) + &left(86_400), "90s90m24h");
    }
}
