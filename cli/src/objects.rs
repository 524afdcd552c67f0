//! Objects of a Kubernetes API server as they are: raw JSON, looks into it, and asking for it.

use std::collections::BTreeMap;

use anyhow::Result;
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::query;

/// Objects in one answer.
const PAGE: u32 = 500;

/// A client for a context of KUBECONFIG, or the current one.
///
/// # Errors
/// There is no such context, or no cluster at all.
pub async fn client(context: Option<&str>) -> Result<Client> {
    let options = KubeConfigOptions { context: context.map(Into::into), ..KubeConfigOptions::default() };
    let config = match context {
        None => Config::infer().await?,
        Some(_) => Config::from_custom_kubeconfig(Kubeconfig::read()?, &options).await?,
    };
    Ok(Client::try_from(config)?)
}

/// One object; `None` where there is none.
///
/// # Errors
/// The API server does not answer, or refuses.
pub async fn get(client: &Client, path: &str) -> Result<Option<Value>, kube::Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// All items of a list, which is asked for page by page. What came before an error stays in `all`.
///
/// # Errors
/// The API server does not answer, or refuses.
pub async fn list(client: &Client, path: &str, all: &mut Vec<Value>) -> Result<(), kube::Error> {
    let join = if path.contains('?') { '&' } else { '?' };
    let mut more = String::new();
    loop {
        let request = Request::get(format!("{path}{join}limit={PAGE}&continue={more}")).body(Vec::new());
        let mut page: Value = client.request(request.map_err(kube::Error::HttpError)?).await?;
        more = query::encode(at(&page, "/metadata/continue"));
        if let Value::Array(items) = page["items"].take() {
            all.extend(items);
        }
        if more.is_empty() {
            return Ok(());
        }
    }
}

/// A string at a JSON pointer; empty where there is none.
pub fn at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The name of an object.
pub fn name(object: &Value) -> &str {
    at(object, "/metadata/name")
}

/// The namespace of an object.
pub fn namespace(object: &Value) -> &str {
    at(object, "/metadata/namespace")
}

/// A label of an object.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// All labels of an object.
pub fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The items at a JSON pointer.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The `status` of a condition; empty where it is not there.
pub fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let all = items(object, "/status/conditions");
    let found = all.iter().find(|condition| condition["type"] == kind);
    found.map_or(("", ""), |condition| (at(condition, "/status"), at(condition, "/message")))
}
