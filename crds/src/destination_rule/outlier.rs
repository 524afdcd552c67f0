//! When an endpoint that fails is left out for a while.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Duration, Int};

/// When an endpoint that fails is left out for a while. Each client pod judges by what it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Deprecated spelling of `consecutive5xxErrors`.
    #[serde(alias = "consecutive_errors", skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<Int>,
    /// Counts failures to connect apart from answers with an error status.
    #[serde(alias = "split_external_local_origin_errors", skip_serializing_if = "std::ops::Not::not")]
    pub split_external_local_origin_errors: bool,
    /// Failures to connect in a row before ejection, 5 by default. Only with
    /// `splitExternalLocalOriginErrors`.
    #[serde(alias = "consecutive_local_origin_failures", skip_serializing_if = "Option::is_none")]
    pub consecutive_local_origin_failures: Option<Int>,
    /// Answers 502, 503 or 504 in a row before ejection; for TCP, failed connections. Off by default and at
    /// 0.
    #[serde(alias = "consecutive_gateway_errors", skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<Int>,
    /// Answers with a 5xx status in a row before ejection; for TCP, failed connections. 5 by default, 0
    /// turns it off.
    #[serde(alias = "consecutive_5xx_errors", skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx_errors: Option<Int>,
    /// Time between sweeps that bring endpoints back, at least 1 ms; 10 s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long an endpoint is left out, times the number of its ejections; at least 1 ms, 30 s by default.
    #[serde(alias = "base_ejection_time", skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<Duration>,
    /// The greatest share of endpoints that may be left out at a time, in percent; 10 by default.
    #[serde(alias = "max_ejection_percent", skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<Int>,
    /// With a smaller share of endpoints left, in percent, ejection is ignored and all get traffic. 0, the
    /// default, never.
    #[serde(alias = "min_health_percent", skip_serializing_if = "Option::is_none")]
    pub min_health_percent: Option<Int>,
    /// Statuses from 100 to 599 that count as errors, in place of all 5xx.
    #[serde(alias = "outlier_detection_http_error_codes", skip_serializing_if = "Vec::is_empty")]
    pub outlier_detection_http_error_codes: Vec<Int>,
}
