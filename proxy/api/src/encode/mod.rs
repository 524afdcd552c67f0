//! From the model to bytes. What is encoded decodes to the same, if it is within the limits.

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

use crate::encoded::Encoded;
use crate::resource::Resource;

pub use address::address;
pub use endpoints::endpoints;
pub use service::service;
pub use workload::workload;

/// Encodes a resource of any type.
pub fn resource(resource: &Resource) -> Encoded {
    match resource {
        Resource::Workload(it) => workload(it),
        Resource::Address(it) => address(it),
        Resource::Service(it) => service(it),
        Resource::Endpoints(it) => endpoints(it),
    }
}
