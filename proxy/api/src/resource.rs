//! A resource of any type, as the model has it.

use std::sync::Arc;

use weft_core::model::address::Address;
use weft_core::model::endpoint::EndpointSlice;
use weft_core::model::name::ResourceName;
use weft_core::model::service::Service;
use weft_core::model::workload::Workload;

/// A resource of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// The asking sidecar's own workload.
    Workload(Arc<Workload>),
    /// What an address means.
    Address(Arc<Address>),
    /// A service.
    Service(Arc<Service>),
    /// A slice of a service's endpoints.
    Endpoints(Arc<EndpointSlice>),
}

impl Resource {
    /// The name under which it is asked for.
    pub fn name(&self) -> ResourceName {
        match self {
            Self::Workload(_) => ResourceName::Workload,
            Self::Address(address) => ResourceName::Address(address.key),
            Self::Service(service) => ResourceName::Service(service.name.clone()),
            Self::Endpoints(slice) => ResourceName::Endpoints(slice.name.clone()),
        }
    }
}
