//! What an agent reports: one record a container, sent whole whenever something in it changed.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::up::agent::Report;
use crate::up::api::ContainerState;
use crate::up::plan::{PodPlan, SIDECAR};
use crate::up::wire::Channel;

/// The records, and the task that sends them.
#[derive(Debug)]
pub(crate) struct Status {
    report: RefCell<Report>,
    changed: Rc<Notify>,
    sent: RefCell<Option<tokio::task::JoinHandle<()>>>,
    channel: Rc<Channel>,
}

impl Status {
    /// Nothing runs yet.
    pub(crate) fn new(plan: &PodPlan, channel: Rc<Channel>) -> Self {
        let sidecar = plan.sidecar.iter().map(|_| SIDECAR);
        let names = sidecar.chain(plan.init.iter().chain(&plan.containers).map(|c| c.name.as_str()));
        let record = |name: &str| ContainerState { name: name.to_owned(), ..ContainerState::default() };
        let containers = names.map(record).collect();
        let report = Report { phase: "Pending".into(), ready: false, reason: "starting".into(), containers };
        Self { report: RefCell::new(report), changed: Rc::default(), sent: RefCell::default(), channel }
    }

    /// Changes the record of a container, and tells the supervisor.
    pub(crate) fn container(&self, name: &str, change: impl FnOnce(&mut ContainerState)) {
        self.change(|report| {
            if let Some(record) = report.containers.iter_mut().find(|c| c.name == name) {
                change(record);
            }
        });
    }

    /// The record of a container.
    pub(crate) fn of(&self, name: &str) -> Option<ContainerState> {
        self.report.borrow().containers.iter().find(|c| c.name == name).cloned()
    }

    /// Changes phase and reason, and tells the supervisor.
    pub(crate) fn phase(&self, phase: &str, reason: &str) {
        self.change(|report| {
            report.phase = phase.to_owned();
            report.reason = reason.to_owned();
        });
    }

    /// Waits until the record of a container is as wanted.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&ContainerState) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.of(name).is_some_and(|record| wanted(&record)) {
                return;
            }
            changed.await;
        }
    }

    /// Sends what has not been sent yet.
    pub(crate) async fn flush(&self) {
        let pending = self.sent.borrow_mut().take();
        if let Some(task) = pending {
            let _ = task.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Report)) {
        let before = self.report.borrow().clone();
        change(&mut self.report.borrow_mut());
        self.report.borrow_mut().settle();
        if *self.report.borrow() != before {
            self.changed.notify_waiters();
            self.send();
        }
    }

    /// Reports go out in order, one after the other.
    fn send(&self) {
        let (report, channel) = (self.report.borrow().clone(), Rc::clone(&self.channel));
        let before = self.sent.borrow_mut().take();
        let task = tokio::task::spawn_local(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            // Without a supervisor this process is about to end.
            let _ = channel.send(&report, &[]).await;
        });
        *self.sent.borrow_mut() = Some(task);
    }
}

impl Report {
    /// Init containers that have ended well count as ready.
    fn settle(&mut self) {
        self.ready = self.phase == "Running" && self.containers.iter().all(|c| c.ready);
    }
}
