//! What a worker's connections need beside what its requests need.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::dial::Dialer;
use crate::downstream::{Incoming, Outgoing};
use crate::drain::Shutdown;
use crate::http::version::HttpVersion;
use crate::io::Io;
use crate::local::Local;
use crate::orig_dst::Own;
use crate::pool::MeshConnect;
use crate::tls::Tls;

/// What one worker's connections need; stays on its thread.
pub struct Context {
    /// What requests need too.
    pub local: Rc<Local>,
    /// Handshakes with clients.
    pub tls: Tls,
    /// The way to the application.
    pub dialer: Dialer,
    /// The way to endpoints.
    pub connect: MeshConnect,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// What no connection may be addressed to.
    pub own: Own,
    /// Tells when the workload was told anew: its policies, its modes.
    pub workload_changes: Changes,
    /// Who serves HTTP.
    pub http: HttpServers,
}

/// Serves HTTP on a connection until it ends.
pub type ServeHttp<C> = Rc<dyn Fn(Io, HttpVersion, C) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Who serves HTTP, by direction.
#[derive(Clone)]
pub struct HttpServers {
    /// On connections of the application.
    pub outgoing: ServeHttp<Outgoing>,
    /// On connections from outside.
    pub incoming: ServeHttp<Incoming>,
}

/// A number that grows, and those who wait for it to.
#[derive(Debug, Default)]
pub struct Changes {
    count: Cell<u64>,
    grown: Notify,
}

impl Changes {
    /// The number as it is: to be read before what it stands for.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Lets it grow.
    pub fn grow(&self) {
        self.count.set(self.count.get() + 1);
        self.grown.notify_waiters();
    }

    /// Waits until it is another than `seen`, and says which.
    pub async fn after(&self, seen: u64) -> u64 {
        loop {
            let mut grown = std::pin::pin!(self.grown.notified());
            grown.as_mut().enable();
            if self.count.get() != seen {
                return self.count.get();
            }
            grown.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn e2_a_change_between_the_look_and_the_wait_is_not_missed() {
        let changes = Changes::default();
        let seen = changes.count();
        changes.grow();
        assert_eq!(changes.after(seen).await, 1);
        let mut next = Box::pin(changes.after(1));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        changes.grow();
        assert_eq!(next.await, 2);
    }
}
