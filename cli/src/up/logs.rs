//! What containers write: kept in memory-backed files, the newest few megabytes each.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// A file that grows beyond this becomes the old one, and a new one begins.
const MAX_FILE: u64 = 4 << 20;

/// Where the log of a container is, given its pod's directory.
pub fn file(pod: &Path, container: &str) -> PathBuf {
    pod.join("logs").join(format!("{container}.log"))
}

/// Appends what comes out of a pipe to a log until nobody can write to it any more.
///
/// # Errors
/// When the file cannot be written.
pub async fn pump(from: OwnedFd, to: PathBuf) -> io::Result<()> {
    let mut from = pipe::Receiver::from_owned_fd(from)?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        append(&to, &buffer[..read])?;
    }
}

/// Appends to a log.
///
/// # Errors
/// When the file cannot be written.
pub fn append(to: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(to)?;
    file.write_all(bytes)?;
    if file.metadata()?.len() > MAX_FILE {
        std::fs::rename(to, old(to))?;
    }
    Ok(())
}

/// The last lines of a log (all that are kept when no number is given), and how far the current file was read.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn tail(log: &Path, lines: Option<usize>) -> io::Result<(String, u64)> {
    let mut bytes = read_or_nothing(&old(log))?;
    let current = read_or_nothing(log)?;
    let end = current.len() as u64;
    bytes.extend(current);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some(lines) = lines else { return Ok((text, end)) };
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    Ok((all[all.len().saturating_sub(lines)..].concat(), end))
}

/// What was appended since `position`, which moves on; begins anew when the file did.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn more(log: &Path, position: &mut u64) -> io::Result<String> {
    let Ok(mut file) = File::open(log) else { return Ok(String::new()) };
    if file.metadata()?.len() < *position {
        *position = 0;
    }
    file.seek(SeekFrom::Start(*position))?;
    let mut bytes = Vec::new();
    *position += file.read_to_end(&mut bytes)? as u64;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn old(log: &Path) -> PathBuf {
    log.with_extension("log.old")
}

fn read_or_nothing(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}
