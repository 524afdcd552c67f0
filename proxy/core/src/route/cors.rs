//! Which cross-origin requests a rule allows (the CORS protocol of the Fetch standard), as Envoy's filter does it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::model::extras::Cors;

/// What a rule's `corsPolicy` makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrossOrigin {
    /// Nothing: it comes from no other origin, or from one that is not allowed. It goes on, and its response says
    /// nothing of origins that the upstream does not say.
    Untold,
    /// It goes on; [`mark`] tells the browser that this origin may read the response.
    Allowed(HeaderValue),
    /// It is a preflight, and answered with these headers.
    Preflight(HeaderMap),
}

/// What a rule's `corsPolicy` makes of a request.
pub fn decide(policy: &Cors, method: &Method, headers: &HeaderMap) -> CrossOrigin {
    let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
        return CrossOrigin::Untold;
    };
    let preflight = *method == Method::OPTIONS
        && headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty());
    match (preflight, allows(policy, origin)) {
        (true, true) => CrossOrigin::Preflight(answer(policy, headers, origin)),
        (true, false) if policy.ignore_unmatched => CrossOrigin::Preflight(HeaderMap::new()),
        (false, true) => CrossOrigin::Allowed(origin.clone()),
        (_, false) => CrossOrigin::Untold,
    }
}

/// Tells the browser that an origin may read a response, in place of what the upstream said of it.
pub fn mark(policy: &Cors, origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if policy.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    put(headers, ACCESS_CONTROL_EXPOSE_HEADERS, policy.expose_headers.as_ref());
}

/// Whether an origin is one of those allowed; a condition that takes the text `*` takes all.
fn allows(policy: &Cors, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    policy.origins.iter().any(|condition| condition.matches("*") || condition.matches(origin))
}

/// What the browser may send. A list that is `*` alone is what the browser asks for: beside credentials, browsers take
/// a `*` for a name.
fn answer(policy: &Cors, asked: &HeaderMap, origin: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if policy.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    for (name, list, question) in [
        (ACCESS_CONTROL_ALLOW_METHODS, &policy.allow_methods, ACCESS_CONTROL_REQUEST_METHOD),
        (ACCESS_CONTROL_ALLOW_HEADERS, &policy.allow_headers, ACCESS_CONTROL_REQUEST_HEADERS),
    ] {
        let all = list.as_ref().is_some_and(|list| list == "*");
        put(&mut headers, name, if all { asked.get(question) } else { list.as_ref() });
    }
    put(&mut headers, ACCESS_CONTROL_MAX_AGE, policy.max_age.map(HeaderValue::from).as_ref());
    headers
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::{Pattern, StringMatch};

    fn policy(origin: StringMatch) -> Cors {
        Cors {
            origins: vec![origin],
            allow_methods: Some(HeaderValue::from_static("GET,PUT")),
            allow_headers: None,
            expose_headers: Some(HeaderValue::from_static("x-a")),
            max_age: Some(86_400),
            credentials: true,
            ignore_unmatched: false,
        }
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    const SHOP: &str = "https://shop.example";

    #[test]
    fn f3_origins_are_matched_as_they_are_written() {
        let origin = headers(&[(ORIGIN, SHOP)]);
        let decided = |m: StringMatch| decide(&policy(m), &Method::GET, &origin);
        let allowed = CrossOrigin::Allowed(HeaderValue::from_static(SHOP));
        let regex = |text: &str| StringMatch::Regex(Pattern::new(text).unwrap());
        for good in [
            StringMatch::Exact(SHOP.into()),
            StringMatch::Exact("*".into()),
            StringMatch::Prefix("https://".into()),
            regex("https://.*[.]example"),
            regex(".*"),
        ] {
            assert_eq!(decided(good.clone()), allowed, "{good}");
        }
        for bad in [StringMatch::Exact("https://other".into()), regex("shop"), regex("http://.*")] {
            assert_eq!(decided(bad.clone()), CrossOrigin::Untold, "{bad}");
        }
        let all = policy(StringMatch::Exact("*".into()));
        for none in [HeaderMap::new(), headers(&[(ORIGIN, "")])] {
            assert_eq!(
                decide(&all, &Method::GET, &none),
                CrossOrigin::Untold,
                "a request of the same origin"
            );
        }
    }

    #[test]
    fn f3_a_preflight_is_answered_where_its_origin_is_allowed() {
        let asks = headers(&[(ORIGIN, SHOP), (ACCESS_CONTROL_REQUEST_METHOD, "PUT")]);
        let mut cors = policy(StringMatch::Exact(SHOP.into()));
        let CrossOrigin::Preflight(answer) = decide(&cors, &Method::OPTIONS, &asks) else {
            panic!("answered")
        };
        assert_eq!(
            answer,
            headers(&[
                (ACCESS_CONTROL_ALLOW_ORIGIN, SHOP),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
                (ACCESS_CONTROL_ALLOW_METHODS, "GET,PUT"),
                (ACCESS_CONTROL_MAX_AGE, "86400"),
            ])
        );
        let plain = headers(&[(ORIGIN, SHOP)]);
        assert!(matches!(decide(&cors, &Method::OPTIONS, &plain), CrossOrigin::Allowed(_)), "no preflight");
        assert!(matches!(decide(&cors, &Method::PUT, &asks), CrossOrigin::Allowed(_)), "no preflight");
        cors.origins.clear();
        assert_eq!(decide(&cors, &Method::OPTIONS, &asks), CrossOrigin::Untold, "forwarded");
        cors.ignore_unmatched = true;
        assert_eq!(decide(&cors, &Method::OPTIONS, &asks), CrossOrigin::Preflight(HeaderMap::new()));
    }

    #[test]
    fn f3_a_star_is_whatever_is_asked_for() {
        let mut asks = headers(&[(ORIGIN, SHOP), (ACCESS_CONTROL_REQUEST_METHOD, "PUT")]);
        let mut cors = policy(StringMatch::Exact(SHOP.into()));
        cors.allow_methods = Some(HeaderValue::from_static("*"));
        cors.allow_headers = Some(HeaderValue::from_static("*"));
        let allowed = |cors: &Cors, asks: &HeaderMap| match decide(cors, &Method::OPTIONS, asks) {
            CrossOrigin::Preflight(answer) => [ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_HEADERS]
                .map(|name| answer.get(name).map(|value| value.to_str().unwrap().to_owned())),
            other => panic!("{other:?}"),
        };
        assert_eq!(allowed(&cors, &asks), [Some("PUT".to_owned()), None]);
        asks.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-a, x-b"));
        assert_eq!(allowed(&cors, &asks)[1].as_deref(), Some("x-a, x-b"));
        cors.allow_headers = Some(HeaderValue::from_static("*,x-c"));
        assert_eq!(allowed(&cors, &asks)[1].as_deref(), Some("*,x-c"));
    }

    #[test]
    fn f3_what_the_upstream_says_of_origins_is_replaced() {
        let mut response = headers(&[(ACCESS_CONTROL_ALLOW_ORIGIN, "*")]);
        mark(&policy(StringMatch::Exact("*".into())), HeaderValue::from_static(SHOP), &mut response);
        assert_eq!(
            response,
            headers(&[
                (ACCESS_CONTROL_ALLOW_ORIGIN, SHOP),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
                (ACCESS_CONTROL_EXPOSE_HEADERS, "x-a"),
            ])
        );
    }
}
