//! Tokens that the API server knows: each is shown to it by a TokenReview, with our audience.
//!
//! Only a token that is bound to a pod counts, and the caller is that pod, by name and uid. While the API server
//! cannot be asked nobody is refused: the call is unavailable, and sidecars try again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::Status;
use weft_core::model::name::ObjectName;

use super::Caller;
use super::cache::{Answer, Cache, TokenHash};
use super::claims::Claims;
use crate::metrics::Metrics;
use crate::rate::Bucket;

/// The audience of the tokens of sidecars.
pub const AUDIENCE: &str = "weft.dev";
/// How long the API server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Reviews under way at a time.
const AT_A_TIME: usize = 32;
/// Reviews at once, and a second after that.
const BURST: u32 = 1000;
const PER_SECOND: u32 = 200;

/// Reviews of tokens.
pub struct Reviews {
    api: Api<TokenReview>,
    metrics: Metrics,
    state: Mutex<State>,
    under_way: Semaphore,
}

struct State {
    cache: Cache,
    bucket: Bucket,
}

impl Reviews {
    /// Reviews by the API server of this client.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let bucket = Bucket::new(BURST, PER_SECOND, Instant::now());
        Self {
            api: Api::all(client),
            metrics,
            state: Mutex::new(State { cache: Cache::default(), bucket }),
            under_way: Semaphore::new(AT_A_TIME),
        }
    }

    /// The pod that a token belongs to.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with the reason where it belongs to none; `UNAVAILABLE` where the API server cannot be asked.
    pub async fn find(&self, token: &str) -> Result<Caller, Status> {
        let Some(claims) = Claims::read(token) else {
            return self.counted("refused", Err(refused("it is no token of a service account")));
        };
        let hash = TokenHash::of(token);
        if let Some(answer) = self.remembered(&hash)? {
            return self.counted("cached", answer.map_err(|reason| refused(&reason)));
        }
        let status = match self.review(token).await {
            Ok(status) => status,
            Err(status) => return self.counted("unavailable", Err(status)),
        };
        let answer = judge(&status).map_err(|reason| explained(&claims, reason));
        let (lives, now) = (lives(&claims, Timestamp::now()), Instant::now());
        self.with_state(|state| state.cache.put(hash, answer.clone(), lives, now));
        let result = if answer.is_ok() { "accepted" } else { "refused" };
        self.counted(result, answer.map_err(|reason| refused(&reason)))
    }

    /// The answer that is remembered; `UNAVAILABLE` where there is none and too many were asked for.
    fn remembered(&self, hash: &TokenHash) -> Result<Option<Answer>, Status> {
        let now = Instant::now();
        self.with_state(|state| match state.cache.get(hash, now) {
            Some(answer) => Ok(Some(answer.clone())),
            None if state.bucket.take(now) => Ok(None),
            None => Err(()),
        })
        .or_else(|()| self.counted("limited", Err(Status::unavailable("too many tokens at once; try again"))))
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Status> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let asked = async {
            let _permit = self.under_way.acquire().await;
            self.api.create(&PostParams::default(), &review).await
        };
        let failure = match timeout(TIMEOUT, asked).await {
            Ok(Ok(review)) => return Ok(review.status.unwrap_or_default()),
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                format!("{}; may this service account create tokenreviews?", status.message)
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {TIMEOUT:?}"),
        };
        tracing::warn!("a token cannot be reviewed: {failure}");
        Err(Status::unavailable("the API server cannot be asked whose token this is; try again"))
    }

    fn counted<T>(&self, result: &str, answer: Result<T, Status>) -> Result<T, Status> {
        self.metrics.token_reviews.with_label_values(&[result]).inc();
        answer
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

fn refused(reason: &str) -> Status {
    Status::unauthenticated(format!("the token is refused: {reason}"))
}

/// What the API server's verdict means: the pod, or why there is none.
fn judge(status: &TokenReviewStatus) -> Answer {
    if status.authenticated != Some(true) {
        let reason = status.error.as_deref().filter(|error| !error.is_empty());
        return Err(reason.unwrap_or("the API server does not know it").to_owned());
    }
    let ours = |audiences: &Vec<String>| audiences.iter().any(|audience| audience == AUDIENCE);
    if !status.audiences.as_ref().is_some_and(ours) {
        return Err(format!("it is not for the audience {AUDIENCE}"));
    }
    let user = status.user.clone().unwrap_or_default();
    let name = user.username.as_deref().unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
    let Some((namespace, account)) = account else {
        return Err(format!("it belongs to {name:?}, which is no service account"));
    };
    let (Some(pod), Some(uid)) = (extra(&user, "pod-name"), extra(&user, "pod-uid")) else {
        return Err("it is bound to no pod; project it into the pod with a serviceAccountToken volume".into());
    };
    let pod = ObjectName { namespace: namespace.into(), name: pod.into() };
    Ok(Caller { pod, uid: Some(uid.into()), service_account: account.into() })
}

fn extra<'a>(user: &'a UserInfo, key: &str) -> Option<&'a str> {
    let values = user.extra.as_ref()?.get(&format!("authentication.kubernetes.io/{key}"))?;
    values.first().map(String::as_str).filter(|value| !value.is_empty())
}

/// The API server says little of what it refuses; the token itself may say more.
fn explained(claims: &Claims, reason: String) -> String {
    let audiences = claims.aud.all();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return format!("it is for the audience {audiences:?}, and must be for {AUDIENCE:?}");
    }
    reason
}

/// How long a token has left; `None` for one that does not end.
fn lives(claims: &Claims, now: Timestamp) -> Option<Duration> {
    let left = claims.exp.saturating_sub(now.as_second());
    (claims.exp != 0).then(|| Duration::from_secs(u64::try_from(left).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(username: &str, extra: &[(&str, &str)]) -> TokenReviewStatus {
        let of = |(key, value): &(&str, &str)| {
            (format!("authentication.kubernetes.io/{key}"), vec![(*value).to_owned()])
        };
        let user = UserInfo {
            username: Some(username.to_owned()),
            extra: Some(extra.iter().map(of).collect()),
            ..UserInfo::default()
        };
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            user: Some(user),
            error: None,
        }
    }

    const POD: [(&str, &str); 2] = [("pod-name", "web-0"), ("pod-uid", "42")];
    const ACCOUNT: &str = "system:serviceaccount:shop:web";

    #[test]
    fn the_caller_is_the_pod_that_the_token_is_bound_to() {
        let caller = judge(&accepted(ACCOUNT, &POD)).unwrap();
        assert_eq!(caller.pod.to_string(), "shop/web-0");
        assert_eq!((caller.uid.as_deref(), &*caller.service_account), (Some("42"), "web"));
    }

    #[test]
    fn d14_what_is_not_bound_to_a_pod_or_not_for_us_is_refused_and_says_why() {
        let other = TokenReviewStatus { audiences: Some(vec!["api".into()]), ..accepted(ACCOUNT, &POD) };
        let unaware = TokenReviewStatus { audiences: None, ..accepted(ACCOUNT, &POD) };
        let gone = TokenReviewStatus {
            authenticated: Some(false),
            error: Some("[invalid bearer token, service account token has been invalidated]".into()),
            ..accepted(ACCOUNT, &POD)
        };
        let cases = [
            (accepted(ACCOUNT, &[]), "bound to no pod"),
            (accepted(ACCOUNT, &POD[..1]), "bound to no pod"),
            (accepted(ACCOUNT, &[("pod-name", ""), POD[1]]), "bound to no pod"),
            (accepted("system:admin", &POD), "\"system:admin\", which is no service account"),
            (other, "not for the audience weft.dev"),
            (unaware, "not for the audience weft.dev"),
            (gone, "has been invalidated"),
            (TokenReviewStatus::default(), "does not know it"),
        ];
        for (status, expected) in cases {
            let reason = judge(&status).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn the_reason_names_the_audience_that_the_token_is_for() {
        let claims = |aud: &str| serde_json::from_str::<Claims>(&format!(r#"{{"aud":["{aud}"]}}"#)).unwrap();
        let reason = explained(&claims("https://kubernetes.default.svc"), "invalid".into());
        assert!(reason.contains("https://kubernetes.default.svc") && reason.contains("weft.dev"), "{reason}");
        assert_eq!(explained(&claims(AUDIENCE), "expired".into()), "expired");
    }

    #[test]
    fn a_token_that_has_ended_by_our_clock_is_not_remembered() {
        let claims = |exp| Claims { exp, ..Claims::default() };
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(lives(&claims(1060), now), Some(Duration::from_secs(60)));
        assert_eq!(lives(&claims(900), now), Some(Duration::ZERO));
        assert_eq!(lives(&claims(i64::MIN), now), Some(Duration::ZERO));
        assert_eq!(lives(&claims(0), now), None);
    }
}
