//! Tokens as files: `{"token", "namespace", "pod", "serviceAccount"}`, one file for each pod, `*.json`.
//!
//! Files are read again when a token is not known, and the file of a known token is read again before it is believed:
//! a file that is gone takes its token with it. Whoever writes a file should write it elsewhere and rename it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Mutex;
use weft_core::model::name::ObjectName;

use super::Caller;

/// The shortest token that is believed, in bytes.
pub const MIN_TOKEN_BYTES: usize = 16;
/// The largest token file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 10;

/// A directory of token files.
#[derive(Debug)]
pub struct TokenDirectory {
    path: PathBuf,
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    file: PathBuf,
    token: String,
    caller: Caller,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenFile {
    token: String,
    namespace: Arc<str>,
    pod: Arc<str>,
    service_account: Arc<str>,
}

impl TokenDirectory {
    /// A directory, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), known: Mutex::default() }
    }

    /// The pod that a token belongs to.
    pub async fn find(&self, token: &str) -> Option<Caller> {
        let mut known = self.known.lock().await;
        if let Some(found) = find(&known, token)
            && read(&found.file).is_some_and(|now| same(&now.token, token) && now.caller == found.caller)
        {
            return Some(found.caller.clone());
        }
        *known = read_all(&self.path);
        find(&known, token).map(|found| found.caller.clone())
    }
}

/// Looks at every token, so that the time says nothing of where one differs.
fn find<'a>(known: &'a [Known], token: &str) -> Option<&'a Known> {
    let mut found = None;
    for one in known {
        if same(&one.token, token) {
            found = Some(one);
        }
    }
    found
}

/// Whether two tokens are the same, in a time that depends on their lengths only.
fn same(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

fn read_all(directory: &Path) -> Vec<Known> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    files
        .filter(|file| file.extension().is_some_and(|it| it == "json"))
        .filter_map(|file| read(&file))
        .collect()
}

fn read(file: &Path) -> Option<Known> {
    let parsed = read_file(file);
    if let Err(error) = &parsed {
        tracing::warn!("token file {} is not heeded: {error:#}", file.display());
    }
    parsed.ok().flatten()
}

/// `None` where the file is gone.
fn read_file(file: &Path) -> anyhow::Result<Option<Known>> {
    let opened = match std::fs::File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    opened.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    let it: TokenFile = serde_json::from_str(&text)?;
    anyhow::ensure!(it.token.len() >= MIN_TOKEN_BYTES, "`token` is shorter than {MIN_TOKEN_BYTES} bytes");
    let pod = ObjectName { namespace: it.namespace, name: it.pod };
    let caller = Caller { pod, uid: None, service_account: it.service_account };
    Ok(Some(Known { file: file.to_owned(), token: it.token, caller }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const TOKEN: &str = "0123456789abcdef0123";

    fn write(dir: &TempDir, file: &str, token: &str, pod: &str) {
        let text =
            format!(r#"{{"token":"{token}","namespace":"default","pod":"{pod}","serviceAccount":"sa"}}"#);
        std::fs::write(dir.path().join(file), text).unwrap();
    }

    #[tokio::test]
    async fn a_token_means_its_pod_as_long_as_its_file_is_there() {
        let dir = TempDir::new().unwrap();
        let tokens = TokenDirectory::new(dir.path().join("later"));
        assert_eq!(tokens.find(TOKEN).await, None, "a directory that is not there yet");
        let tokens = TokenDirectory::new(dir.path());
        assert_eq!(tokens.find(TOKEN).await, None);
        write(&dir, "a.json", TOKEN, "a");
        let caller = tokens.find(TOKEN).await.unwrap();
        assert_eq!(
            (&*caller.pod.namespace, &*caller.pod.name, &*caller.service_account),
            ("default", "a", "sa")
        );
        write(&dir, "a.json", TOKEN, "b");
        assert_eq!(&*tokens.find(TOKEN).await.unwrap().pod.name, "b", "the file says otherwise now");
        std::fs::remove_file(dir.path().join("a.json")).unwrap();
        assert_eq!(tokens.find(TOKEN).await, None);
    }

    #[tokio::test]
    async fn what_is_no_token_file_is_passed_over() {
        let dir = TempDir::new().unwrap();
        write(&dir, "short.json", "", "a");
        write(&dir, "other.txt", "fedcba9876543210", "a");
        std::fs::write(dir.path().join("broken.json"), r#"{"token":"#).unwrap();
        write(&dir, "good.json", TOKEN, "a");
        let tokens = TokenDirectory::new(dir.path());
        assert_eq!(tokens.find("").await, None);
        assert_eq!(tokens.find("fedcba9876543210").await, None);
        assert_eq!(tokens.find(&TOKEN[..19]).await, None);
        assert_eq!(tokens.find(&format!("{TOKEN}x")).await, None);
        assert!(tokens.find(TOKEN).await.is_some());
    }
}
