//! Pieces that several kinds share.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Int;

/// Pods by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchLabels {
    /// Labels that the pods carry, all of them.
    #[serde(alias = "match_labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// A service, one of its subsets, one of its ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// The service: a full name, or a short name of the object's namespace. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// A subset that a DestinationRule of the service defines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subset: String,
    /// The port. Required where the service has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortSelector>,
}

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// The number, from 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Int>,
}

/// A share in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// From 0 to 100, in steps of 0.0001.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

/// An object that a policy is attached to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetReference {
    /// The group of its kind; empty for the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its name. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace; only the policy's own is allowed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}
