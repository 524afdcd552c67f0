//! Explicit listeners of a Sidecar (`captureMode: NONE`): opened and closed as the workload is told anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_core::model::workload::{EgressListener, Workload};

use crate::accept::Bound;
use crate::context::Context;
use crate::listener::accept;
use crate::orig_dst::Origin;
use crate::{inbound, outbound};

/// A listener that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// What a listener is for.
#[derive(Clone, Debug, PartialEq)]
enum Purpose {
    /// The application's own traffic.
    Egress(Arc<EgressListener>),
    /// Traffic to one port of the workload.
    Ingress(SocketAddr),
}

/// A listener that is open.
struct Open {
    purpose: Rc<RefCell<Purpose>>,
    closed: CancellationToken,
}

/// Keeps the listeners as the workload says, until the worker ends.
pub(crate) async fn follow(ctx: Rc<Context>) {
    let mut changes = ctx.local.mesh.mesh().changes();
    let mut open: BTreeMap<SocketAddr, Open> = BTreeMap::new();
    let mut known: Option<Arc<Workload>> = None;
    loop {
        changes.borrow_and_update();
        let now = ctx.workload();
        let mut failed = false;
        if let Some(workload) = &now {
            if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, workload)) {
                ctx.workload_changes.grow();
            }
            failed = !update(&ctx, &mut open, wanted(workload));
            known = now;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Opens what is missing and closes what is not wanted; whether all could be done.
fn update(
    ctx: &Rc<Context>,
    open: &mut BTreeMap<SocketAddr, Open>,
    wanted: BTreeMap<SocketAddr, Purpose>,
) -> bool {
    open.retain(|at, listener| {
        let stays = wanted.get(at).is_some_and(|purpose| listener.takes(purpose));
        if !stays {
            listener.closed.cancel();
        }
        stays
    });
    let mut all = true;
    for (at, purpose) in wanted {
        let Entry::Vacant(place) = open.entry(at) else { continue };
        match listen(ctx, at, purpose) {
            Ok(listener) => drop(place.insert(listener)),
            Err(error) => {
                all = false;
                tracing::warn!(%at, %error, "a listener of the Sidecar cannot be opened; it is tried again");
            }
        }
    }
    all
}

impl Open {
    /// Whether the listener can serve this purpose; from now on it does.
    fn takes(&self, purpose: &Purpose) -> bool {
        let mut current = self.purpose.borrow_mut();
        let same_kind = matches!(
            (&*current, purpose),
            (Purpose::Egress(_), Purpose::Egress(_)) | (Purpose::Ingress(_), Purpose::Ingress(_))
        );
        if same_kind && *current != *purpose {
            *current = purpose.clone();
        }
        same_kind
    }
}

fn listen(ctx: &Rc<Context>, at: SocketAddr, purpose: Purpose) -> std::io::Result<Open> {
    let open = Open { purpose: Rc::new(RefCell::new(purpose)), closed: CancellationToken::new() };
    let socket = Bound::new(at)?;
    let (closed, drain, current) = (open.closed.clone(), ctx.local.drain.clone(), open.purpose.clone());
    let is_ingress = matches!(*open.purpose.borrow(), Purpose::Ingress(_));
    let stop = async move {
        tokio::select! {
            () = closed.cancelled() => {}
            () = drain.draining(), if is_ingress => {}
            () = drain.over() => {}
        }
    };
    let direction = if is_ingress { "inbound" } else { "outbound" };
    let serve = move |ctx, tcp, client| {
        let purpose = current.borrow().clone();
        async move {
            match purpose {
                Purpose::Egress(listener) => {
                    outbound::serve(ctx, outbound::Entry::Listener(listener), tcp, client).await;
                }
                Purpose::Ingress(to) => inbound::serve(ctx, Origin::Fixed(to), tcp, client).await,
            }
        }
    };
    accept(ctx, direction, socket, stop, serve)?;
    tracing::info!(%at, direction, "listening");
    Ok(open)
}

/// The listeners that a workload asks for.
fn wanted(workload: &Workload) -> BTreeMap<SocketAddr, Purpose> {
    let egress = workload.outbound.listeners.iter();
    let ingress = workload.inbound.ports.iter().filter_map(|port| Some((port.listener?, port.number)));
    let address = |like: IpAddr| {
        let same_family = |own: &&IpAddr| own.is_ipv4() == like.is_ipv4();
        workload.addresses.iter().find(same_family).or(workload.addresses.first()).copied()
    };
    let ingress = ingress
        .filter_map(|(at, number)| Some((at, Purpose::Ingress(SocketAddr::new(address(at.ip())?, number)))));
    let egress = egress.map(|listener| (listener.bind, Purpose::Egress(Arc::new(listener.clone()))));
    egress.chain(ingress).collect()
}
