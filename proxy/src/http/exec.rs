//! Where hyper's own tasks run: on the worker that owns the connection.

use std::future::{Future, poll_fn};

use super::cork::Cork;
use crate::io::Io;

/// Runs hyper's tasks on the current thread's local set.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

/// The same for a corked connection that is driven by a task of hyper's.
#[derive(Clone)]
pub struct CorkedExecutor(pub Cork<Io>);

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
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
