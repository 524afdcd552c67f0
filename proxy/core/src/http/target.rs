//! The form of a request target and whether its method may use it (RFC 9112 section 3.2).

use ::http::{Method, Uri};
use thiserror::Error;

/// What a request is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource: `/path`, or a whole URL.
    Resource,
    /// The server as a whole: `OPTIONS *`.
    Server,
    /// A tunnel: CONNECT.
    Tunnel,
}

/// Why a method with this target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// The form does not belong to the method.
    #[error("the target does not suit the method")]
    Form,
    /// CONNECT where it is not enabled.
    #[error("CONNECT is not enabled")]
    Connect,
    /// TRACE, which would show an application the fields that the mesh adds.
    #[error("TRACE is not passed on")]
    Trace,
}

impl TargetError {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            TargetError::Form => 400,
            TargetError::Connect | TargetError::Trace => 405,
        }
    }
}

/// Judges method and target together. `connect`: whether CONNECT is enabled here.
pub fn target(method: &Method, uri: &Uri, connect: bool) -> Result<Target, TargetError> {
    let tunnel = method == Method::CONNECT;
    match uri.path() {
        _ if method == Method::TRACE => Err(TargetError::Trace),
        _ if tunnel && !connect => Err(TargetError::Connect),
        "*" if method == Method::OPTIONS => Ok(Target::Server),
        // CONNECT has no path in HTTP/1 and in HTTP/2 alike.
        "" if tunnel && uri.authority().is_some() => Ok(Target::Tunnel),
        path if path.starts_with('/') && !tunnel => Ok(Target::Resource),
        _ => Err(TargetError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(method: Method, uri: &'static str, connect: bool) -> Result<Target, u16> {
        target(&method, &Uri::from_static(uri), connect).map_err(TargetError::status)
    }

    #[test]
    fn b15_forms_and_methods() {
        assert_eq!(judge(Method::OPTIONS, "*", false), Ok(Target::Server));
        assert_eq!(judge(Method::GET, "*", false), Err(400));
        assert_eq!(judge(Method::CONNECT, "a:443", false), Err(405));
        assert_eq!(judge(Method::CONNECT, "a:443", true), Ok(Target::Tunnel));
        assert_eq!(judge(Method::CONNECT, "/a", true), Err(400));
        assert_eq!(judge(Method::TRACE, "/", true), Err(405));
        assert_eq!(judge(Method::GET, "a:443", true), Err(400));
        assert_eq!(judge(Method::GET, "/a", false), Ok(Target::Resource));
        assert_eq!(judge(Method::POST, "http://a", false), Ok(Target::Resource));
    }
}
