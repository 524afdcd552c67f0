//! What the controller answers: `/validate` from the world as it is now, `/inject` from the injection settings.

use std::sync::Arc;

use tokio::sync::watch;

use super::injecting::Injection;
use super::review::{Answer, Request};
use super::serve::Webhook;
use super::validating;
use crate::pipeline::Published;

/// What questions are judged by.
pub struct Judge {
    /// All that is known.
    pub worlds: watch::Receiver<Published>,
    /// What is put into pods.
    pub injection: Arc<Injection>,
}

impl Webhook for Judge {
    async fn answer(&self, path: &str, question: &Request) -> Option<Answer> {
        match path {
            "/validate" => {
                let world = self.worlds.borrow().world.clone();
                Some(validating::review(question, &world))
            }
            "/inject" => Some(self.injection.review(question).await),
            _ => None,
        }
    }
}
