//! `outlierDetection`.

use weft_core::model::cluster::OutlierDetection;
use weft_crds::destination_rule::outlier::OutlierDetection as Written;
use weft_crds::scalar::Int;

use super::common;
use super::findings::Findings;

/// What an `outlierDetection` means, with Istio's defaults filled in.
pub fn detection(findings: &mut Findings, path: &str, written: &Written) -> OutlierDetection {
    let default = OutlierDetection::default();
    let mut count = |name: &str, value| {
        common::number(findings, &format!("{path}.{name}"), value, (0, i64::from(u32::MAX)))
    };
    let current = count("consecutive5xxErrors", written.consecutive_5xx_errors);
    let old = count("consecutiveErrors", written.consecutive_errors);
    let gateway = count("consecutiveGatewayErrors", written.consecutive_gateway_errors);
    let local = count("consecutiveLocalOriginFailures", written.consecutive_local_origin_failures);
    if old.is_some() {
        findings.warn(
            format!("{path}.consecutiveErrors"),
            "is the old name of consecutive5xxErrors, and is taken as it",
        );
    }
    if current.is_some() && old.is_some() {
        findings.error(
            format!("{path}.consecutiveErrors"),
            "is the old name of consecutive5xxErrors, which is written too; write one of them",
        );
    }
    if local.is_some() && !written.split_external_local_origin_errors {
        findings.error(
            format!("{path}.consecutiveLocalOriginFailures"),
            "has no meaning unless splitExternalLocalOriginErrors is true",
        );
    }
    let mut percent =
        |name: &str, value: Option<Int>| common::number(findings, &format!("{path}.{name}"), value, (0, 100));
    let max_ejection_percent = percent("maxEjectionPercent", written.max_ejection_percent);
    let min_health_percent = percent("minHealthPercent", written.min_health_percent);
    let interval = common::positive(findings, &format!("{path}.interval"), written.interval.as_ref());
    let base =
        common::positive(findings, &format!("{path}.baseEjectionTime"), written.base_ejection_time.as_ref());
    OutlierDetection {
        consecutive_5xx: current.or(old).unwrap_or(default.consecutive_5xx),
        consecutive_gateway_errors: gateway.unwrap_or(default.consecutive_gateway_errors),
        consecutive_local_origin_failures: local.unwrap_or(default.consecutive_local_origin_failures),
        split: written.split_external_local_origin_errors,
        error_codes: codes(findings, path, &written.outlier_detection_http_error_codes).into(),
        interval: interval.unwrap_or(default.interval),
        base_ejection_time: base.unwrap_or(default.base_ejection_time),
        max_ejection_percent: max_ejection_percent.unwrap_or(default.max_ejection_percent),
        min_health_percent: min_health_percent.unwrap_or(default.min_health_percent),
    }
}

fn codes(findings: &mut Findings, path: &str, written: &[Int]) -> Vec<u16> {
    let path = |i: usize| format!("{path}.outlierDetectionHttpErrorCodes[{i}]");
    let read =
        written.iter().enumerate().filter_map(|(i, code)| findings.take(&path(i), code.within(100, 599)));
    read.filter_map(|code| u16::try_from(code).ok()).collect()
}
