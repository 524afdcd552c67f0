//! Telemetries.

use super::Add::{Entries, Items, Length, Required, Rule, Text};
use super::{Add, Table};

const TARGET: &[Add] = &[Required(&["kind", "name"])];
const PROVIDER: &[Add] = &[Required(&["name"])];

/// Under both groups.
pub(super) const SHARED: Table = &[
    ("targetRef", TARGET),
    ("targetRefs[]", TARGET),
    ("tracing[].providers[]", PROVIDER),
    ("metrics[].providers[]", PROVIDER),
    ("accessLogging[].providers[]", PROVIDER),
];

/// Under our own group.
pub(super) const OURS: Table = &[
    (
        "",
        &[Rule(
            "!has(self.selector) || !has(self.targetRef) && (!has(self.targetRefs) || size(self.targetRefs) == 0)",
            "targetRefs stand without selector, which says the same in another way",
        )],
    ),
    ("selector.matchLabels", &[Entries(64)]),
    ("selector.matchLabels.*", &[Length(63)]),
    ("targetRefs", &[Items(16)]),
    ("tracing", &[Items(16)]),
    (
        "tracing[]",
        &[
            Rule(
                "!has(self.randomSamplingPercentage) || self.randomSamplingPercentage >= 0.0 && self.randomSamplingPercentage <= 100.0",
                "randomSamplingPercentage is a percentage, from 0 to 100",
            ),
            Rule(
                "!has(self.providers) || size(self.providers) <= 1",
                "several providers are written; spans go to one",
            ),
        ],
    ),
    ("tracing[].providers", &[Items(4)]),
    ("tracing[].providers[].name", &[Text(256)]),
    ("tracing[].customTags", &[Entries(64)]),
    (
        "tracing[].customTags.*",
        &[Rule(
            "[has(self.literal), has(self.environment), has(self.header), has(self.formatter)].filter(x, x).size() == 1",
            "write one of literal, environment, header",
        )],
    ),
    ("tracing[].customTags.*.environment", &[Required(&["name"])]),
    ("tracing[].customTags.*.header", &[Required(&["name"])]),
    ("metrics", &[Items(16)]),
    ("metrics[].providers", &[Items(4)]),
    ("metrics[].providers[].name", &[Text(256)]),
    ("metrics[].overrides", &[Items(64)]),
    ("metrics[].overrides[].tagOverrides", &[Entries(64)]),
    (
        "metrics[].overrides[].tagOverrides.*",
        &[Rule(
            "has(self.operation) && self.operation == 'REMOVE' ? !has(self.value) || self.value == '' : has(self.value) && self.value != ''",
            "value is what UPSERT writes; REMOVE has none",
        )],
    ),
    ("metrics[].overrides[].tagOverrides.*.value", &[Length(256)]),
    ("accessLogging", &[Items(16)]),
    ("accessLogging[].providers", &[Items(16)]),
    ("accessLogging[].providers[].name", &[Text(256)]),
    ("accessLogging[].filter", &[Required(&["expression"])]),
    ("accessLogging[].filter.expression", &[Text(4096)]),
];
