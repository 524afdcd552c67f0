//! `weft demo --jaeger`: a Jaeger of this machine as a pod of the mesh, to which every sidecar sends every trace.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::up::Publish;

/// The file that asks for it.
pub const FILE: &str = "jaeger.yaml";
/// Where it runs.
pub const NAMESPACE: &str = "observability";
/// The port of its web page and of its JSON API.
pub const QUERY_PORT: u16 = 16686;
const MANIFESTS: &str = include_str!("manifests/jaeger.yaml");

/// The program `jaeger`, found on PATH.
///
/// # Errors
/// There is none, or it lies where a YAML file could not name it.
pub fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("jaeger")).find(|at| is_program(at));
    let Some(found) = found.and_then(|found| found.canonicalize().ok()) else {
        bail!(
            "--jaeger needs a program called jaeger on PATH: one of https://www.jaegertracing.io/download, \
             or `e2e/cluster/cluster build jaeger` and the folder that it names"
        );
    };
    Ok(found)
}

fn is_program(at: &Path) -> bool {
    at.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Jaeger as a pod, its Service, and the settings by which traces reach it.
///
/// # Errors
/// The program's path cannot be written into a manifest.
pub fn manifests(program: &Path) -> Result<String> {
    let text = |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::to_owned);
    let folder = text(program.parent().map(Path::as_os_str));
    let parts = folder.zip(text(program.file_name()));
    let (folder, name) = parts.with_context(|| format!("{} is no path in UTF-8", program.display()))?;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let command = quoted(&format!("/opt/jaeger/{name}"));
    Ok(MANIFESTS.replace("/opt/jaeger/PROGRAM", &command).replace("DIRECTORY", &quoted(&folder)))
}

/// Its page on this machine's loopback: on its own port, or on another where that is taken.
///
/// # Errors
/// No port is free.
pub fn publish() -> Result<Publish> {
    let free = |port| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr()?.port());
    let host_port =
        free(QUERY_PORT).or_else(|_: std::io::Error| free(0)).context("no port for Jaeger's page")?;
    Ok(Publish { host_port, namespace: NAMESPACE.into(), service: "jaeger".into(), port: QUERY_PORT })
}

/// Where to look, for people.
pub fn whereabouts(published: &Publish) -> String {
    let port = published.host_port;
    format!(
        "every trace is in Jaeger: http://127.0.0.1:{port} (as JSON: http://127.0.0.1:{port}/api/traces?service=client.default)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_name_the_program() {
        let text = manifests(Path::new("/usr/local/my bin/jaeger")).unwrap();
        assert!(text.contains("command: [\"/opt/jaeger/jaeger\"]"), "{text}");
        assert!(text.contains("hostPath: {path: \"/usr/local/my bin\"}"), "{text}");
    }
}
