//! The access log: Istio's default fields, and the reason and policy of what the mesh refused; or lines of the user's.
//!
//! Workers hand entries to a bounded queue and never wait; a thread of its own formats and writes them, so that a
//! blocked pipe or a full disk costs log lines, which are counted, and never traffic.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::IntCounter;
use weft_core::model::telemetry::{self, LogFormat, LogTarget, Sides};

use super::entry::{AccessEntry, Logs};
use super::format::Format;
use super::kinds::Kinds;
use super::labels::Reporter;
use super::line::Lines;
use super::room::Room;
use crate::settings::AccessLogFormat;

/// Entries that may wait to be written.
const QUEUE: usize = 4096;
/// How long the first entry waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// Entries that are written at a time.
const BATCH: usize = 256;
/// Settings whose formats are kept compiled: what the controller says, the sidecar's own, and those of before.
const COMPILED: usize = 4;

/// Where entries go. Its thread begins with the first of them.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

/// What the writer is told.
enum Word {
    Entry(Box<AccessEntry>),
    /// Somebody waits until all that came before is written.
    Flush(SyncSender<()>),
}

struct Inner {
    queue: OnceLock<Option<SyncSender<Word>>>,
    /// What holds where the controller says nothing: the sidecar's own setting.
    own: Arc<telemetry::Telemetry>,
    open: Box<dyn Fn() -> Outputs + Send + Sync>,
    dropped: IntCounter,
}

/// Where lines go.
struct Outputs {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
}

impl AccessLog {
    /// A log on the standard streams. `format` is what holds where the controller says nothing.
    pub fn to_streams(format: AccessLogFormat, dropped: IntCounter) -> Self {
        let open = || Outputs { stdout: Box::new(std::io::stdout()), stderr: Box::new(std::io::stderr()) };
        Self::opening(format, dropped, Box::new(open))
    }

    fn opening(
        format: AccessLogFormat,
        dropped: IntCounter,
        open: Box<dyn Fn() -> Outputs + Send + Sync>,
    ) -> Self {
        Self(Arc::new(Inner { queue: OnceLock::new(), own: Arc::new(own(format)), open, dropped }))
    }

    /// The logs of a side; `None` where nothing is logged: then no entry need be made.
    pub fn logs(&self, told: Option<&Arc<telemetry::Telemetry>>, side: Reporter) -> Option<Logs> {
        told.and_then(|told| Logs::of(told, side)).or_else(|| Logs::of(&self.0.own, side))
    }

    /// No log of a side: for entries that somebody else wants.
    pub fn none(&self, side: Reporter) -> Logs {
        Logs::none(side)
    }

    /// Hands an entry to the writer; drops and counts it when the writer is behind.
    pub fn write(&self, entry: Box<AccessEntry>) {
        let sent = self.queue().is_some_and(|queue| queue.try_send(Word::Entry(entry)).is_ok());
        if !sent {
            self.0.dropped.inc();
        }
    }

    /// Waits until what was handed over is written; not for longer than `most`, for nobody may read.
    pub fn flush(&self, most: Duration) {
        let Some(Some(queue)) = self.0.queue.get() else { return };
        let (done, written) = sync_channel(1);
        if queue.try_send(Word::Flush(done)).is_ok() {
            let _ = written.recv_timeout(most);
        }
    }

    fn queue(&self) -> Option<&SyncSender<Word>> {
        let begin = || {
            let (queue, entries) = sync_channel(QUEUE);
            let outputs = (self.0.open)();
            let thread = std::thread::Builder::new().name("access-log".to_owned());
            thread.spawn(move || write_all(&entries, outputs)).ok().map(|_| queue)
        };
        self.0.queue.get_or_init(begin).as_ref()
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("own", &self.0.own.access_log).finish_non_exhaustive()
    }
}

/// The sidecar's own setting as what the controller would say.
fn own(format: AccessLogFormat) -> telemetry::Telemetry {
    let log = |format| vec![telemetry::AccessLog { format, ..telemetry::AccessLog::default() }];
    let logs = match format {
        AccessLogFormat::Off => Vec::new(),
        AccessLogFormat::Json => log(LogFormat::DefaultJson),
        AccessLogFormat::Text => log(LogFormat::DefaultText),
    };
    telemetry::Telemetry {
        access_log: Sides { client: logs.clone(), server: logs },
        ..telemetry::Telemetry::default()
    }
}

fn write_all(words: &Receiver<Word>, mut outputs: Outputs) {
    let mut lines = Pending::default();
    while let Ok(first) = words.recv() {
        // What comes in the meantime goes out with it: workers wake nobody, and one call writes many lines.
        std::thread::sleep(GATHER);
        let mut next = Some(first);
        while let Some(word) = next {
            lines.hear(word, &mut outputs);
            words.try_iter().take(BATCH).for_each(|word| lines.hear(word, &mut outputs));
            lines.emit(&mut outputs);
            next = words.try_recv().ok();
        }
    }
}

/// Lines that are not written yet.
#[derive(Default)]
struct Pending {
    compiled: Compiled,
    lines: Lines,
    stdout: Room,
    stderr: Room,
}

impl Pending {
    #[inline(always)]
    fn hear(&mut self, word: Word, outputs: &mut Outputs) {
        match word {
            Word::Entry(entry) => self.add(&entry),
            Word::Flush(done) => {
                self.emit(outputs);
                let _ = done.send(());
            }
        }
    }

    fn add(&mut self, entry: &AccessEntry) {
        let logs = entry.logs.list().iter().zip(self.compiled.formats(&entry.logs)).take(64).enumerate();
        for (_, (log, format)) in logs.filter(|(i, _)| entry.admitted & 1 << i != 0) {
            let out = if log.to == LogTarget::Stdout { &mut self.stdout } else { &mut self.stderr };
            format.write(&mut self.lines, out, entry);
        }
    }

    fn emit(&mut self, outputs: &mut Outputs) {
        emit(&mut outputs.stdout, &mut self.stdout);
        emit(&mut outputs.stderr, &mut self.stderr);
    }
}

/// The formats of the settings that were used last.
#[derive(Default)]
struct Compiled(Vec<(Arc<telemetry::Telemetry>, Sides<Vec<Kinds>>)>);

impl Compiled {
    /// The formats of a side's logs, in their order.
    fn formats(&mut self, logs: &Logs) -> &mut [Kinds] {
        let known = self.0.iter().position(|(told, _)| Arc::ptr_eq(told, &logs.told));
        let at = known.unwrap_or_else(|| self.compile(&logs.told));
        logs.side.of_mut(&mut self.0[at].1).as_mut_slice()
    }

    fn compile(&mut self, told: &Arc<telemetry::Telemetry>) -> usize {
        if self.0.len() == COMPILED {
            self.0.remove(0);
        }
        let formats = |logs: &[telemetry::AccessLog]| {
            logs.iter().map(|log| Kinds::of(Format::of(&log.format))).collect()
        };
        let Sides { client, server } = &told.access_log;
        self.0.push((Arc::clone(told), Sides { client: formats(client), server: formats(server) }));
        self.0.len() - 1
    }
}

fn emit(out: &mut dyn Write, lines: &mut Room) {
    if !lines.written().is_empty() {
        // There is nowhere to report a log that cannot be written.
        let _ = out.write_all(lines.written()).and_then(|()| out.flush());
        lines.clear();
    }
}

#[cfg(test)]
mod tests;
