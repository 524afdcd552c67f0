//! The webhooks: the API server asks whether an object may be written, and what a pod needs.
//!
//! ```text
//! accept -> TLS -> head -> body, bounded -> question -> validating | injecting -> answer
//! ```
//!
//! Whatever comes in, an answer goes out: to a question that can be read one with its `uid`, to anything else a status
//! and a reason. Failure policies, of which the chart writes the configurations:
//!
//! * **injection**: `Fail`, and only for namespaces and pods that ask for it. A pod that asked for a sidecar and got
//!   none would speak plaintext and pass every policy by; it is better not made. kube-system and the controller's own
//!   namespace are never asked about, so a cluster without a controller can always start one.
//! * **validation** of our own groups: `Fail` outside those namespaces by default, for nobody but the mesh needs these
//!   objects, and an AuthorizationPolicy that would be refused must not slip in while nobody looks; it can be set to
//!   `Ignore`, and what slips in is then told in its status, its last good version stays, and a policy denies. In the
//!   controller's own namespace and for Istio's groups it is `Ignore`: there nothing is refused that is not looked at.
//! * Five seconds to answer; updates of a status and deletions are not asked about.

/// JSON without fields that are written twice.
mod strict;
/// Questions and answers.
pub mod review;
/// What is wrong with objects of the mesh's kinds.
pub mod validating;
/// Ticks from the API server.
mod changes;
/// The certificate of the webhooks, and the authority behind it.
pub mod certificate;
/// The certificate in the API server: its Secret, and who is told to believe it.
pub mod keeper;
/// What pods need.
pub mod injecting;
/// Connections and requests.
pub mod serve;
/// What the controller answers.
pub mod judge;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::judge::Judge;
use self::keeper::{Keeper, Served};
use self::serve::Server;

/// How long questions are still answered once the controller ends: so long API servers may be sent here, by nodes that
/// have not heard of it.
const LINGER: Duration = Duration::from_secs(3);

/// Serves the webhooks until a little after it is told to stop, with the certificate that the API server keeps, once it
/// is `served`; the leader also has to [`Keeper::keep`] it.
///
/// # Errors
/// TLS cannot be set up.
pub async fn serve(
    keeper: Keeper,
    judge: Judge,
    served: Arc<Served>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let tls = TlsAcceptor::from(served.server_config()?);
    let injection = judge.injection.clone();
    let over = CancellationToken::new();
    let ending = over.clone();
    let following = tokio::spawn(async move {
        let lingering = async {
            shutdown.cancelled().await;
            sleep(LINGER).await;
            ending.cancel();
        };
        tokio::join!(keeper.follow(served), injection.follow(), lingering);
    });
    Server::new(judge).serve(listener, tls, over).await;
    following.abort();
    Ok(())
}
