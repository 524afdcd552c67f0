//! weft-crds
