//! `Expect: 100-continue` (RFC 9110, section 10.1.1): the client's body is not read before the upstream says so,
//! because reading it is what makes hyper send 100 to the client.
//!
//! An upstream that answers at once is never sent the body. One that says neither 100 nor anything else within a
//! second (many servers do not know `Expect`) is sent the body all the same, as clients do after such a time. An
//! upstream over HTTP/2 is sent it at once: hyper does not show interim responses there.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Sleep;

/// How long the upstream's word is waited for.
const WAIT: Duration = Duration::from_secs(1);

const OPEN: u8 = 1;
const DENIED: u8 = 2;

/// The upstream's word, to be given.
#[derive(Clone, Debug, Default)]
pub struct Permission(Arc<Word>);

#[derive(Debug, Default)]
struct Word {
    said: AtomicU8,
    waker: AtomicWaker,
}

/// The upstream's word, to be waited for.
#[derive(Debug)]
pub struct Permitted {
    permission: Permission,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Permission {
    /// The body is wanted.
    pub fn give(&self) {
        self.say(OPEN);
    }

    /// The upstream answered without the body.
    pub fn deny(&self) {
        self.say(DENIED);
    }

    /// Waits for the word.
    pub fn wait(&self) -> Permitted {
        Permitted { permission: self.clone(), timer: None }
    }

    fn say(&self, word: u8) {
        // The first word counts.
        if self.0.said.compare_exchange(0, word, Relaxed, Relaxed).is_ok() {
            self.0.waker.wake();
        }
    }
}

impl Permitted {
    /// The permission that is waited for.
    pub fn permission(&self) -> &Permission {
        &self.permission
    }

    /// Ready with whether the body may be read.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.permission.0.waker.register(cx.waker());
        match self.permission.0.said.load(Relaxed) {
            OPEN => return Poll::Ready(true),
            DENIED => return Poll::Ready(false),
            _ => {}
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(WAIT)));
        timer.as_mut().poll(cx).map(|()| true)
    }
}
