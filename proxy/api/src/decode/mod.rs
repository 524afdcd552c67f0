//! From bytes to the model, strictly: whatever is wrong, absurd, unknown or beyond `crate::limits` refuses the
//! whole resource, with the path of the field.

mod value;
mod common;
mod address;
mod endpoints;
mod cluster;
mod policy;
mod extras;
mod route;
mod service;
mod telemetry;
mod workload;

use std::sync::Arc;

use weft_core::model::name::ResourceName;

use crate::error::DecodeError;
use crate::name::type_of;
use crate::pb::config::ResourceType;
use crate::resource::Resource;

pub use address::address;
pub use endpoints::endpoints;
pub use service::service;
pub use workload::workload;

/// Decodes the resource that a name names; it must say that name of itself.
pub fn resource(name: &ResourceName, body: &[u8]) -> Result<Resource, DecodeError> {
    let resource = match type_of(name) {
        ResourceType::Address => Resource::Address(Arc::new(address(body)?)),
        ResourceType::Service => Resource::Service(Arc::new(service(body)?)),
        ResourceType::Endpoints => Resource::Endpoints(Arc::new(endpoints(body)?)),
        ResourceType::Workload | ResourceType::Unspecified => Resource::Workload(Arc::new(workload(body)?)),
    };
    let own = resource.name();
    if own == *name { Ok(resource) } else { Err(DecodeError::invalid(format!("it calls itself `{own}`"))) }
}
