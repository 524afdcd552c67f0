//! Which pods to make and which to end, so that a workload gets from what runs to what is wanted. Pure.

use crate::up::manifest::Template;

/// What kind of workload it is, as far as rollouts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pod by itself: one, of this very name.
    Pod,
    /// Interchangeable pods: `Deployment`, `ReplicaSet`, `DaemonSet`.
    Interchangeable,
    /// Numbered pods, `true` when they start one after the other.
    Numbered(bool),
    /// Pods that end: how many must succeed, how many run at once, how many failures are borne.
    Job(u32, u32, u32),
}

/// A workload, as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `Kind namespace/name`.
    pub key: String,
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// How many pods.
    pub replicas: u32,
    /// What they are.
    pub template: Template,
    /// Changes whenever its pods have to be replaced.
    pub revision: String,
    /// Whether its pods get a sidecar.
    pub injected: bool,
}

/// A pod, as far as rollouts are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// The revision of its workload that it was made from.
    pub revision: String,
    /// Whether it is ready.
    pub ready: bool,
    /// What became of it, once it has ended.
    pub ended: Option<bool>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a pod of this name; interchangeable pods get theirs from the caller.
    Make(Option<String>),
    /// End the pod of this name.
    End(String),
}

/// The next steps for a workload with these pods, those that are ending left out, oldest first. `held` names pods
/// that are still ending: their names are not free yet.
pub fn steps(workload: &Workload, pods: &[Seen], held: &[String]) -> Vec<Step> {
    match workload.kind {
        Kind::Pod => numbered(workload, pods, held, vec![workload.name.clone()], false),
        Kind::Numbered(ordered) => {
            let names = (0..workload.replicas).map(|n| format!("{}-{n}", workload.name)).collect();
            numbered(workload, pods, held, names, ordered)
        }
        Kind::Interchangeable => interchangeable(workload, pods),
        Kind::Job(completions, parallelism, failures) => {
            job(workload, pods, completions, parallelism, failures)
        }
    }
}

/// Whether a workload has all its pods, as wanted now and ready, and no others. A job's pods that failed count no more
/// once others have taken their places.
pub fn settled(workload: &Workload, pods: &[Seen]) -> bool {
    let replaced = |p: &&Seen| matches!(workload.kind, Kind::Job(..)) && p.ended == Some(false);
    let (failed, counted): (Vec<&Seen>, Vec<&Seen>) = pods.iter().partition(replaced);
    let fine = |p: &&Seen| (p.ready || p.ended == Some(true)) && p.revision == workload.revision;
    let gave_up = counted.is_empty() && !failed.is_empty();
    !gave_up && counted.iter().all(fine) && steps(workload, pods, &[]).is_empty()
}

/// New pods first; an old one goes when a new one that is ready takes its place.
fn interchangeable(workload: &Workload, pods: &[Seen]) -> Vec<Step> {
    let wanted = workload.replicas as usize;
    let (alive, dead): (Vec<&Seen>, Vec<&Seen>) = pods.iter().partition(|p| p.ended.is_none());
    let (new, old): (Vec<&Seen>, Vec<&Seen>) =
        alive.into_iter().partition(|p| p.revision == workload.revision);
    let mut steps: Vec<Step> = (new.len()..wanted).map(|_| Step::Make(None)).collect();
    let surplus = new.len().saturating_sub(wanted);
    // Those that are not ready go first.
    let mut by_worth = new.clone();
    by_worth.sort_by_key(|p| p.ready);
    let unneeded = by_worth.into_iter().take(surplus);
    let ready = new.iter().filter(|p| p.ready).count().min(wanted);
    let mut old = old;
    old.sort_by_key(|p| !p.ready);
    let replaced = old.into_iter().skip(wanted - ready);
    steps.extend(dead.into_iter().chain(unneeded).chain(replaced).map(|p| Step::End(p.name.clone())));
    steps
}

fn numbered(w: &Workload, pods: &[Seen], held: &[String], names: Vec<String>, ordered: bool) -> Vec<Step> {
    let mut steps: Vec<Step> =
        pods.iter().filter(|p| !names.contains(&p.name)).map(|p| Step::End(p.name.clone())).collect();
    let find = |name: &String| pods.iter().find(|p| p.name == *name);
    for name in &names {
        match find(name) {
            None if held.contains(name) => {
                if ordered {
                    return steps;
                }
            }
            None => {
                steps.push(Step::Make(Some(name.clone())));
                if ordered {
                    return steps;
                }
            }
            Some(pod) if ordered && !pod.ready && pod.revision == w.revision => return steps,
            Some(_) => {}
        }
    }
    // The last pod changes first; with order kept, one at a time.
    let outdated = names.iter().rev().filter(|n| find(n).is_some_and(|p| p.revision != w.revision));
    steps.extend(outdated.take(if ordered { 1 } else { usize::MAX }).map(|n| Step::End(n.clone())));
    steps
}

fn job(w: &Workload, pods: &[Seen], completions: u32, parallelism: u32, failures: u32) -> Vec<Step> {
    let outdated = pods.iter().filter(|p| p.revision != w.revision).map(|p| Step::End(p.name.clone()));
    let mut steps: Vec<Step> = outdated.collect();
    let count = |ended: Option<bool>| {
        let some = pods.iter().filter(|p| p.revision == w.revision && p.ended == ended);
        u32::try_from(some.count()).unwrap_or(u32::MAX)
    };
    let (running, succeeded, failed) = (count(None), count(Some(true)), count(Some(false)));
    if failed <= failures {
        let wanted = parallelism.min(completions.saturating_sub(succeeded));
        steps.extend((running..wanted).map(|_| Step::Make(None)));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(kind: Kind, replicas: u32) -> Workload {
        let (namespace, name, template) = ("default".to_owned(), "w".to_owned(), Template::default());
        Workload {
            key: String::new(),
            namespace,
            name,
            kind,
            replicas,
            template,
            revision: "2".into(),
            injected: false,
        }
    }

    fn pod(name: &str, revision: &str, ready: bool) -> Seen {
        Seen { name: name.into(), revision: revision.into(), ready, ended: None }
    }

    fn make(name: &str) -> Step {
        Step::Make(Some(name.into()))
    }

    fn end(name: &str) -> Step {
        Step::End(name.into())
    }

    #[test]
    fn new_pods_come_before_old_ones_go() {
        let w = workload(Kind::Interchangeable, 2);
        let old = [pod("a", "1", true), pod("b", "1", true)];
        assert_eq!(steps(&w, &old, &[]), [Step::Make(None), Step::Make(None)]);
        let one_ready = [&old[..], &[pod("c", "2", true), pod("d", "2", false)]].concat();
        assert_eq!(steps(&w, &one_ready, &[]), [end("b")]);
        let all_ready = [&old[..], &[pod("c", "2", true), pod("d", "2", true)]].concat();
        assert_eq!(steps(&w, &all_ready, &[]), [end("a"), end("b")]);
    }

    #[test]
    fn fewer_replicas_end_those_that_are_not_ready() {
        let w = workload(Kind::Interchangeable, 1);
        assert_eq!(steps(&w, &[pod("a", "2", true), pod("b", "2", false)], &[]), [end("b")]);
    }

    #[test]
    fn numbered_pods_start_in_order_and_change_last_first() {
        let w = workload(Kind::Numbered(true), 2);
        assert_eq!(steps(&w, &[], &[]), [make("w-0")]);
        assert_eq!(steps(&w, &[pod("w-0", "2", false)], &[]), []);
        assert_eq!(steps(&w, &[pod("w-0", "2", true)], &[]), [make("w-1")]);
        assert_eq!(steps(&w, &[pod("w-0", "1", true), pod("w-1", "1", true)], &[]), [end("w-1")]);
        assert_eq!(steps(&w, &[pod("w-0", "1", true)], &["w-1".into()]), []);
        assert_eq!(steps(&w, &[pod("w-0", "1", true), pod("w-1", "2", true)], &[]), [end("w-0")]);
    }

    #[test]
    fn a_single_pod_is_replaced_under_its_own_name() {
        let w = workload(Kind::Pod, 1);
        assert_eq!(steps(&w, &[pod("w", "1", true)], &[]), [end("w")]);
        assert_eq!(steps(&w, &[], &["w".into()]), []);
        assert_eq!(steps(&w, &[], &[]), [make("w")]);
    }

    #[test]
    fn a_job_runs_until_enough_have_succeeded_or_too_many_failed() {
        let w = workload(Kind::Job(1, 1, 0), 1);
        assert_eq!(steps(&w, &[], &[]), [Step::Make(None)]);
        let ended = |ok| Seen { ended: Some(ok), ..pod("w-a", "2", false) };
        assert_eq!(steps(&w, &[ended(true)], &[]), []);
        assert_eq!(steps(&w, &[ended(false)], &[]), []);
        assert!(settled(&w, &[ended(true)]) && !settled(&w, &[ended(false)]));
        let patient = workload(Kind::Job(1, 1, 6), 1);
        assert!(settled(&patient, &[ended(false), ended(true)]) && !settled(&patient, &[ended(false)]));
    }
}
