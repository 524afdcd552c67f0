//! The request path on loopback, named after the bad inputs and faults that it must withstand.

mod bed;
mod framing;
mod routing;
mod upstreams;
