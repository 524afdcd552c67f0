//! Where hyper's own tasks run: on the worker that owns the connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use super::cork::Cork;
use super::turn::{Turn, Watch};
use crate::io::Io;

/// Runs the streams of a client's connection on the current thread's local set, as long as the client takes their
/// responses.
#[derive(Clone, Debug)]
pub struct StreamExecutor(pub Rc<Turn>);

/// Runs a corked connection to an upstream, which is driven by a task of hyper's.
#[derive(Clone)]
pub struct CorkedExecutor(pub Cork<Io>);

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        let mut watch = Watch::new(Rc::clone(&self.0));
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| watch.drive(task.as_mut(), cx)).await;
        });
    }
}

impl<F> hyper::rt::Executor<F> for CorkedExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        let cork = self.0.clone();
        // Boxed: a task is moved several times from its making to its end, and the library's are large.
        let mut task = Box::pin(task);
        tokio::task::spawn_local(async move {
            poll_fn(|cx| cork.drive(task.as_mut(), cx)).await;
        });
    }
}
