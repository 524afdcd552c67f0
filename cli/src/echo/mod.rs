//! The echo application of samples and tests, which runs wherever a manifest's image is `weft/echo`.
//!
//! It speaks HTTP/1, HTTP/2, gRPC, WebSocket and plain TCP, tells what it received and who it is, passes requests on to
//! other services, and can be told to fail, stall, trickle and refuse: by each request (`behaviour`) or until told
//! otherwise (`control`). It knows nothing of the mesh.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::echo::identity::Identity;
use crate::echo::listen::{Kind, Ports};
use crate::echo::state::State;
use crate::units;

/// Who answers.
pub mod identity;
/// Length and checksum of a stream.
pub mod checksum;
/// What a request may ask for.
pub mod behaviour;
/// What the application was told to do.
pub mod control;
/// What all connections share.
pub mod state;
/// A socket that records request heads.
pub mod wire;
/// Bodies of answers.
pub mod body;
/// The gRPC service.
pub mod grpc;
/// WebSocket.
pub mod websocket;
/// Plain TCP.
pub mod tcp;
/// Passing requests on.
pub mod forward;
/// HTTP requests.
pub mod http;
/// Ports.
pub mod listen;

/// Flags of `weft echo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Ports for HTTP/1.1 and HTTP/2 (prior knowledge), gRPC and WebSocket; 8080 when no port is given at all
    #[arg(long, value_name = "PORT", env = "ECHO_HTTP", value_delimiter = ',')]
    pub http: Vec<u16>,
    /// Ports that send back whatever bytes they get
    #[arg(long, value_name = "PORT", env = "ECHO_TCP", value_delimiter = ',')]
    pub tcp: Vec<u16>,
    /// The same, on ports that greet before they read
    #[arg(long, value_name = "PORT", env = "ECHO_TCP_SERVER_FIRST", value_delimiter = ',')]
    pub tcp_server_first: Vec<u16>,
    /// Pass every HTTP request on to this URL's host, with the path it came with
    #[arg(long, value_name = "URL", env = "ECHO_FORWARD_TO")]
    pub forward_to: Option<::http::Uri>,
    /// How long connections may go on after SIGTERM
    #[arg(long, value_name = "DURATION", env = "ECHO_GRACE", default_value = "10s", value_parser = units::duration)]
    pub grace: Duration,
    /// Who answers.
    #[command(flatten)]
    pub identity: Identity,
}

/// Runs the application until SIGTERM or SIGINT.
///
/// # Errors
/// Which port cannot be had.
pub fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(args))
}

async fn serve(args: Args) -> Result<()> {
    let grace = args.grace;
    let listeners = listeners(&args)?;
    let state = Rc::new(State::new(args.identity.or_hostname(), args.forward_to));
    let ports = Ports::new(Rc::clone(&state));
    for (kind, listener) in listeners {
        let serving = ports.clone().serve(kind, listener);
        let stop = state.stop.clone();
        tokio::task::spawn_local(async move {
            if let Err(e) = serving.await {
                eprintln!("{e:#}");
                stop.cancel();
            }
        });
    }
    ended(&state).await?;
    ports.drained(grace).await;
    Ok(())
}

fn listeners(args: &Args) -> Result<Vec<(Kind, tokio::net::TcpListener)>> {
    let wanted =
        [(Kind::Http, &args.http), (Kind::Tcp, &args.tcp), (Kind::ServerFirst, &args.tcp_server_first)];
    let mut ports: Vec<_> =
        wanted.iter().flat_map(|(kind, ports)| ports.iter().map(|p| (*kind, *p))).collect();
    if ports.is_empty() {
        ports.push((Kind::Http, 8080));
    }
    ports.into_iter().map(|(kind, port)| Ok((kind, listen::bind(port)?))).collect()
}

async fn ended(state: &State) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receive SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = state.stop.cancelled() => {}
    }
    state.stop.cancel();
    Ok(())
}

#[cfg(test)]
mod tests;
