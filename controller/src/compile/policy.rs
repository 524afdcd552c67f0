//! The policies that apply to a pod: those of the root namespaces and of its own that select it.

use std::sync::Arc;

use weft_core::matching::Wildcard;
use weft_core::model::policy::{self, Condition, Rule, ValueMatch};

use super::{Context, scope};
use crate::fragment::mesh::Mesh;
use crate::fragment::security::AuthorizationPolicy;

/// How policies name the mesh's own trust domain, whatever its name is.
const LOCAL_DOMAIN: &str = "cluster.local";

/// The policies that apply, by name.
pub fn policies(context: Context<'_>) -> Vec<Arc<policy::AuthorizationPolicy>> {
    let own = &context.client.meta.name.namespace;
    let namespaces =
        scope::roots().map(|root| -> &str { root }).filter(|root| **root != **own).chain([&**own]);
    let all = namespaces.flat_map(|namespace| context.world.authorization_policies.of_namespace(namespace));
    let applies =
        |p: &&Arc<AuthorizationPolicy>| !p.elsewhere && p.selector.selects(&context.client.meta.labels);
    all.filter(applies).map(|p| Arc::new(resolve(p, &context.world.mesh))).collect()
}

fn resolve(policy: &AuthorizationPolicy, mesh: &Mesh) -> policy::AuthorizationPolicy {
    let mut rules = policy.rules.clone();
    rules.iter_mut().for_each(|rule| expand_rule(rule, mesh));
    policy::AuthorizationPolicy {
        name: policy.meta.name.clone(),
        action: policy.action,
        dry_run: policy.dry_run,
        rules,
    }
}

fn expand_rule(rule: &mut Rule, mesh: &Mesh) {
    for source in &mut rule.from {
        expand(&mut source.principals, mesh);
    }
    for condition in &mut rule.when {
        if let Condition::SourcePrincipal(values) = condition {
            expand(values, mesh);
        }
    }
}

fn expand(values: &mut ValueMatch<Wildcard>, mesh: &Mesh) {
    values.values = values.values.iter().flat_map(|value| in_every_domain(value, mesh)).collect();
    values.not_values = values.not_values.iter().flat_map(|value| in_every_domain(value, mesh)).collect();
}

/// A principal in the mesh's own domain means it in every alias of that domain too.
fn in_every_domain(value: &Wildcard, mesh: &Mesh) -> Vec<Wildcard> {
    let text = value.to_string();
    let Some((domain, rest)) = text.split_once('/') else { return vec![value.clone()] };
    let own = mesh.trust_domain.as_str();
    let alias = |name: &str| mesh.trust_domain_aliases.iter().any(|a| a.as_str() == name);
    if domain != LOCAL_DOMAIN && domain != own && !alias(domain) {
        return vec![value.clone()];
    }
    let domains = std::iter::once(own).chain(mesh.trust_domain_aliases.iter().map(|a| a.as_str()));
    domains.map(|domain| Wildcard::parse(&format!("{domain}/{rest}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::identity::TrustDomain;

    #[test]
    fn a_principal_is_meant_in_every_alias_of_its_domain() {
        let mesh = Mesh {
            trust_domain: TrustDomain::new("prod").unwrap(),
            trust_domain_aliases: vec![TrustDomain::new("old").unwrap()],
            ..Mesh::default()
        };
        let shown = |text: &str| {
            let all = in_every_domain(&Wildcard::parse(text), &mesh);
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown("cluster.local/ns/a/sa/*"), ["prod/ns/a/sa/*", "old/ns/a/sa/*"]);
        assert_eq!(shown("old/ns/a/sa/b"), ["prod/ns/a/sa/b", "old/ns/a/sa/b"]);
        assert_eq!(shown("other/ns/a/sa/b"), ["other/ns/a/sa/b"]);
        assert_eq!(shown("*/sa/b"), ["*/sa/b"]);
        assert_eq!(shown("*"), ["*"]);
    }
}
