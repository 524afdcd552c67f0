//! How long a body may take: a time without any frame, and the end of the request's time.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::fault::Cut;

/// The timer of a body. There is none until the body first has to wait; it is set again only when it fires, not
/// with each frame, so that an idle body is cut between one and two idle times after its last frame.
#[derive(Debug, Default)]
pub struct Patience {
    idle: Option<Duration>,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    moved: bool,
}

impl Patience {
    /// `idle`: the longest time without a frame. `deadline`: when the request's time is up.
    pub fn new(idle: Option<Duration>, deadline: Option<Instant>) -> Self {
        Self { idle, deadline, timer: None, moved: false }
    }

    /// The body may stand still from now on; the deadline stays.
    pub fn relax(&mut self) {
        self.idle = None;
        self.timer = None;
    }

    /// A frame went by.
    pub fn moved(&mut self) {
        self.moved = true;
    }

    /// Ready when there is nothing more to wait for. To be polled when no frame is there.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        if self.idle.is_none() && self.deadline.is_none() {
            return Poll::Pending;
        }
        loop {
            if self.timer.is_none() {
                self.moved = false;
                self.timer = Some(Box::pin(tokio::time::sleep_until(self.due())));
            }
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Poll::Ready(Cut::Deadline);
            }
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(Cut::Idle);
            }
            self.timer = None;
        }
    }

    fn due(&self) -> Instant {
        let idle = self.idle.map(|idle| Instant::now() + idle);
        match (idle, self.deadline) {
            (Some(idle), Some(deadline)) => idle.min(deadline),
            (Some(due), None) | (None, Some(due)) => due,
            (None, None) => Instant::now(),
        }
    }
}
