//! What all connections of an echo application share.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::echo::behaviour::Behaviour;
use crate::echo::control::Control;
use crate::echo::identity::Identity;

/// The application. Lives on one thread.
#[derive(Debug)]
pub struct State {
    /// Who it is.
    pub identity: Identity,
    /// Where every request goes instead of being answered here.
    pub forward_to: Option<http::Uri>,
    /// What it was told to do.
    pub control: RefCell<Control>,
    /// Until when its ports are closed.
    pub refuse: watch::Sender<Option<Instant>>,
    /// It was told to end.
    pub stop: CancellationToken,
    /// Connections now.
    pub open: Cell<u64>,
    /// Connections ever.
    pub accepted: Cell<u64>,
}

impl State {
    /// An application that was told nothing yet.
    pub fn new(identity: Identity, forward_to: Option<http::Uri>) -> Self {
        Self {
            identity,
            forward_to,
            control: RefCell::default(),
            refuse: watch::Sender::new(None),
            stop: CancellationToken::new(),
            open: Cell::new(0),
            accepted: Cell::new(0),
        }
    }

    /// Counts a request and says what the present rule wants of it.
    pub fn rule(&self) -> Option<Behaviour> {
        self.control.borrow_mut().request(Instant::now(), rand::random())
    }
}
