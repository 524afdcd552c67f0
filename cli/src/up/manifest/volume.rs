//! Volumes, what they are made of, and where they appear in containers.

use serde::Deserialize;

use super::Meaningless;

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Its name.
    #[serde(alias = "secretName")]
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
    /// Which keys, under which file names; all when empty.
    pub items: Vec<Item>,
    pub(crate) default_mode: Meaningless,
}

/// A key as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Item {
    /// Which key.
    pub key: String,
    /// The file's path in the volume.
    pub path: String,
    pub(crate) mode: Meaningless,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// What mounts call it.
    pub name: String,
    /// An empty directory, in memory.
    pub empty_dir: Option<Meaningless>,
    /// Files from a ConfigMap.
    pub config_map: Option<ObjectRef>,
    /// Files from a Secret.
    pub secret: Option<ObjectRef>,
    /// Files that tell of the pod itself.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<Downward>,
    /// Files from several of these.
    pub projected: Option<Projected>,
    /// A path of this machine.
    pub host_path: Option<HostPath>,
    /// Storage: an empty directory here.
    pub persistent_volume_claim: Option<Meaningless>,
}

/// Files that tell of the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Downward {
    /// The files.
    pub items: Vec<DownwardItem>,
    pub(crate) default_mode: Meaningless,
}

/// A file that tells of the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownwardItem {
    /// The file's path in the volume.
    pub path: String,
    /// What it says.
    pub field_ref: FieldRef,
    pub(crate) mode: Meaningless,
}

/// A volume of several sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Projected {
    /// Whose files are in it.
    pub sources: Vec<Source>,
    pub(crate) default_mode: Meaningless,
}

/// One of several sources of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Files from a ConfigMap.
    pub config_map: Option<ObjectRef>,
    /// Files from a Secret.
    pub secret: Option<ObjectRef>,
    /// Files that tell of the pod itself.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<Downward>,
}

/// A path of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostPath {
    /// The path.
    pub path: String,
    #[serde(rename = "type")]
    pub(crate) _type: Meaningless,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Which volume.
    pub name: String,
    /// Where.
    pub mount_path: String,
    /// A path inside the volume.
    pub sub_path: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A field of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FieldRef {
    /// `metadata.name`, `status.podIP` and so on.
    pub field_path: String,
    pub(crate) api_version: Meaningless,
}
