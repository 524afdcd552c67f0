//! Answers that are remembered for moments, by the hash of the token: the token itself is kept nowhere.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

use super::Caller;

/// How long an accepted token is believed without asking again: a pod or an account that is deleted
/// is refused after that.
pub const ACCEPTED: Duration = Duration::from_secs(10);
/// How long a refused token is refused without asking again.
pub const REFUSED: Duration = Duration::from_secs(1);
/// The most answers that are remembered.
const ANSWERS: usize = 10_000;

/// Who a token belongs to, or why to nobody.
pub type Answer = Result<Caller, String>;

/// SHA-256 of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

/// The answers.
#[derive(Debug, Default)]
pub struct Cache {
    known: HashMap<TokenHash, (Answer, Instant)>,
}

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

impl Cache {
    /// The answer, if it is still believed.
    pub fn get(&self, token: &TokenHash, now: Instant) -> Option<&Answer> {
        self.known.get(token).filter(|(_, until)| now < *until).map(|(answer, _)| answer)
    }

    /// Remembers an answer: never longer than the token lives, where that is known.
    pub fn put(&mut self, token: TokenHash, answer: Answer, lives: Option<Duration>, now: Instant) {
        let believed = if answer.is_ok() { ACCEPTED } else { REFUSED };
        let believed = believed.min(lives.unwrap_or(Duration::MAX));
        if self.known.len() >= ANSWERS {
            self.known.retain(|_, (_, until)| now < *until);
        }
        if self.known.len() < ANSWERS && !believed.is_zero() {
            self.known.insert(token, (answer, now + believed));
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_core::model::name::ObjectName;

    use super::*;

    fn caller() -> Caller {
        let pod = ObjectName { namespace: "default".into(), name: "a".into() };
        Caller { pod, uid: Some("u".into()), service_account: "sa".into() }
    }

    #[test]
    fn d14_an_answer_is_believed_for_moments_and_never_longer_than_the_token_lives() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let [good, short, bad] = ["good", "short", "bad"].map(TokenHash::of);
        cache.put(good, Ok(caller()), None, now);
        cache.put(short, Ok(caller()), Some(Duration::from_secs(2)), now);
        cache.put(bad, Err("no".into()), None, now);
        assert!(cache.get(&TokenHash::of("other"), now).is_none());
        assert!(cache.get(&good, now).unwrap().is_ok() && cache.get(&bad, now).unwrap().is_err());
        let later = now + Duration::from_secs(2);
        assert!(cache.get(&good, later).is_some());
        assert!(cache.get(&short, later).is_none() && cache.get(&bad, later).is_none());
        assert!(cache.get(&good, now + ACCEPTED).is_none());
        cache.put(short, Ok(caller()), Some(Duration::ZERO), later);
        assert!(cache.get(&short, later).is_none());
    }

    #[test]
    fn no_flood_makes_it_grow_for_ever() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..=ANSWERS {
            cache.put(TokenHash::of(&number.to_string()), Err("no".into()), None, now);
        }
        assert_eq!(cache.known.len(), ANSWERS);
        cache.put(TokenHash::of("new"), Ok(caller()), None, now + REFUSED);
        assert_eq!(cache.known.len(), 1);
    }
}
