//! Protocols of ports, and how they are told from names.

/// What a port carries (Kubernetes `appProtocol`, or the prefix of Istio's port names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Nothing says: the first bytes decide.
    #[default]
    Auto,
    /// HTTP/1.1, or HTTP/2 by prior knowledge: always parsed as HTTP.
    Http,
    /// HTTP/2: spoken to the upstream even when the client speaks HTTP/1.1.
    Http2,
    /// gRPC: HTTP/2, with statuses of its own.
    Grpc,
    /// Opaque bytes; the server may speak first.
    Tcp,
    /// TLS of the application's own: routed by SNI, never opened.
    Tls,
    /// UDP: never intercepted.
    Udp,
}

/// Ports that carry server-first protocols and are taken as TCP when nothing says otherwise: SMTP, DNS, MySQL, MongoDB.
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// The protocol of a port: `appProtocol` decides alone where it is written, else the port name's prefix
    /// before the first `-`, else the number.
    pub fn of_port(name: Option<&str>, app_protocol: Option<&str>, number: u16) -> Self {
        if let Some(app) = app_protocol {
            return Self::of_app_protocol(app);
        }
        let named = name.and_then(|n| Self::of_word(n.split('-').next().unwrap_or(n)));
        named.unwrap_or(if WELL_KNOWN_TCP.contains(&number) { Self::Tcp } else { Self::Auto })
    }

    /// Whether the port is parsed as HTTP without looking.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    fn of_app_protocol(app: &str) -> Self {
        match app {
            "kubernetes.io/h2c" => Self::Http2,
            "kubernetes.io/ws" => Self::Http,
            "kubernetes.io/wss" => Self::Tls,
            other => Self::of_word(other).unwrap_or(Self::Auto),
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" | "grpc-web" => Self::Grpc,
            "tcp" | "mongo" | "redis" | "mysql" => Self::Tcp,
            "https" | "tls" => Self::Tls,
            "udp" => Self::Udp,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_decides_alone() {
        assert_eq!(Protocol::of_port(Some("http-web"), Some("foo"), 80), Protocol::Auto);
        assert_eq!(Protocol::of_port(Some("tcp"), Some("kubernetes.io/h2c"), 80), Protocol::Http2);
    }

    #[test]
    fn names_count_up_to_the_first_dash() {
        assert_eq!(Protocol::of_port(Some("HTTP-web"), None, 80), Protocol::Http);
        assert_eq!(Protocol::of_port(Some("http_web"), None, 80), Protocol::Auto);
        assert_eq!(Protocol::of_port(Some("grpc-web-x"), None, 80), Protocol::Grpc);
        assert_eq!(Protocol::of_port(None, None, 3306), Protocol::Tcp);
        assert_eq!(Protocol::of_port(Some("redis"), None, 6379), Protocol::Tcp);
    }
}
