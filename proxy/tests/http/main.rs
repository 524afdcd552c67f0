//! The request path on loopback, named after the bad inputs and faults that it must withstand.

mod bed;
mod extras;
mod floods;
mod frames;
mod framing;
mod overload;
mod protocols;
mod routing;
mod telemetry;
mod tracing;
mod upstreams;
