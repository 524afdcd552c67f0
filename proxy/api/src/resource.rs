//! A resource of any type, as the model has it.

pub use weft_core::snapshot::Resource;
