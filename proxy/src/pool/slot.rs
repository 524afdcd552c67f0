//! The connections to one endpoint, and the requests that wait for one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;
use weft_core::model::name::ClusterName;

use super::Inner;
use super::conn::{Connection, Http1};
use super::connect::{ConnectFault, Destination};
use super::gate::Gate;
use super::http2::Http2;
use super::lease::{Home, Lease};
use crate::http::version::HttpVersion;

/// The connections to one endpoint.
pub(super) struct Slot {
    pool: Weak<Inner>,
    /// The cluster of the endpoint.
    cluster: ClusterName,
    /// The endpoint is no longer there: nothing is kept.
    retired: Cell<bool>,
    gate: Arc<Gate>,
    version: HttpVersion,
    /// HTTP/1 connections without a request, the last used at the end.
    idle: RefCell<Vec<Http1>>,
    /// HTTP/2 connections.
    shared: RefCell<Vec<Rc<Http2>>>,
    /// Connections being made.
    connecting: Cell<usize>,
    waiting: RefCell<VecDeque<oneshot::Sender<Handed>>>,
}

/// What a request that waited gets.
pub(super) enum Handed {
    Lease(Lease),
    Failed(ConnectFault),
}

impl Home for Slot {
    fn give_back(self: Rc<Self>, connection: Http1, to: &Destination) {
        self.keep_or_drop(connection, to);
    }

    fn stream_ended(self: Rc<Self>, connection: &Rc<Http2>, to: &Destination) {
        self.room_made(connection, to);
    }
}

impl Slot {
    pub(super) fn new(pool: Weak<Inner>, to: &Destination, gate: Arc<Gate>) -> Self {
        Self {
            pool,
            cluster: to.cluster.cluster.name.clone(),
            retired: Cell::new(false),
            gate,
            version: to.version,
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: Cell::new(0),
            waiting: RefCell::default(),
        }
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Closes what is idle now, and what is in use as soon as it falls idle.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| connection.active.get() > 0);
        shared.iter().for_each(|connection| connection.draining.set(true));
    }

    pub(super) fn connections(&self) -> usize {
        self.idle.borrow().len() + self.shared.borrow().len()
    }

    /// A connection that is there.
    pub(super) fn take(self: &Rc<Self>, to: &Destination) -> Option<Lease> {
        match self.version {
            HttpVersion::Http1 => {
                let mut idle = self.idle.borrow_mut();
                loop {
                    let connection = idle.pop()?;
                    if connection.is_free() {
                        return Some(Lease::http1(self.clone(), to.clone(), connection));
                    }
                }
            }
            HttpVersion::Http2 => {
                let mut shared = self.shared.borrow_mut();
                let place = shared.iter().position(|connection| connection.has_room(to));
                let Some(place) = place else {
                    shared.retain(|connection| connection.is_open(to));
                    return None;
                };
                let connection = Rc::clone(&shared[place]);
                Some(Lease::http2(self.clone(), to.clone(), connection))
            }
        }
    }

    /// A place at the end of the queue.
    pub(super) fn queue(&self) -> oneshot::Receiver<Handed> {
        let (hand, turn) = oneshot::channel();
        self.waiting.borrow_mut().push_back(hand);
        turn
    }

    /// Whether fewer connections are being made than those who wait need.
    pub(super) fn wants_connection(&self) -> bool {
        let waiting = self.waiting.borrow().iter().filter(|turn| !turn.is_closed()).count();
        match self.version {
            HttpVersion::Http1 => self.connecting.get() < waiting,
            HttpVersion::Http2 => self.connecting.get() == 0 && waiting > 0,
        }
    }

    /// One more, or one less, is being made.
    pub(super) fn connecting(&self, change: isize) {
        self.connecting.set(self.connecting.get().saturating_add_signed(change));
    }

    /// A new connection is there.
    pub(super) fn connected(self: &Rc<Self>, connection: Connection, to: &Destination) {
        match connection {
            Connection::Http1(connection) => self.keep_or_drop(connection, to),
            Connection::Http2(connection) => {
                self.shared.borrow_mut().push(Rc::clone(&connection));
                self.room_made(&connection, to);
                self.open_more(to);
            }
        }
    }

    /// No connection came. Who waits for HTTP/2 waited for this one.
    pub(super) fn failed(&self, fault: &ConnectFault) {
        let all = self.version == HttpVersion::Http2;
        while let Some(turn) = self.next_waiting() {
            // Somebody who has gone meanwhile needs no answer.
            let _ = turn.send(Handed::Failed(*fault));
            if !all {
                return;
            }
        }
    }

    /// An HTTP/1 connection has come to the end of an exchange.
    fn keep_or_drop(self: &Rc<Self>, connection: Http1, to: &Destination) {
        let most = to.cluster.cluster.connections.max_requests_per_connection;
        if connection.sender.is_closed() || most.is_some_and(|most| connection.served >= most) {
            return;
        }
        if connection.is_free() {
            self.hand_on(connection, to);
        } else {
            tokio::task::spawn_local(settle(Rc::clone(self), connection, to.clone()));
        }
    }

    /// To the first who waits; else it is kept, unless another worker or endpoint needs its place.
    fn hand_on(self: &Rc<Self>, connection: Http1, to: &Destination) {
        let mut lease = Lease::http1(self.clone(), to.clone(), connection);
        while let Some(turn) = self.next_waiting() {
            match turn.send(Handed::Lease(lease)) {
                Ok(()) => return,
                Err(Handed::Lease(back)) => lease = back,
                Err(Handed::Failed(_)) => return,
            }
        }
        let Some(connection) = lease.into_idle() else { return };
        if !to.cluster.admission.is_wanted() && !self.retired.get() {
            self.keep(connection, to);
        }
    }

    fn keep(&self, mut connection: Http1, to: &Destination) {
        connection.idle_until = Instant::now() + to.cluster.cluster.connections.http_idle_timeout;
        let due = connection.idle_until;
        self.idle.borrow_mut().push(connection);
        if let Some(pool) = self.pool.upgrade() {
            pool.expire(due);
        }
    }

    /// A stream of an HTTP/2 connection has ended: the first who waits may have it.
    fn room_made(self: &Rc<Self>, connection: &Rc<Http2>, to: &Destination) {
        while !self.waiting.borrow().is_empty() && connection.has_room(to) {
            let Some(turn) = self.next_waiting() else { break };
            let lease = Lease::http2(self.clone(), to.clone(), Rc::clone(connection));
            // Who has gone meanwhile drops the lease, which gives the stream back.
            let _ = turn.send(Handed::Lease(lease));
        }
        if connection.active.get() > 0 {
            return;
        }
        if !connection.is_open(to) || to.cluster.admission.is_wanted() || self.retired.get() {
            self.shared.borrow_mut().retain(|other| !Rc::ptr_eq(other, connection));
            return;
        }
        let due = Instant::now() + to.cluster.cluster.connections.http_idle_timeout;
        connection.idle_until.set(due);
        if let Some(pool) = self.pool.upgrade() {
            pool.expire(due);
        }
    }

    fn open_more(self: &Rc<Self>, to: &Destination) {
        if let Some(pool) = self.pool.upgrade()
            && self.wants_connection()
        {
            pool.open(self, to);
        }
    }

    fn next_waiting(&self) -> Option<oneshot::Sender<Handed>> {
        loop {
            let turn = self.waiting.borrow_mut().pop_front()?;
            if !turn.is_closed() {
                return Some(turn);
            }
        }
    }

    /// Closes one connection that no request uses.
    pub(super) fn close_idle(&self) -> bool {
        if !self.idle.borrow().is_empty() {
            self.idle.borrow_mut().remove(0);
            return true;
        }
        let mut shared = self.shared.borrow_mut();
        let unused = shared.iter().position(|connection| connection.active.get() == 0);
        unused.map(|place| shared.remove(place)).is_some()
    }

    /// Closes what has been idle for too long; whether anything is left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        self.idle
            .borrow_mut()
            .retain(|connection| now < connection.idle_until && !connection.sender.is_closed());
        self.shared.borrow_mut().retain(|connection| {
            !connection.is_closed() && (connection.active.get() > 0 || now < connection.idle_until.get())
        });
        self.connections() > 0
    }

    /// When the next idle connection is to be closed.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let idle = self.idle.borrow().iter().map(|connection| connection.idle_until).min();
        let shared = self.shared.borrow();
        let unused = shared.iter().filter(|connection| connection.active.get() == 0);
        idle.into_iter().chain(unused.map(|connection| connection.idle_until.get())).min()
    }
}

/// Waits for the end of an exchange whose last bytes the connection has not seen yet.
async fn settle(slot: Rc<Slot>, mut connection: Http1, to: Destination) {
    if connection.settled().await {
        slot.hand_on(connection, &to);
    }
}
