//! What the API server asks, and what it is answered: `AdmissionReview` of `admission.k8s.io/v1`. Pure.
//!
//! Objects stay raw JSON: what is newer than this program must come through, and be judged, as it was written.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::strict::Strict;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The longest warning and the longest refusal, in bytes: the API server cuts or drops what is longer.
const WARNING_BYTES: usize = 256;
const MESSAGE_BYTES: usize = 4096;
/// The most warnings of one answer.
const WARNINGS: usize = 12;

/// A question: may this object be written?
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names the question; the answer repeats it.
    pub uid: String,
    /// The object's kind.
    #[serde(default)]
    pub kind: GroupVersionKind,
    /// What is done with it.
    #[serde(default)]
    pub operation: Operation,
    /// Its name; empty where the API server is to make one.
    #[serde(default)]
    pub name: String,
    /// Its namespace; empty where its kind has none.
    #[serde(default)]
    pub namespace: String,
    /// The object as it is to be; null on deletion.
    #[serde(default)]
    pub object: Value,
    /// The object as it is; null on creation.
    #[serde(default)]
    pub old_object: Value,
}

/// A group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GroupVersionKind {
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Something else, about which there is nothing to say.
    #[default]
    #[serde(other)]
    Other,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Why the object must not be written; `None` lets it pass.
    pub denied: Option<String>,
    /// What its author should know.
    pub warnings: Vec<String>,
    /// What is changed in it: a JSON Patch (RFC 6902); null for nothing.
    pub patch: Value,
}

impl Request {
    /// Reads a question.
    ///
    /// # Errors
    /// It is none, and there is nobody to answer: why.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let Strict(review) = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        let text = |key: &str| review[key].as_str().unwrap_or_default();
        if (text("apiVersion"), text("kind")) != (API_VERSION, KIND) {
            return Err(format!("only {KIND} of {API_VERSION} is understood"));
        }
        let Value::Object(mut review) = review else { return Err("no object".to_owned()) };
        let request = review.remove("request").filter(Value::is_object).ok_or("there is no `request`")?;
        let request: Self =
            serde_json::from_value(without_nulls(request)).map_err(|error| format!("`request`: {error}"))?;
        match request.uid.is_empty() {
            true => Err("`request.uid` is missing".to_owned()),
            false => Ok(request),
        }
    }
}

/// A `null` in the frame counts as not written.
fn without_nulls(request: Value) -> Value {
    match request {
        Value::Object(map) => {
            map.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

impl Answer {
    /// Lets it pass, with what its author should know.
    pub fn allow(warnings: Vec<String>) -> Self {
        Self { warnings, ..Self::default() }
    }

    /// Refuses it.
    pub fn deny(why: impl Into<String>, warnings: Vec<String>) -> Self {
        Self { denied: Some(why.into()), warnings, ..Self::default() }
    }

    /// The answer to the question of this `uid`, as JSON.
    pub fn to_json(&self, uid: &str) -> Value {
        let mut response = json!({ "uid": uid, "allowed": self.denied.is_none() });
        if let Some(why) = &self.denied {
            let message = shortened(why, MESSAGE_BYTES);
            response["status"] =
                json!({ "status": "Failure", "reason": "Invalid", "code": 422, "message": message });
        }
        if !self.warnings.is_empty() {
            response["warnings"] = self.warnings_to_send().into();
        }
        if !self.patch.is_null() && self.denied.is_none() {
            use base64::Engine;
            let patch = base64::engine::general_purpose::STANDARD.encode(self.patch.to_string());
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch.into();
        }
        json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response })
    }

    fn warnings_to_send(&self) -> Vec<String> {
        let mut all: Vec<_> =
            self.warnings.iter().take(WARNINGS).map(|text| shortened(text, WARNING_BYTES)).collect();
        if self.warnings.len() > WARNINGS {
            all.push(format!("and {} more: `weft validate` shows all", self.warnings.len() - WARNINGS));
        }
        all
    }
}

/// The text in at most so many bytes.
fn shortened(text: &str, most: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(most - MARK.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: &Value) -> Vec<u8> {
        json!({ "apiVersion": API_VERSION, "kind": KIND, "request": request }).to_string().into_bytes()
    }

    #[test]
    fn a_question_is_read_and_its_answer_repeats_the_uid() {
        let body = review(&json!({
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "shop", "object": {"metadata": {"name": "a"}}, "oldObject": null, "dryRun": true,
            "userInfo": {"username": "somebody"}, "options": null, "name": null,
        }));
        let request = Request::read(&body).unwrap();
        assert_eq!((request.operation, request.kind.kind.as_str()), (Operation::Create, "Pod"));
        assert_eq!(request.object["metadata"]["name"], "a");
        let answer = Answer { patch: json!([{"op": "remove", "path": "/a"}]), ..Answer::default() };
        let json = answer.to_json(&request.uid);
        assert_eq!(json["response"]["uid"], "u");
        assert_eq!(json["response"]["allowed"], true);
        assert_eq!(json["response"]["patchType"], "JSONPatch");
    }

    #[test]
    fn f15_what_is_no_question_is_told_why() {
        for (body, why) in [
            (b"".to_vec(), "no JSON"),
            (b"\xff\xfe".to_vec(), "no JSON"),
            (b"[]".to_vec(), "only AdmissionReview"),
            (b"null".to_vec(), "only AdmissionReview"),
            (br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(), "no `request`"),
            (
                br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}"#
                    .to_vec(),
                "only AdmissionReview of admission.k8s.io/v1",
            ),
            (review(&json!({})), "uid"),
            (review(&json!({"uid": ""})), "uid"),
            (review(&json!({"uid": 7})), "`request`"),
            (review(&json!([])), "no `request`"),
            (review(&json!({"uid": "u", "kind": "Pod"})), "`request`"),
            (br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","uid":"v"}}"#.to_vec(), "twice"),
        ] {
            let error = Request::read(&body).unwrap_err();
            assert!(error.contains(why), "{error}: {}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn long_answers_are_cut_at_a_character() {
        let answer = Answer::deny("\u{e9}".repeat(4000), vec!["\u{e9}".repeat(400); 20]);
        let json = answer.to_json("u");
        let message = json["response"]["status"]["message"].as_str().unwrap();
        assert!(message.len() <= MESSAGE_BYTES && message.ends_with("..."));
        let warnings = json["response"]["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), WARNINGS + 1);
        assert!(warnings.iter().all(|w| w.as_str().unwrap().len() <= WARNING_BYTES));
        assert_eq!(warnings[WARNINGS], "and 8 more: `weft validate` shows all");
    }
}
