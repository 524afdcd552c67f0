//! One worker's connections to upstreams and to the application.
//!
//! A `Pool` belongs to its worker alone. Connections are kept by endpoint and protocol in a `slot::Slot`:
//! HTTP/1 connections that are idle, the last used first; HTTP/2 connections, shared by as many requests as the
//! upstream takes. A request that finds neither waits, first come, first served, while a task of its own connects:
//! whichever is there first serves it, the new connection or one that became free, and a request that goes away
//! spoils no connection for the others.
//!
//! Limits are those of the cluster over all workers (`weft_core::admission`). Who is denied a connection says so
//! (`gate`): a worker with an idle one closes it, and the next in the queue, on whichever worker, connects.

/// Making connections.
pub mod connect;
/// A word between workers about connections that one of them is denied.
mod gate;
/// What is known of a request that got no response.
mod send_fault;
/// Connections of HTTP/2.
mod http2;
/// Connections and what they carry.
mod conn;
/// A connection while a request has it.
mod lease;
/// The connections to one endpoint.
mod slot;

pub use connect::{Connect, ConnectFault, Destination, MeshConnect};
pub use gate::Gates;
pub use lease::Lease;
pub use send_fault::SendFault;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use weft_core::model::name::ClusterName;
use weft_core::reason::Reason;
use weft_core::transport::Transport;
use weft_core::upstream::EndpointId;

use crate::http::version::HttpVersion;
use gate::Wanted;
use slot::{Handed, Slot};

/// One worker's connections; a handle.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

pub(crate) struct Inner {
    connect: Rc<dyn Connect>,
    gates: Gates,
    slots: RefCell<HashMap<Key, Rc<Slot>, FixedState>>,
    /// The gates at which this worker listens.
    listening: RefCell<HashSet<usize, FixedState>>,
    reaper: Reaper,
}

/// What connections are kept by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    endpoint: EndpointId,
    version: HttpVersion,
    /// How an address in no list is dialled; endpoints of clusters have an identifier for each way.
    transport: Option<Transport>,
}

/// When the next idle connection is to be closed.
#[derive(Default)]
struct Reaper {
    running: Cell<bool>,
    next: Cell<Option<Instant>>,
    sooner: Notify,
}

/// Why there is no connection for a request.
#[derive(Clone, Debug)]
pub enum PoolFault {
    /// A limit was reached: nothing was dialled.
    Overflow,
    /// Dialling failed.
    Connect(ConnectFault),
}

impl PoolFault {
    /// The reason that clients, logs and metrics see.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Overflow => Reason::Overflow,
            Self::Connect(fault) => fault.reason(),
        }
    }
}

impl Pool {
    /// An empty pool that connects by `connect`; `gates` is shared by all workers.
    pub fn new(connect: Rc<dyn Connect>, gates: Gates) -> Self {
        Self(Rc::new(Inner {
            connect,
            gates,
            slots: RefCell::default(),
            listening: RefCell::default(),
            reaper: Reaper::default(),
        }))
    }

    /// A connection for one request.
    ///
    /// # Errors
    /// [`PoolFault::Overflow`] where too many wait already; otherwise why the endpoint could not be reached.
    pub async fn acquire(&self, to: &Destination) -> Result<Lease, PoolFault> {
        let slot = self.0.slot(to);
        if let Some(lease) = slot.take(to) {
            return Ok(lease);
        }
        Box::pin(self.wait(&slot, to)).await
    }

    async fn wait(&self, slot: &Rc<Slot>, to: &Destination) -> Result<Lease, PoolFault> {
        let cluster = &to.cluster.cluster;
        if cluster.connections.max_connections == Some(0) {
            return Err(PoolFault::Overflow);
        }
        let _pending = to.cluster.admission.pending(cluster).ok_or(PoolFault::Overflow)?;
        let mut turn = slot.queue();
        let mut wanted = None;
        while slot.wants_connection() && !self.0.open(slot, to) {
            // Once more after the word is out: a connection may have ended in between.
            let Some(wanted) = &wanted else {
                wanted = Some(Wanted::new(&to.cluster.admission, slot.gate()));
                continue;
            };
            self.0.give_up_idle(to);
            tokio::select! {
                biased;
                handed = &mut turn => return lease_of(handed),
                () = wanted.freed() => {}
            }
        }
        lease_of(turn.await)
    }

    /// Closes connections to endpoints that are no longer there: idle ones now, others as soon as they fall idle.
    pub fn retire(&self, is_there: impl Fn(&ClusterName, EndpointId) -> bool) {
        self.0.slots.borrow_mut().retain(|key, slot| {
            let listed = matches!(key.endpoint, EndpointId::Listed(_));
            let stays = !listed || is_there(slot.cluster(), key.endpoint);
            if !stays {
                slot.retire();
            }
            stays
        });
    }

    /// Closes connections that no request uses.
    pub fn close_idle(&self) {
        self.0.slots.borrow().values().for_each(|slot| while slot.close_idle() {});
    }

    /// How many connections are kept idle or shared: for the admin page and tests.
    pub fn connections(&self) -> usize {
        self.0.slots.borrow().values().map(|slot| slot.connections()).sum()
    }
}

fn lease_of(handed: Result<Handed, oneshot::error::RecvError>) -> Result<Lease, PoolFault> {
    match handed {
        Ok(Handed::Lease(lease)) => Ok(lease),
        Ok(Handed::Failed(fault)) => Err(PoolFault::Connect(fault)),
        // The worker ends.
        Err(_) => Err(PoolFault::Overflow),
    }
}

impl Inner {
    fn slot(self: &Rc<Self>, to: &Destination) -> Rc<Slot> {
        let key = to.key();
        if let Some(slot) = self.slots.borrow().get(&key) {
            return Rc::clone(slot);
        }
        let gate = self.gates.of(&to.cluster.admission);
        if to.cluster.cluster.connections.max_connections.is_some() {
            self.listen(&gate);
        }
        let slot = Rc::new(Slot::new(Rc::downgrade(self), to, gate));
        self.slots.borrow_mut().insert(key, Rc::clone(&slot));
        slot
    }

    /// Begins to connect, if the cluster's limit leaves room.
    fn open(self: &Rc<Self>, slot: &Rc<Slot>, to: &Destination) -> bool {
        let Some(permit) = to.cluster.admission.connection(&to.cluster.cluster) else { return false };
        let open = gate::OpenConnection::new(permit, &to.cluster.admission, slot.gate());
        slot.connecting(1);
        tokio::task::spawn_local(connect_for(Rc::clone(&self.connect), Rc::clone(slot), to.clone(), open));
        true
    }

    /// Closes an idle connection of the same cluster to another endpoint, if there is one here, and asks the other
    /// workers to.
    fn give_up_idle(&self, to: &Destination) {
        let gate = self.gates.of(&to.cluster.admission);
        if !self.close_one_idle(&gate) {
            gate.ask();
        }
    }

    fn close_one_idle(&self, gate: &Arc<gate::Gate>) -> bool {
        let slots = self.slots.borrow();
        slots.values().filter(|slot| Arc::ptr_eq(slot.gate(), gate)).any(|slot| slot.close_idle())
    }

    /// Gives up an idle connection whenever another worker is denied one.
    fn listen(self: &Rc<Self>, gate: &Arc<gate::Gate>) {
        if !self.listening.borrow_mut().insert(Arc::as_ptr(gate) as usize) {
            return;
        }
        let (pool, gate) = (Rc::downgrade(self), Arc::clone(gate));
        tokio::task::spawn_local(async move {
            loop {
                gate.asked().await;
                let Some(pool) = pool.upgrade() else { return };
                pool.close_one_idle(&gate);
            }
        });
    }

    /// A connection that fell idle is closed at `due`.
    fn expire(self: &Rc<Self>, due: Instant) {
        if self.reaper.next.get().is_none_or(|next| due < next) {
            self.reaper.next.set(Some(due));
            self.reaper.sooner.notify_one();
        }
        if !self.reaper.running.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(self)));
        }
    }

    /// Closes what is due, forgets slots without connections; when to come again.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut slots = self.slots.borrow_mut();
        slots.retain(|_, slot| slot.sweep(now) || Rc::strong_count(slot) > 1);
        slots.values().filter_map(|slot| slot.next_due()).min()
    }
}

async fn connect_for(connect: Rc<dyn Connect>, slot: Rc<Slot>, to: Destination, open: gate::OpenConnection) {
    let connected = match connect.connect(&to).await {
        Ok(io) => conn::handshake(io, &to, open).await,
        Err(fault) => Err(fault),
    };
    slot.connecting(-1);
    match connected {
        Ok(connection) => slot.connected(connection, &to),
        Err(fault) => slot.failed(&fault),
    }
}

/// Closes idle connections when their time is up.
async fn reap(pool: Weak<Inner>) {
    loop {
        let Some(this) = pool.upgrade() else { return };
        let Some(next) = this.reaper.next.get() else {
            this.reaper.running.set(false);
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                let next = this.sweep(Instant::now());
                this.reaper.next.set(next);
            }
            () = this.reaper.sooner.notified() => {}
        }
    }
}
