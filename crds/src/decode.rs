//! JSON to types, with the path of whatever does not fit.
//!
//! Leniency is that of the JSON form of protobuf: both spellings of a field's name (`exportTo`, `export_to`), numbers
//! as text, and `null` for "not written", which is also how the API server treats it. A field that no type
//! knows does not fail the decoding: it is named, and the caller decides.

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;
use thiserror::Error;

use crate::meta::Object;

/// A decoded value and what was odd about its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<T> {
    /// The value.
    pub value: T,
    /// Paths of fields that the type does not know, such as `spec.http[0].tiemout`.
    pub unknown: Vec<String>,
    /// Paths of fields that were written as `null`, and so count as absent.
    pub nulls: Vec<String>,
}

/// A value that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {reason}")]
pub struct DecodeError {
    /// Where, such as `spec.http[0].retries.attempts`; `.` for the whole.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// Decodes an object of one of the mesh's kinds. Fields below `metadata` and `status` are never unknown.
pub fn decode_object<S>(object: &Value) -> Result<Decoded<Object<S>>, DecodeError>
where
    S: Default + DeserializeOwned,
{
    let mut decoded: Decoded<Object<S>> = decode(object)?;
    let ours = |path: &String| !path.starts_with("metadata.") && !path.starts_with("status.");
    decoded.unknown.retain(ours);
    decoded.nulls.retain(ours);
    Ok(decoded)
}

/// Decodes any type.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<Decoded<T>, DecodeError> {
    let mut nulls = Vec::new();
    let pruned = without_nulls(value, &mut String::new(), &mut nulls);
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(pruned, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path| unknown.push(render(&path)));
    match result {
        Ok(value) => Ok(Decoded { value, unknown, nulls }),
        Err(error) => Err(DecodeError { path: track.path().to_string(), reason: error.to_string() }),
    }
}

/// A copy without the object members that are `null`, whose paths are noted.
fn without_nulls(value: &Value, at: &mut String, nulls: &mut Vec<String>) -> Value {
    match value {
        Value::Object(map) => {
            let mut kept = serde_json::Map::with_capacity(map.len());
            for (key, member) in map {
                let length = push_key(at, key);
                if member.is_null() {
                    nulls.push(at.clone());
                } else {
                    kept.insert(key.clone(), without_nulls(member, at, nulls));
                }
                at.truncate(length);
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let length = at.len();
                    at.push_str(&format!("[{index}]"));
                    let item = without_nulls(item, at, nulls);
                    at.truncate(length);
                    item
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Appends a key to a path; answers the path's length before.
fn push_key(at: &mut String, key: &str) -> usize {
    let length = at.len();
    if length > 0 {
        at.push('.');
    }
    at.push_str(key);
    length
}

fn render(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent, key } => {
            let mut text = render(parent);
            push_key(&mut text, key);
            text
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            render(parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::meta::ObjectMeta;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Spec {
        names: Vec<String>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Inner {
        count: i64,
    }

    #[test]
    fn f5_unknown_fields_are_named_with_their_path() {
        let object = json!({
            "metadata": {"name": "a", "managedFields": []},
            "spec": {"inner": {"count": 1, "cuont": 2}},
            "specc": {},
        });
        let decoded = decode_object::<Spec>(&object).expect("decodes");
        assert_eq!(decoded.unknown, ["spec.inner.cuont", "specc"]);
        assert_eq!(decoded.value.metadata, ObjectMeta { name: "a".into(), ..ObjectMeta::default() });
    }

    #[test]
    fn f5_a_wrong_type_is_an_error_with_its_path() {
        let error = decode_object::<Spec>(&json!({"spec": {"names": ["a", 1]}})).expect_err("a number");
        assert_eq!(error.path, "spec.names[1]");
        assert!(error.reason.contains("expected a string"), "{error}");
        let error = decode_object::<Spec>(&json!({"spec": {"inner": {"count": "x"}}})).expect_err("a text");
        assert_eq!(error.path, "spec.inner.count");
    }

    #[test]
    fn null_is_as_if_it_was_not_written() {
        let decoded = decode_object::<Spec>(&json!({
            "metadata": {"creationTimestamp": null, "labels": null},
            "spec": {"names": null, "inner": {"count": null}},
        }))
        .expect("decodes");
        assert_eq!(decoded.value.spec, Spec { names: vec![], inner: Some(Inner { count: 0 }) });
        assert_eq!(decoded.nulls, ["spec.names", "spec.inner.count"]);
        assert!(decode_object::<Spec>(&json!({"spec": {"names": [null]}})).is_err());
    }
}
