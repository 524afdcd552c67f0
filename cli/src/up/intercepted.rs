//! What of a pod's traffic comes to its sidecar: what its annotations say, as the injector reads them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_proxy::redirect::Redirect;
use weft_proxy::redirect::arguments::RedirectSettings;

/// Arguments of `weft-proxy redirect`; `None` where nothing is redirected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intercepted(pub Option<Vec<String>>);

impl Default for Intercepted {
    /// All of it.
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl Intercepted {
    /// Whether what the application sends there comes to its sidecar.
    pub fn takes_outbound(&self, to: SocketAddr) -> bool {
        self.rules().is_some_and(|rules| rules.takes_outbound(to))
    }

    /// Whether what others send to this port of the pod comes to its sidecar.
    pub fn takes_inbound(&self, port: u16) -> bool {
        self.rules().is_some_and(|rules| rules.takes_inbound(port))
    }

    /// Arguments that cannot be read are a sidecar's that does not start: none of its traffic is let through.
    fn rules(&self) -> Option<Redirect> {
        RedirectSettings::read(self.0.as_ref()?).ok().map(|settings| settings.rules())
    }
}

/// Why a pod's sidecar does not see what goes to an address.
pub fn kept_away(pod: &str, to: SocketAddr) -> String {
    format!("annotations of {pod} keep {to} from its sidecar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excluded_does_not_come_to_the_sidecar() {
        let to = |port| SocketAddr::from(([10, 96, 0, 1], port));
        let some = Intercepted(Some(vec![
            "--exclude-outbound-ports=5432".to_owned(),
            "--exclude-inbound-ports=9090".to_owned(),
        ]));
        assert_eq!((some.takes_outbound(to(80)), some.takes_outbound(to(5432))), (true, false));
        assert_eq!((some.takes_inbound(8080), some.takes_inbound(9090)), (true, false));
        let (all, none) = (Intercepted::default(), Intercepted(None));
        assert!(all.takes_outbound(to(5432)) && all.takes_inbound(9090));
        assert!(!none.takes_outbound(to(80)) && !none.takes_inbound(8080));
    }
}
