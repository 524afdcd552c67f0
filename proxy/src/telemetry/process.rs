//! Memory, CPU and descriptors of this process, by the names that Prometheus' clients use behind `weft_`: the
//! application's own stand beside them in one scrape.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks a second in /proc, on every Linux.
const TICKS: f64 = 100.0;

/// Appends `weft_process_*` as far as /proc tells.
pub(super) fn render(text: &mut String, now: SystemTime) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(stat) = Stat::parse(&stat) {
        put(text, "weft_process_cpu_seconds_total", "counter", stat.cpu_ticks / TICKS);
        put(text, "weft_process_resident_memory_bytes", "gauge", stat.resident_pages * page_size());
        put(text, "weft_process_virtual_memory_bytes", "gauge", stat.virtual_bytes);
        put(text, "weft_process_threads", "gauge", stat.threads);
        put(text, "weft_process_start_time_seconds", "gauge", started(&stat, now));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        put(text, "weft_process_open_fds", "gauge", open.count() as f64);
    }
    if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        put(text, "weft_process_max_fds", "gauge", soft as f64);
    }
}

struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    /// The fields after the command's name, which may hold anything, of proc_pid_stat(5).
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.trim().parse::<f64>().ok();
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

fn page_size() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as f64
}

fn started(stat: &Stat, now: SystemTime) -> f64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split(' ').next().and_then(|u| u.parse().ok()).unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    (now - uptime + stat.start_ticks / TICKS).floor()
}

fn put(text: &mut String, name: &str, kind: &str, value: f64) {
    let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_brackets_is_read() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 900 1000 25 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_ticks, stat.threads, stat.resident_pages), (200.0, 4.0, 25.0));
        assert_eq!((stat.start_ticks, stat.virtual_bytes), (900.0, 1000.0));
        assert!(Stat::parse("").is_none());
    }
}
