//! Listeners with their connections, each in a task of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use prometheus::IntCounter;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::accept::{Bound, accept_until};
use crate::context::Context;

/// Counts the connections of one direction.
#[derive(Clone)]
struct Counted {
    accepted: IntCounter,
    ended: IntCounter,
}

/// Serves the connections of one listener, each in a task of its own, until `stop`.
///
/// # Errors
/// Those of listening.
pub fn accept<F: Future<Output = ()> + 'static>(
    ctx: &Rc<Context>,
    direction: &'static str,
    socket: Bound,
    stop: impl Future<Output = ()> + 'static,
    serve: impl Fn(Rc<Context>, TcpStream, SocketAddr) -> F + 'static,
) -> io::Result<()> {
    let listener = socket.listen()?;
    let ctx = ctx.clone();
    let counted = Counted::new(&ctx, direction);
    let starved = ctx.local.telemetry.shared().metrics.connections.with_label_values(&[direction, "starved"]);
    spawn_local(async move {
        let each = |tcp, client| spawn_connection(&ctx, &counted, serve(ctx.clone(), tcp, client));
        let hear = |error: &io::Error| {
            starved.inc();
            tracing::warn!(%error, direction, "no connection can be accepted for now");
        };
        accept_until(listener, stop, each, hear).await;
    });
    Ok(())
}

/// A defect on one connection ends that connection alone.
fn spawn_connection(ctx: &Rc<Context>, counted: &Counted, serve: impl Future<Output = ()> + 'static) {
    let (ctx, counted) = (ctx.clone(), counted.clone());
    counted.accepted.inc();
    spawn_local(async move {
        if AssertUnwindSafe(serve).catch_unwind().await.is_err() {
            ctx.local.telemetry.shared().metrics.panics.inc();
        }
        counted.ended.inc();
    });
}

impl Counted {
    fn new(ctx: &Context, direction: &str) -> Self {
        let counters = &ctx.local.telemetry.shared().metrics.connections;
        Self {
            accepted: counters.with_label_values(&[direction, "accepted"]),
            ended: counters.with_label_values(&[direction, "ended"]),
        }
    }
}
