//! The sidecar's own log, on standard error, with a level that can change while it runs.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogLevel(Option<reload::Handle<EnvFilter, Registry>>);

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no filter.
    #[error(
        "`{0}` is no log level: give error, warn, info, debug, trace or a filter such as info,weft_proxy::config=debug"
    )]
    Filter(String),
    /// The log was set up by somebody else (tests).
    #[error("the log of this process is not the sidecar's own, its level cannot be changed")]
    NotOurs,
}

/// Starts the log with a filter such as `info` or `info,weft_proxy::config=debug`.
pub fn start(filter: &str) -> Result<LogLevel, LogError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let ours = tracing_subscriber::registry().with(layer).with(lines).try_init().is_ok();
    Ok(LogLevel(ours.then_some(handle)))
}

impl LogLevel {
    /// A handle on a log that is not ours.
    pub fn fixed() -> Self {
        Self(None)
    }

    /// Changes the filter.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse(filter)?;
        self.0.as_ref().ok_or(LogError::NotOurs)?.reload(filter).map_err(|_| LogError::NotOurs)
    }

    /// The filter in use.
    pub fn get(&self) -> Option<String> {
        self.0.as_ref()?.with_current(ToString::to_string).ok()
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Filter(filter.chars().take(200).collect());
    let is_level = |part: &str| part.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    if filter.is_empty() || filter.split(',').any(|part| !part.contains('=') && !is_level(part)) {
        return Err(wrong());
    }
    EnvFilter::builder().parse(filter).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(parse("info").is_ok());
        assert!(parse("info,weft_proxy::config=debug").is_ok());
        assert!(["", "loud", "info,loud", "a=b=c"].iter().all(|f| parse(f).is_err()));
    }
}
