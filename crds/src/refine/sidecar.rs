//! Sidecars.

use super::Add::{Between, Entries, Items, Length, Range, Required, Rule};
use super::destination_rule::CONNECTION_POOL;
use super::{Add, Placed, Table};

/// Under both groups.
pub(super) fn shared() -> Vec<Placed> {
    vec![("", SHARED)]
}

/// Under our own group.
pub(super) fn ours() -> Vec<Placed> {
    vec![
        ("", OURS),
        ("inboundConnectionPool", CONNECTION_POOL),
        ("ingress[].connectionPool", CONNECTION_POOL),
    ]
}

const PORT: &[Add] = &[Range(0, 65_535)];

const SHARED: Table = &[
    ("ingress[]", &[Required(&["port"])]),
    ("ingress[].port.number", PORT),
    ("egress[]", &[Required(&["hosts"])]),
    ("egress[].port.number", PORT),
];

const OURS: Table = &[
    ("workloadSelector.labels", &[Entries(64)]),
    ("workloadSelector.labels.*", &[Length(63)]),
    ("ingress", &[Items(256)]),
    ("ingress[].port", &[Required(&["number"])]),
    ("ingress[].port.number", &[Range(1, 65_535)]),
    (
        "ingress[]",
        &[
            Rule(
                "!has(self.bind) || self.bind == '' || has(self.captureMode) && self.captureMode == 'NONE'",
                "bind has a meaning only with `captureMode: NONE`",
            ),
            Rule(
                "!has(self.captureMode) || self.captureMode != 'NONE' || has(self.defaultEndpoint)",
                "defaultEndpoint is missing; with `captureMode: NONE` write where the application listens",
            ),
        ],
    ),
    (
        "egress",
        &[
            Items(64),
            Rule(
                "self.filter(e, !has(e.port)).size() <= 1",
                "two entries have no port and so take all other traffic; write one, as the last",
            ),
            Rule(
                "self.size() == 0 || self.all(e, has(e.port)) || !has(self[self.size() - 1].port)",
                "the entry without a port takes all other traffic, and stands last",
            ),
        ],
    ),
    (
        "egress[]",
        &[Rule(
            "!has(self.captureMode) || self.captureMode != 'NONE' || has(self.port)",
            "port is missing; with `captureMode: NONE` write where the sidecar listens",
        )],
    ),
    ("egress[].port", &[Required(&["number"])]),
    ("egress[].port.number", &[Range(1, 65_535)]),
    (
        "egress[].hosts",
        &[
            Between(1, 1024),
            Rule(
                "self.all(host, host.contains('/') && !host.startsWith('/'))",
                "a host has its namespace in front: `NAMESPACE/HOST`, `*/HOST` or `./HOST`",
            ),
        ],
    ),
    ("egress[].hosts[]", &[Length(320)]),
    (
        "outboundTrafficPolicy",
        &[Rule(
            "has(self.mode)",
            "mode is missing; write ALLOW_ANY or REGISTRY_ONLY, or leave the block out",
        )],
    ),
];
