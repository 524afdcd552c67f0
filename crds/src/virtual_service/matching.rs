//! The conditions of an HTTP rule.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Int;

/// Conditions on a request that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// A name for this block, appended to the rule's name in logs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path, without the query. `prefix` is a plain prefix of the text: `/foo` also matches `/foobar`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<StringMatch>,
    /// The scheme, `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<StringMatch>,
    /// The method, in capitals as it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<StringMatch>,
    /// The Host header or `:authority`, with the port if the client sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<StringMatch>,
    /// Headers by name, in any case. An empty condition asks only that the header is there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, StringMatch>,
    /// The port of the service that the client addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Int>,
    /// Only clients whose pods carry these labels get the rule.
    #[serde(alias = "source_labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub source_labels: BTreeMap<String, String>,
    /// Only these of the object's `gateways` get the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Query parameters by name. An empty condition asks only that the parameter is there.
    #[serde(alias = "query_params", skip_serializing_if = "BTreeMap::is_empty")]
    pub query_params: BTreeMap<String, StringMatch>,
    /// Compares `exact` and `prefix` of `uri` without regard to case.
    #[serde(alias = "ignore_uri_case", skip_serializing_if = "std::ops::Not::not")]
    pub ignore_uri_case: bool,
    /// Conditions on headers that must not hold. A header that is not there counts as empty text.
    #[serde(alias = "without_headers", skip_serializing_if = "BTreeMap::is_empty")]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Only clients in this namespace get the rule.
    #[serde(alias = "source_namespace", skip_serializing_if = "String::is_empty")]
    pub source_namespace: String,
    /// Names extra statistics for requests that match this block.
    #[serde(alias = "stat_prefix", skip_serializing_if = "String::is_empty")]
    pub stat_prefix: String,
}

/// A condition on a text. At most one of the fields; none asks only for presence, where that has a meaning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StringMatch {
    /// The whole text, case-sensitive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// The beginning of the text, case-sensitive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// An RE2 expression that the whole text has to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}
