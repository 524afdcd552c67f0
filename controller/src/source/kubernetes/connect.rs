//! The way to the API server.

use anyhow::{Context, Result};
use kube::{Client, Config};

/// What tells a pod of a cluster where its API server is.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// A client for the API server of the cluster around this pod, else of KUBECONFIG. Nothing is asked of it yet: one that
/// is away is waited for by whoever asks.
///
/// # Errors
/// There is neither, or the configuration is damaged.
pub async fn client() -> Result<Client> {
    let config = match std::env::var_os(IN_CLUSTER) {
        Some(_) => Config::incluster().context("--kubernetes: the configuration of the pod's cluster")?,
        None => Config::infer().await.context("--kubernetes: KUBECONFIG")?,
    };
    Client::try_from(config).context("--kubernetes: cannot make a client")
}
