//! What in a pod does not go with a sidecar.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parts::{REDIRECT, SIDECAR};
use super::raw::{Malformed, is_native_sidecar, items, malformed, name};
use super::settings::{InjectionSettings, RedirectMode};

/// Pod Security's label on a namespace.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Refuses a pod whose sidecar could not do what it is for.
///
/// # Errors
/// The field, why, and what to change.
pub(super) fn check(spec: &Value, settings: &InjectionSettings) -> Result<(), Malformed> {
    for list in ["containers", "initContainers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            let at = format!("spec.{list}[{i}]");
            same_name(container, &at)?;
            same_user(spec, container, &at, settings.uid)?;
        }
    }
    Ok(())
}

fn same_name(container: &Value, at: &str) -> Result<(), Malformed> {
    match name(container) {
        name @ (SIDECAR | REDIRECT) => {
            let reason =
                format!("`{name}` is the name of the container that injection adds; give another one");
            Err(malformed(format!("{at}.name"), reason))
        }
        _ => Ok(()),
    }
}

/// Packets of the sidecar's user are not redirected: a container of the same user would bypass every policy.
fn same_user(spec: &Value, container: &Value, at: &str, uid: u32) -> Result<(), Malformed> {
    let own = &container["securityContext"]["runAsUser"];
    let (user, field) = match own.as_u64() {
        Some(user) => (Some(user), format!("{at}.securityContext.runAsUser")),
        None => (spec["securityContext"]["runAsUser"].as_u64(), "spec.securityContext.runAsUser".to_owned()),
    };
    match user == Some(u64::from(uid)) {
        true => {
            let who = name(container);
            let reason = format!(
                "{uid} is the sidecar's own user: traffic of container `{who}` would bypass the mesh and its policies; \
                 give it another user, or the pod the label weft.dev/inject: \"false\""
            );
            Err(malformed(field, reason))
        }
        false => Ok(()),
    }
}

/// What its author should know.
pub(super) fn warn(
    spec: &Value,
    namespace_labels: &BTreeMap<String, String>,
    settings: &InjectionSettings,
    redirects: bool,
    warnings: &mut Vec<String>,
) {
    if let Some(level @ ("baseline" | "restricted")) = namespace_labels.get(POD_SECURITY).map(String::as_str)
        && redirects
    {
        warnings.push(format!(
            "the namespace's label {POD_SECURITY}: {level} refuses NET_ADMIN, which the init container {REDIRECT} \
             needs: the pod will not be created; label the namespace `privileged`"
        ));
    }
    if settings.redirect.mode == RedirectMode::Iptables && settings.redirect.image.is_none() {
        warnings.push("redirect.mode is iptables, and redirect.image names no image that has it".to_owned());
    }
    warn_of_ports(spec, settings, warnings);
}

fn warn_of_ports(spec: &Value, settings: &InjectionSettings, warnings: &mut Vec<String>) {
    for (list, needs_beside) in [("containers", false), ("initContainers", true)] {
        for (i, container) in items(spec, list).iter().enumerate() {
            if needs_beside && !is_native_sidecar(container) {
                continue;
            }
            for (k, port) in items(container, "ports").iter().enumerate() {
                let number = port["containerPort"].as_u64();
                if settings.ports.all().iter().any(|(_, own)| Some(u64::from(*own)) == number) {
                    let number = number.unwrap_or_default();
                    warnings.push(format!(
                        "spec.{list}[{i}].ports[{k}].containerPort: {number} is a port of the sidecar: the \
                         application cannot listen on it"
                    ));
                }
            }
        }
    }
}
