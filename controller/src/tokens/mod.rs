//! Who is asking: from a bearer token to a pod.
//!
//! Every call carries `authorization: Bearer <token>`. A stream or a certificate is bound to the pod of its token, never
//! to a name that the caller claims.

/// Tokens as files, one for each pod.
pub mod directory;
/// What a token says of itself.
pub mod claims;
/// Answers that are remembered for moments.
pub mod cache;
/// Tokens that the API server knows.
pub mod review;

use std::sync::Arc;

use tonic::Status;
use tonic::metadata::MetadataMap;
use weft_core::model::name::ObjectName;

use self::directory::TokenDirectory;
use self::review::Reviews;

/// The pod that a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The pod.
    pub pod: ObjectName,
    /// Its uid, which no later pod of that name has; `None` where pods have none.
    pub uid: Option<Arc<str>>,
    /// Its service account, in the pod's namespace.
    pub service_account: Arc<str>,
}

/// Where tokens are checked.
#[derive(Debug)]
pub enum Authenticator {
    /// A directory of files, written by whoever started the pods.
    Directory(TokenDirectory),
    /// The API server.
    Review(Box<Reviews>),
}

impl Authenticator {
    /// Finds the pod of a call's token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where there is no token, or one that belongs to nobody; `UNAVAILABLE` where that cannot be told.
    pub async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let token = bearer(metadata)?;
        match self {
            Self::Directory(directory) => {
                let found = directory.find(token).await;
                found.ok_or_else(|| Status::unauthenticated("the token belongs to no pod"))
            }
            Self::Review(reviews) => reviews.find(token).await,
        }
    }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let (scheme, token) = header.and_then(|header| header.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        return Ok(token);
    }
    Err(Status::unauthenticated("`authorization: Bearer <token>` is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(value: &str) -> MetadataMap {
        let mut map = MetadataMap::new();
        map.insert("authorization", value.parse().unwrap());
        map
    }

    #[test]
    fn the_token_stands_behind_bearer() {
        assert_eq!(bearer(&metadata("Bearer abc")).unwrap(), "abc");
        assert_eq!(bearer(&metadata("bearer abc")).unwrap(), "abc");
        for bad in ["", "abc", "Bearer", "Bearer ", "Basic abc"] {
            assert!(bearer(&metadata(bad)).is_err(), "{bad:?}");
        }
        assert!(bearer(&MetadataMap::new()).is_err());
    }
}
