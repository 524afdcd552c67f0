//! The controller's own log, on standard error, with a level that can change while it runs.

use anyhow::{Context, Result, ensure};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes what is logged; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LogLevel(Option<reload::Handle<EnvFilter, Registry>>);

/// Starts the log with a filter such as `info` or `info,weft_controller::push=debug`.
///
/// # Errors
/// The text is no filter.
pub fn start(filter: &str) -> Result<LogLevel> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let ours = tracing_subscriber::registry().with(layer).with(lines).try_init().is_ok();
    Ok(LogLevel(ours.then_some(handle)))
}

impl LogLevel {
    /// Changes the filter.
    ///
    /// # Errors
    /// The text is no filter, or the log of this process is somebody else's.
    pub fn set(&self, filter: &str) -> Result<()> {
        let filter = parse(filter)?;
        let ours = self.0.as_ref().context("the log of this process is not the controller's own")?;
        ours.reload(filter).context("the log cannot be changed any more")
    }

    /// The filter in use; `None` for a log that is somebody else's.
    pub fn get(&self) -> Option<String> {
        self.0.as_ref()?.with_current(ToString::to_string).ok()
    }
}

fn parse(filter: &str) -> Result<EnvFilter> {
    let is_level = |part: &str| part.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let known = !filter.is_empty() && filter.split(',').all(|part| part.contains('=') || is_level(part));
    let short: String = filter.chars().take(200).collect();
    let wrong = || {
        format!(
            "`{short}` is no log level: give error, warn, info, debug, trace or a filter such as \
             info,weft_controller::push=debug"
        )
    };
    ensure!(known, wrong());
    EnvFilter::builder().parse(filter).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(parse("info,weft_controller::push=debug").is_ok());
        for wrong in ["", "loud", "info,loud", "a=b=c"] {
            assert!(parse(wrong).unwrap_err().to_string().contains("no log level"), "{wrong}");
        }
        assert!(LogLevel::default().set("info").is_err() && LogLevel::default().get().is_none());
    }
}
