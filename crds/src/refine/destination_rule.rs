//! DestinationRules.

use super::Add::{
    AtMostOne, Duration, Entries, Items, Key, NotEmpty, Positive, Range, Required, Rule, Text, Without, Words,
};
use super::{Add, Placed, Table};

/// Where a traffic policy stands.
const POLICIES: [&str; 2] = ["trafficPolicy", "subsets[].trafficPolicy"];
/// Where the blocks of a traffic policy stand.
const BLOCKS: [&str; 4] = [
    "trafficPolicy",
    "trafficPolicy.portLevelSettings[]",
    "subsets[].trafficPolicy",
    "subsets[].trafficPolicy.portLevelSettings[]",
];

const COUNT: &[Add] = &[Range(0, 2_147_483_647)];
const PERCENT: &[Add] = &[Range(0, 100)];

/// Under both groups.
pub(super) fn shared() -> Vec<Placed> {
    std::iter::once(("", SHARED))
        .chain(POLICIES.map(|at| (at, POLICY_SHARED)))
        .chain(BLOCKS.map(|at| (at, BLOCKS_SHARED)))
        .collect()
}

/// Under our own group.
pub(super) fn ours() -> Vec<Placed> {
    std::iter::once(("", OURS))
        .chain(POLICIES.map(|at| (at, POLICY_OURS)))
        .chain(BLOCKS.map(|at| (at, BLOCKS_OURS)))
        .chain(POOLS.map(|at| (at, CONNECTION_POOL)))
        .collect()
}

/// Where a connection pool stands.
const POOLS: [&str; 4] = [
    "trafficPolicy.connectionPool",
    "trafficPolicy.portLevelSettings[].connectionPool",
    "subsets[].trafficPolicy.connectionPool",
    "subsets[].trafficPolicy.portLevelSettings[].connectionPool",
];

const SHARED: Table = &[("", &[Required(&["host"])]), ("subsets[]", &[Required(&["name"])])];

const POLICY_SHARED: Table = &[
    ("portLevelSettings[].port.number", &[Range(1, 65_535)]),
    ("tunnel", &[Required(&["targetHost", "targetPort"])]),
    ("tunnel.targetPort", &[Range(1, 65_535)]),
];

const BLOCKS_SHARED: Table = &[
    ("loadBalancer", &[AtMostOne(&["simple", "consistentHash"])]),
    (
        "loadBalancer.consistentHash",
        &[AtMostOne(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"])],
    ),
    ("loadBalancer.consistentHash.httpCookie", &[Required(&["name"])]),
    ("loadBalancer.warmup", &[Required(&["duration"])]),
    ("connectionPool.tcp.maxConnections", COUNT),
    ("connectionPool.http.http1MaxPendingRequests", COUNT),
    ("connectionPool.http.http2MaxRequests", COUNT),
    ("connectionPool.http.maxRequestsPerConnection", COUNT),
    ("connectionPool.http.maxRetries", COUNT),
    ("connectionPool.http.maxConcurrentStreams", COUNT),
    ("outlierDetection.consecutiveErrors", COUNT),
    ("outlierDetection.consecutive5xxErrors", &[Range(0, 4_294_967_295)]),
    ("outlierDetection.consecutiveGatewayErrors", &[Range(0, 4_294_967_295)]),
    ("outlierDetection.consecutiveLocalOriginFailures", &[Range(0, 4_294_967_295)]),
    ("outlierDetection.maxEjectionPercent", PERCENT),
    ("outlierDetection.minHealthPercent", PERCENT),
];

const OURS: Table = &[
    ("host", &[Text(254)]),
    (
        "exportTo",
        &[Items(64), Rule("size(self) < 2 || !('*' in self)", "`*` stands alone: it is every namespace")],
    ),
    ("exportTo[]", &[Text(63)]),
    ("workloadSelector.matchLabels", &[Entries(64)]),
    ("subsets", &[Items(256), Key("name")]),
    ("subsets[].name", &[Text(253)]),
    ("subsets[].labels", &[Entries(64)]),
];

const POLICY_OURS: Table = &[
    (
        "portLevelSettings",
        &[
            Items(32),
            Rule(
                "self.all(a, !has(a.port) || !has(a.port.number) || self.exists_one(b, has(b.port) && has(b.port.number) && b.port.number == a.port.number))",
                "a port is written twice",
            ),
        ],
    ),
    ("portLevelSettings[]", &[Required(&["port"])]),
    ("portLevelSettings[].port", &[Required(&["number"])]),
    ("tunnel.protocol", &[Words(&["CONNECT", "POST", ""])]),
    ("retryBudget.percent", PERCENT),
    ("retryBudget.minRetryConcurrency", &[Range(0, 4_294_967_295)]),
    ("retryBudget.budgetInterval", &[Duration]),
];

const BLOCKS_OURS: Table = &[
    (
        "loadBalancer",
        &[
            Without("oneOf"),
            Rule(
                "!(has(self.simple) && has(self.consistentHash))",
                "says two things; write one of simple, consistentHash",
            ),
        ],
    ),
    ("loadBalancer.localityLbSetting", &[AtMostOne(&["distribute", "failover"])]),
    ("loadBalancer.consistentHash.httpCookie.ttl", &[Duration]),
    ("loadBalancer.warmup.duration", &[Positive]),
    ("loadBalancer.warmupDurationSecs", &[Positive]),
    (
        "outlierDetection",
        &[
            Rule(
                "!has(self.consecutiveErrors) || !has(self.consecutive5xxErrors)",
                "consecutiveErrors is the old name of consecutive5xxErrors, which is written too; write one of them",
            ),
            Rule(
                "!has(self.consecutiveLocalOriginFailures) || has(self.splitExternalLocalOriginErrors) && self.splitExternalLocalOriginErrors",
                "consecutiveLocalOriginFailures has no meaning unless splitExternalLocalOriginErrors is true",
            ),
        ],
    ),
    ("outlierDetection.interval", &[Positive]),
    ("outlierDetection.baseEjectionTime", &[Positive]),
    ("outlierDetection.outlierDetectionHttpErrorCodes", &[Items(500)]),
    ("outlierDetection.outlierDetectionHttpErrorCodes[]", &[Range(100, 599)]),
    (
        "tls",
        &[
            Rule(
                "has(self.mode)",
                "mode is missing; write DISABLE for plaintext, ISTIO_MUTUAL for the mesh's mTLS, or leave the block out",
            ),
            Rule(
                "!has(self.mode) || self.mode != 'ISTIO_MUTUAL' || !has(self.clientCertificate) && !has(self.privateKey) && !has(self.caCertificates) && !has(self.credentialName)",
                "files and Secrets have no meaning with ISTIO_MUTUAL, which has the mesh's own certificate",
            ),
        ],
    ),
    ("tls.subjectAltNames", &[Items(256)]),
];

/// `connectionPool`, wherever it stands.
pub(super) const CONNECTION_POOL: Table = &[
    ("", &[Rule("has(self.tcp) || has(self.http)", "says nothing; write tcp or http")]),
    ("http", &[NotEmpty]),
    ("tcp.connectTimeout", &[Positive]),
    ("tcp.maxConnectionDuration", &[Positive]),
    ("tcp.idleTimeout", &[Duration]),
    ("tcp.tcpKeepalive.probes", &[Range(1, 127)]),
    ("tcp.tcpKeepalive.time", &[Positive]),
    ("tcp.tcpKeepalive.interval", &[Positive]),
    ("http.idleTimeout", &[Positive]),
    ("http.http2KeepAlive.interval", &[Positive]),
    ("http.http2KeepAlive.timeout", &[Positive]),
];
