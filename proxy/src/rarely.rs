//! A future that stands beside a busy one in the same task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Asks its future only when that has called, not whenever its task runs: a timer or a signal costs a task that is
/// woken for something else next to nothing.
#[derive(Debug)]
pub struct Rarely<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// The task that the bell wakes.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future> Rarely<F> {
    /// Has not been asked yet: the first time it is.
    pub fn new(future: F) -> Self {
        let bell = Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() };
        Self { future: Box::pin(future), bell: Arc::new(bell), task: None }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if this.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            // Before it is looked whether the bell has rung: a call between the two is not lost.
            this.bell.task.register(cx.waker());
            this.task = Some(cx.waker().clone());
        }
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.bell.rung.store(false, Ordering::Relaxed);
        // A bell that has rung no longer knows whom to wake.
        this.bell.task.register(cx.waker());
        let waker = Waker::from(Arc::clone(&this.bell));
        this.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn its_future_is_asked_when_it_calls_and_not_before() {
        let asked = Rc::new(Cell::new(0));
        let mut sleep = Box::pin(tokio::time::sleep(Duration::from_secs(5)));
        let counting = poll_fn({
            let asked = Rc::clone(&asked);
            move |cx| {
                asked.set(asked.get() + 1);
                sleep.as_mut().poll(cx)
            }
        });
        let busy = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = busy => {}
            () = Rarely::new(counting) => {}
        }
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_calls_again_and_again_is_heard_each_time() {
        let sleeps = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(51), Rarely::new(sleeps)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_the_task_that_it_moved_to() {
        let mut sleep = Rarely::new(tokio::time::sleep(Duration::from_secs(5)));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        tokio::spawn(sleep).await.unwrap();
    }
}
