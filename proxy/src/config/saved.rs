//! What is kept for a restart while the controller is away: the encoded resources with their versions.
//!
//! The file is a series of length-delimited `DeltaResponse`s, one for each type of resource, so that it is read by the
//! same strict decoder as the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weft_api::encoded::version_of;
use weft_api::name::{TYPES, known_type, parse, type_of};
use weft_api::pb::Message;
use weft_api::pb::config::{DeltaResponse, Resource as WireResource};
use weft_core::model::name::ResourceName;

/// One resource as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) version: Arc<str>,
    pub(super) body: Bytes,
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) as_of: u64,
    pub(super) resources: BTreeMap<ResourceName, Kept>,
}

/// A file that is none of ours, or was cut.
#[derive(Debug, thiserror::Error)]
#[error("the saved configuration is damaged: {0}")]
pub(super) struct Damaged(String);

impl Saved {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for kind in TYPES {
            let of_kind = self.resources.iter().filter(|(name, _)| type_of(name) == kind);
            let resources = of_kind.map(|(name, kept)| wire(name, kept)).collect();
            let part = DeltaResponse {
                r#type: kind.into(),
                resources,
                as_of: self.as_of,
                ..DeltaResponse::default()
            };
            part.encode_length_delimited(&mut bytes).expect("a vector grows as needed");
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut saved = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let part =
                DeltaResponse::decode_length_delimited(&mut rest).map_err(|e| Damaged(e.to_string()))?;
            let kind = known_type(part.r#type).ok_or_else(|| Damaged("an unknown type".to_owned()))?;
            saved.as_of = saved.as_of.max(part.as_of);
            for resource in part.resources {
                let name = parse(kind, &resource.name).map_err(|e| Damaged(e.to_string()))?;
                saved.resources.insert(name, checked(resource)?);
            }
        }
        Ok(saved)
    }
}

fn wire(name: &ResourceName, kept: &Kept) -> WireResource {
    WireResource { name: name.to_string(), version: kept.version.to_string(), body: kept.body.clone() }
}

fn checked(resource: WireResource) -> Result<Kept, Damaged> {
    let body = resource.body;
    match version_of(&body) == resource.version {
        true => Ok(Kept { version: resource.version.into(), body }),
        false => Err(Damaged(format!("{} is not what it was", resource.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::model::name::{AddressKey, ServiceName};

    fn saved() -> Saved {
        let names = [
            ResourceName::Workload,
            ResourceName::Address(AddressKey::new([10, 0, 0, 1].into(), 80)),
            ResourceName::Service(ServiceName::new("default", "a.default.svc.cluster.local")),
        ];
        let kept = |n: usize| {
            let body = Bytes::from(vec![n as u8; n]);
            Kept { version: version_of(&body).into(), body }
        };
        let resources = names.into_iter().enumerate().map(|(n, name)| (name, kept(n))).collect();
        Saved { as_of: 7, resources }
    }

    #[test]
    fn what_is_kept_comes_back() {
        assert_eq!(Saved::decode(&saved().encode()).unwrap(), saved());
        assert_eq!(Saved::decode(&[]).unwrap(), Saved::default());
    }

    #[test]
    fn f14_a_damaged_file_is_not_believed() {
        let whole = saved().encode();
        let cut_inside = (1..whole.len()).filter(|end| Saved::decode(&whole[..*end]).is_err()).count();
        assert!(cut_inside >= whole.len() - 4, "only an end between two parts can be missed");
        let mut flipped = whole.clone();
        *flipped.iter_mut().rfind(|byte| **byte == 2).unwrap() = 3;
        assert!(Saved::decode(&flipped).is_err());
        assert!(Saved::decode(b"not ours").is_err());
    }
}
