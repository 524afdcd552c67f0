//! Compiles the `.proto` files, without protoc.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut files = vec![PathBuf::from("istio/v1/auth/ca.proto")];
    for entry in std::fs::read_dir("proto/weft/config/v1")? {
        files.push(Path::new("weft/config/v1").join(entry?.file_name()));
    }
    files.sort();
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".weft.config.v1")
        .boxed(".weft.config.v1.Address.meaning.workload")
        .compile_fds(descriptors)?;
    Ok(())
}
