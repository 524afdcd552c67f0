//! Where hyper's own tasks run: on the worker that owns the connection.

use std::future::Future;

/// Runs hyper's tasks on the current thread's local set.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
