//! AuthorizationPolicies and PeerAuthentications.

use super::Add::{Between, Entries, Items, Length, NotEmpty, Required, Rule, Text};
use super::{Add, Table};

const TARGET: &[Add] = &[Required(&["kind", "name"])];
const LABELS: &[Add] = &[
    Entries(64),
    Rule(
        "self.all(key, !self[key].contains('*'))",
        "labels are matched as they are, `*` stands for itself and is in no label",
    ),
];
const LABEL: &[Add] = &[Length(63)];
const VALUES: &[Add] = &[Items(1024)];

/// AuthorizationPolicies, under both groups.
pub(super) const POLICY_SHARED: Table = &[
    ("targetRef", TARGET),
    ("targetRefs", &[Items(16)]),
    ("targetRefs[]", TARGET),
    ("rules", &[Items(512)]),
    ("rules[].from", &[Items(512)]),
    ("rules[].to", &[Items(512)]),
    ("rules[].when[]", &[Required(&["key"])]),
];

/// AuthorizationPolicies, under our own group.
pub(super) const POLICY_OURS: Table = &[
    (
        "",
        &[
            Rule(
                "!has(self.action) || self.action != 'DENY' || has(self.rules) && size(self.rules) > 0",
                "rules are missing; a DENY without rules denies nothing. `rules: [{}]` denies everything",
            ),
            Rule(
                "!has(self.selector) || !has(self.targetRef) && (!has(self.targetRefs) || size(self.targetRefs) == 0)",
                "targetRefs stand without selector, which says the same in another way",
            ),
            Rule(
                "!has(self.action) || self.action != 'CUSTOM' || has(self.provider)",
                "provider is missing; CUSTOM asks the service that it names",
            ),
        ],
    ),
    ("selector.matchLabels", LABELS),
    ("selector.matchLabels.*", LABEL),
    ("provider", &[Required(&["name"])]),
    ("rules[].from", &[Between(1, 64)]),
    ("rules[].from[]", &[Required(&["source"])]),
    ("rules[].from[].source", SOURCE),
    ("rules[].to", &[Between(1, 64)]),
    ("rules[].to[]", &[Required(&["operation"])]),
    ("rules[].to[].operation", &[NotEmpty]),
    ("rules[].when", &[Items(64)]),
    (
        "rules[].when[]",
        &[Rule(
            "has(self.values) && size(self.values) > 0 || has(self.notValues) && size(self.notValues) > 0",
            "has neither values nor notValues",
        )],
    ),
    ("rules[].when[].key", &[Text(512)]),
    ("rules[].when[].values", VALUES),
    ("rules[].when[].notValues", VALUES),
];

const SOURCE: &[Add] = &[
    NotEmpty,
    Rule(
        "!has(self.serviceAccounts) && !has(self.notServiceAccounts) || !has(self.principals) && !has(self.namespaces)",
        "serviceAccounts stand without principals and namespaces, which say the same",
    ),
];

/// PeerAuthentications, under both groups.
pub(super) const PEERS_SHARED: Table = &[];

/// PeerAuthentications, under our own group.
pub(super) const PEERS_OURS: Table = &[
    (
        "",
        &[Rule(
            "!has(self.portLevelMtls) || size(self.portLevelMtls) == 0 || has(self.selector) && has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0",
            "portLevelMtls needs a selector: ports are those of chosen pods",
        )],
    ),
    ("selector.matchLabels", LABELS),
    ("selector.matchLabels.*", LABEL),
    (
        "portLevelMtls",
        &[
            Entries(64),
            Rule(
                "self.all(port, port.matches('^[0-9]{1,5}$') && int(port) >= 1 && int(port) <= 65535)",
                "its keys are ports, 1 to 65535",
            ),
        ],
    ),
];
